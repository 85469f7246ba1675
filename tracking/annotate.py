"""Make data of your own (docs/own_data.md): boxes for a video, carried from a drawn or typed box by a tracker.

  python tracking/annotate.py clip.mp4 --init 315,139,113,116
  python tracking/annotate.py clip.mp4 --init mouse --output data/mine
  python tracking/annotate.py clip.mp4 --init 315,139,113,116 120:300,150,110,120 180:none 200:90,80,100,110
  python tracking/annotate.py clip.mp4 --cvat annotations.xml --output data/mine
  python tracking/annotate.py pictures --labelme pictures --output data/mine
  python tracking/annotate.py pictures --yolo labels --output data/mine

Without --output, boxes are written next to the video (clip.txt) or into the folder of pictures (groundtruth.txt); with
it, pictures and boxes of each target into a folder of their own. `--dataset FOLDER:data/mine` tests on them.
"""

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import CommandParser, protect_source
from tracking._progress import show_progress


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("source", help="video file or folder of pictures")
    boxes = parser.add_mutually_exclusive_group(required=True)
    text = (
        "x,y,w,h in the first frame (pixels; --init=-5,3,20,20 where the first is negative), or the word mouse to draw "
    )
    text += "it; FRAME:x,y,w,h corrects a later frame (from 0), FRAME:none: cannot be seen from there on"
    boxes.add_argument("--init", nargs="+", metavar="BOX", help=text)
    boxes.add_argument("--labelme", type=Path, metavar="FOLDER", help="labelme's JSON files of these pictures")
    boxes.add_argument("--cvat", type=Path, metavar="FILE", help='XML of "CVAT for video 1.1" or "CVAT for images 1.1"')
    boxes.add_argument("--via", type=Path, metavar="FILE", help="VGG Image Annotator's CSV, JSON or project")
    boxes.add_argument("--label_studio", type=Path, metavar="FILE", help="Label Studio's JSON of this video")
    boxes.add_argument("--coco", type=Path, metavar="FILE", help="COCO's JSON for these pictures")
    boxes.add_argument("--mot", type=Path, metavar="FILE", help="MOT's gt.txt: frame (from 1), target, x, y, w, h, ...")
    boxes.add_argument("--yolo", type=Path, metavar="FOLDER", help="YOLO's text files, one per picture")
    add("--output", type=Path, metavar="FOLDER", help="folder of own data that the sequence is added to")
    add("--name", help="name of the sequence (default: the source's)")
    add("--video", type=Path, metavar="FILE", help="write a video with the boxes drawn, to look them over")
    text = "write the boxes of --init for CVAT too (import as CVAT for video 1.1; its label: --name, or target)"
    add("--save_cvat", type=Path, metavar="FILE", help=text)
    text = "write the boxes of --init for labelme too, a file per picture of the folder (label: --name, or target)"
    add("--save_labelme", type=Path, metavar="FOLDER", help=text)
    add("--overwrite", action="store_true", help="replace a box file that is there")
    add("--script", help="method of the tracker (default: the network that comes with the project)")
    add("--config", help="YAML file below experiments/<script>, without its ending")
    add("--checkpoint", type=Path, help="weights of the tracker")
    add_experiment_options(parser)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps (default: auto)")
    tracking = "--video --overwrite --script --config --checkpoint --set --plugin --device --save_cvat --save_labelme"
    parser.no_effect(
        tracking, lambda o: o.init is None, "without --init, since boxes of other programs are not tracked"
    )
    parser.no_effect("--overwrite", lambda o: o.output, "with --output, which replaces nothing")
    options = parser.parse_args(argv)
    if options.init is None and options.output is None:
        parser.error("boxes of other programs need --output FOLDER")
    if options.save_labelme and not Path(options.source).is_dir():
        parser.error("--save_labelme needs a folder of pictures, since labelme knows no videos")
    return options


