"""Track one target in a video, a folder of pictures, or a webcam."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from lib.registry import listed
from tracking._options import CommandParser, add_confidence_options, add_engine_options, at_least, protect_source
from tracking._progress import show_progress

if TYPE_CHECKING:
    from lib.bench import DemoResult
    from lib.data import FrameSource


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(
        description="Track one target in your own frames, from a box in the first one; write a video with the boxes "
        "drawn and a text file with one box per frame. Unless you name another one, the small network that comes with "
        "the project is used; nothing is downloaded.",
        epilog="example: python tracking/demo.py clip.mp4 --init 315,139,113,116",
    )
    add = parser.add_argument
    add("source", help="video file, folder of pictures, one picture, or a webcam's number (0)")
    box = "x,y,w,h in the first frame (left, top, width, height, in pixels; write --init=-5,3,20,20 where the first is "
    box += "negative), or the word mouse to draw it"
    add("--init", metavar="BOX", help=box)
    add("--aux", help="folder or video of the second modality (thermal, depth, events), for RGB-X trackers")
    add("--script", help="method (default: ostrack)")
    add("--config", help="YAML file below experiments/<script>, without its ending")
    add(
        "--checkpoint",
        metavar="FILE",
        help="weights: ours (.safetensors), published (.pth.tar, .pth) or hf://OWNER/NAME",
    )
    add_experiment_options(parser)
    add(
        "--output",
        type=Path,
        help="video to write (default: output/tracked/<source>.mp4, of a folder <parent>-<folder>.mp4)",
    )
    add("--boxes", type=Path, help="box file to write (default: next to the video, .txt)")
    add("--no_video", action="store_true", help="write the box file only")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps (default: auto)")
    add("--protocol", default="official", help="official (float32, the default) or fast (half precision where it pays)")
    add_engine_options(parser)
    add_confidence_options(parser)
    add("--max_frames", type=at_least(1), help="stop after so many frames")
    add("--show", action="store_true", help="show the frames while tracking; q ends")
    parser.no_effect("--output", lambda o: o.no_video and o.boxes, "with --no_video and --boxes, which name all files")
    options = parser.parse_args(argv)
    if not options.init:
        ways = ["--init mouse draws it"] if options.source.isdecimal() else ["--init x,y,w,h", "--init mouse draws it"]
        parser.error(f"the target's box in the first frame is needed: {', or '.join(ways)}")
    return options


def parse_box(text: str) -> list[float]:
    """Four numbers, separated by commas or blanks."""
    from lib.data import AnnotationError, parse_boxes

    try:
        return parse_boxes(text, "--init")[0].tolist()
    except (AnnotationError, IndexError):
        raise ValueError(f"--init {text!r}: expected x,y,w,h (four numbers, in pixels) or the word mouse") from None


def run(options: argparse.Namespace) -> int:
    from lib.bench import TrackerSpec, demo_spec, first_frame, track_video, write_boxes
    from lib.data import Image, open_source
    from lib.track import TrackerSession, check_box
    from lib.viz import VideoWriter, draw_box_with_mouse, require_display, show_frame

    given = None if options.init == "mouse" else parse_box(options.init)
    protect_source(options.source, "--output", options.output, options.boxes)
    if options.show or given is None:
        require_display("--show" if options.show else "--init mouse")
    source = open_source(options.source, options.aux)
    grabs = iter(source)
    first = first_frame(grabs, options.source)
    height, width = first.size_hw
    if given is not None:
        check_box(given, first)
    length = "live" if source.length is None else f"{source.length} frames"
    print(f"source:  {options.source}, {width} x {height}, {length}, {source.fps:g} frames/s")
    spec = demo_spec(TrackerSpec.from_options(options))
    where = spec.execution(0)
    print(f"tracker: {' '.join(spec.labels)}, weights {spec.checkpoint}")
    print(f"device:  {where.device}, {where.dtype_name} ({where.reason})", flush=True)
    session = TrackerSession(spec.build())
    box = given or draw_box_with_mouse(first.rgb)

    folder = Path(options.source).resolve()  # many are called `img`
    name = f"{folder.parent.name}-{folder.name}" if folder.is_dir() else source.name
    output = options.output or Path("output") / "tracked" / f"{name}.mp4"
    boxes = options.boxes or output.with_suffix(".txt")
    total = source.length if options.max_frames is None else min(options.max_frames, source.length or 10**9)
    with (
        show_progress("tracking", total, "frames") as meter,
        nullcontext() if options.no_video else VideoWriter(output, source.fps) as video,
    ):

        def on_frame(index: int, drawn: Callable[[], Image]) -> bool:
            meter.update()
            return show_frame(drawn(), source.name) if options.show else True

        out = track_video(session, grabs, first, box, video, options.max_frames, on_frame, options.source)
        write_boxes(boxes, out.boxes_xywh, "float_comma3")  # before the video's end, which may not be written
    print("\n".join(summary(out, source)))
    print(f"boxes:   {boxes}" + ("" if video is None else f"\nvideo:   {video.path}"))
    if video is not None and video.note:
        print(f"note:    {video.note}")
    return 130 if out.stopped else 0


def summary(out: DemoResult, source: FrameSource) -> list[str]:
    """Lines for the terminal: frames, speed, warnings.

    Args:
        out: What `track_video` returned.
        source: Frames that were tracked.
    """
    tracked = len(out.boxes_xywh) - 1 - len(out.broken)
    lines = [f"{len(out.boxes_xywh)} frames in {out.seconds:.1f} s"]
    if tracked > 0:
        lines[0] += f"; tracking alone {tracked / out.tracking_seconds:.1f} frames/s, mean score "
        lines[0] += f"{sum(out.scores[1:]) / max(1, len(out.scores) - 1):.2f}"
    if out.statuses:
        counts = Counter(out.statuses)
        lines.append("frames:  " + ", ".join(f"{counts[kind]} {kind}" for kind in ("tracked", "unsure", "lost")))
    if out.broken:
        named = listed([reason for _, reason in out.broken], 5, "; ")
        lines.append(f"warning: {len(out.broken)} broken frames have the last box before them: {named}")
    if out.size.note:
        lines.append(f"warning: {out.size.note}")
    if source.unread:
        lines.append(f"warning: {source.name} states {source.length} frames; the last {source.unread} cannot be read")
    if out.stopped:
        lines.append("stopped by the user; what was tracked until then is kept")
    return lines


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    # Broken frames and absent cameras are reported by us, in one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