def import_boxes(options: argparse.Namespace) -> int:
    from lib.bench import (
        first_frame,
        read_coco,
        read_cvat,
        read_label_studio,
        read_labelme,
        read_mot,
        read_via,
        read_yolo,
        write_sequences,
    )
    from lib.data import open_source, picture_names
    from lib.track import Box

    folder = Path(options.source)
    shares = {"yolo": read_yolo, "label_studio": read_label_studio}
    pixels = {"labelme": read_labelme, "cvat": read_cvat, "via": read_via, "coco": read_coco, "mot": read_mot}
    name = next(name for name in (*shares, *pixels) if getattr(options, name))
    if name in shares:
        size_hw = first_frame(iter(open_source(options.source)), options.source).size_hw
        found = shares[name](getattr(options, name), size_hw)
    else:
        found = pixels[name](getattr(options, name))
    if not found:
        raise ValueError(f"{getattr(options, name)}: no box there")
    source = open_source(options.source)
    names = picture_names(os.listdir(folder)) if folder.is_dir() else []
    numbers = {Path(name).stem if options.yolo else name: i for i, name in enumerate(names)}
    unknown = [k for boxes in found.values() for k in boxes if isinstance(k, str) and k not in numbers]
    if unknown:
        where = f"{folder}, which is to be the folder of the pictures" if not names else f"{folder}"
        raise FileNotFoundError(f"{len(unknown)} annotated pictures are not in {where}: {', '.join(unknown[:5])}")
    stem = options.name or source.name
    targets: dict[str, dict[int, Box | None]] = {}
    for target, boxes in found.items():
        label = stem if len(found) == 1 else f"{stem}_{target}".replace("/", "_").replace("\\", "_")
        if label in targets:
            raise ValueError(f"{getattr(options, name)}: two targets would be called {label}; name one otherwise")
        targets[label] = {numbers[key] if isinstance(key, str) else key: box for key, box in boxes.items()}
    for place, marks in zip(write_sequences(options.output, source, targets), targets.values(), strict=True):
        print(f"sequence: {place}")
        count = max(marks) - min(marks) + 1
        if gaps := count - len(marks):
            print(f"note: {gaps} of its {count} frames have no box of it and count as frames without the target")
    return 0


def track_boxes(options: argparse.Namespace) -> int:
    from lib.bench import (
        TrackerSpec,
        check_new_sequence,
        demo_spec,
        first_frame,
        parse_marks,
        propagate,
        write_cvat,
        write_labelme,
        write_sequences,
        write_truth,
    )
    from lib.data import Frame, open_source, picture_names
    from lib.track import Box, TrackerSession
    from lib.viz import BoxMark, VideoWriter, colour, draw_box_with_mouse, draw_frame

    source, path = open_source(options.source), Path(options.source)
    protect_source(options.source, "--video", options.video)
    name = options.name or source.name
    if options.output:
        check_new_sequence(options.output, name)
    truth = path / "groundtruth.txt" if path.is_dir() else path.with_suffix(".txt")
    if options.output is None and truth.exists() and not options.overwrite:
        raise FileExistsError(f"{truth} is there already; --overwrite replaces it, --output FOLDER writes elsewhere")
    typed = [text for text in options.init if text != "mouse"]
    if len(typed) < len(options.init):
        drawn = draw_box_with_mouse(first_frame(iter(open_source(options.source)), options.source).rgb)
        typed.insert(0, ",".join(map(str, drawn)))
    marks = parse_marks(typed)
    pictures = [path / name for name in picture_names(os.listdir(path))] if path.is_dir() else []
    others = [options.save_cvat] if options.save_cvat else []
    others += [options.save_labelme / f"{p.stem}.json" for p in pictures] if options.save_labelme else []
    if there := [file for file in others if file.exists()]:
        raise FileExistsError(f"{there[0]} is there already; remove it, or name another place")
    spec = demo_spec(TrackerSpec.from_options(options))
    print(f"tracker:  {' '.join(spec.labels)}, weights {spec.checkpoint}", flush=True)
    with (
        show_progress(source.name, source.length, "frames") as meter,
        nullcontext() if options.video is None else VideoWriter(options.video, source.fps) as video,
    ):

        def draw(index: int, frame: Frame, box: Box | None) -> None:
            meter.update()
            if video is not None:
                video.write(draw_frame(frame, [BoxMark(box, colour(0))] if box else [], f"frame {index}"))

        boxes = propagate(TrackerSession(spec.build()), source, marks, draw)
    if options.save_cvat:
        write_cvat(options.save_cvat, options.name or "target", boxes)
        print(f"CVAT:     {options.save_cvat}")
    if options.save_labelme:
        size_hw = first_frame(iter(open_source(options.source)), options.source).size_hw
        write_labelme(options.save_labelme, options.name or "target", boxes, pictures, size_hw)
        print(f"labelme:  {options.save_labelme}")
    if options.output is None:
        write_truth(truth, boxes, len(boxes))
        print(f"boxes:    {truth} ({len(boxes)} rows)")
    else:
        (place,) = write_sequences(options.output, open_source(options.source), {name: boxes})
        print(f"sequence: {place}")
    if video is not None:
        print(f"video:    {video.path}")
    return 0


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    # Broken frames are reported by us, in one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    return run_command(lambda: track_boxes(options) if options.init else import_boxes(options))


if __name__ == "__main__":
    sys.exit(main())
