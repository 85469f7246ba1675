"""Own data made here: a drawn box carried through a video by a tracker, and other programs' boxes as own folders.

The other programs are labelme (JSON files), CVAT (XML of a video or of pictures), and all that write the files of
COCO, MOT or YOLO.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from lib.bench.result_files import write_boxes
from lib.data import (
    AnnotationError,
    Frame,
    FrameSource,
    check_name,
    decode_text,
    encode_picture,
    expect_form,
    number_rows,
    parse_boxes,
)
from lib.track import Box, TrackerSession, check_box

Marks = Mapping[int, Box | None]
"""Frame, from 0 -> box x, y, w, h in image pixels; None where the target cannot be seen."""
Targets = dict[str, dict[int | str, Box | None]]
"""Target -> frame (its number from 0, or its picture's name) -> box; None where the target cannot be seen."""
ABSENT = "none"


def parse_marks(texts: list[str]) -> dict[int, Box | None]:
    """Boxes that a user typed.

    Args:
        texts: ``x,y,w,h`` for the first frame, ``FRAME:x,y,w,h`` for a later one, ``FRAME:none`` from where on the
            target cannot be seen.

    Raises:
        ValueError: A text is none of these, or the first frame has no box.
    """
    marks: dict[int, Box | None] = {}
    for text in texts:
        frame, colon, box = text.rpartition(":")
        try:
            index = int(frame) if colon else 0
            x, y, w, h = (0.0,) * 4 if box == ABSENT else parse_boxes(box, "--init")[0].tolist()
        except (AnnotationError, IndexError, ValueError):
            kinds = "x,y,w,h (four numbers, in pixels), FRAME:x,y,w,h, FRAME:none or the word mouse"
            raise ValueError(f"--init {text!r}: expected {kinds}") from None
        marks[index] = None if box == ABSENT else (x, y, w, h)
    if min(marks) < 0 or marks.get(0) is None:
        raise ValueError("--init: the first frame (0) needs a box")
    return marks


def propagate(
    session: TrackerSession,
    source: FrameSource,
    marks: Marks,
    on_frame: Callable[[int, Frame, Box | None], None] = lambda index, frame, box: None,
) -> dict[int, Box | None]:
    """Carry boxes through a video; a frame with a box of its own starts the tracker again.

    Args:
        session: The tracker.
        source: The video, to be read from its first frame.
        marks: The given boxes, one of them in frame 0.
        on_frame: Called with every frame and its box.

    Returns:
        A box per frame, None where the target cannot be seen or the frame cannot be read.

    Raises:
        ValueError: A given box lies outside its picture, or behind the end.
    """
    boxes: dict[int, Box | None] = {}
    following = False
    for grab in source:
        box = marks.get(grab.index)
        if grab.frame is None:
            if box is not None:
                raise ValueError(f"{source.name}: the frame of a given box cannot be read ({grab.problem})")
        elif box is not None:
            box = check_box(box, grab.frame)
            session.init(grab.frame, box)
            following = True
        elif grab.index in marks:
            following = False
        elif following:
            box, _ = session.update(grab.frame)
        boxes[grab.index] = box
        if grab.frame is not None:
            on_frame(grab.index, grab.frame, box)
    if beyond := [index for index in marks if index not in boxes]:
        raise ValueError(f"{source.name} has {len(boxes)} frames (from 0), and no frame {min(beyond)}")
    return boxes


def write_truth(path: Path, boxes: Marks, count: int) -> None:
    """Write a box file with two decimals and a row for each of `count` frames; NaN where there is no box."""
    write_boxes(path, np.array([boxes.get(i) or (np.nan,) * 4 for i in range(count)]), "trackingnet")


def write_sequences(folder: Path, source: FrameSource, targets: Mapping[str, Marks]) -> list[Path]:
    """Write own data: `<folder>/<target>/{00000001.jpg, ..., groundtruth.txt}`, from the first box to the last.

    A frame that cannot be read repeats the picture before it.

    Args:
        folder: The own folder.
        source: The pictures, to be read from the first one.
        targets: Name of a sequence -> its boxes.

    Returns:
        The sequences' folders.

    Raises:
        FileExistsError: A sequence is there already.
        ValueError: A target has no box, or boxes behind the end of the source.
    """
    spans: dict[str, tuple[int, int]] = {}
    for name, boxes in targets.items():
        place = folder / check_name(name)
        there = [index for index, box in boxes.items() if box is not None]
        if not there:
            raise ValueError(f"{name}: not one frame has a box")
        if place.exists():
            raise FileExistsError(f"{place} is there already; remove it, or name another folder with --output")
        spans[name] = min(there), max(there)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part") as part:  # nothing half done after Ctrl-C
        data, count = b"", 0
        for grab in source:
            data = data if grab.frame is None else encode_picture(grab.frame.rgb)
            count = grab.index + 1
            for name, (first, last) in spans.items():
                if first <= grab.index <= last:
                    (Path(part) / name).mkdir(parents=True, exist_ok=True)
                    (Path(part) / name / f"{grab.index - first + 1:08d}.jpg").write_bytes(data)
        for name, (first, last) in spans.items():
            if last >= count:
                raise ValueError(f"{name} has a box in frame {last} (from 0), but {source.name} has {count} frames")
            rows = {index - first: box for index, box in targets[name].items() if isinstance(index, int)}
            write_truth(Path(part) / name / "groundtruth.txt", rows, last - first + 1)
        for name in spans:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(part) / name).rename(folder / name)
    return [folder / name for name in spans]


def read_labelme(folder: Path) -> Targets:
    """The shapes of a folder of labelme files, one target per label and group number.

    Args:
        folder: Has a JSON file per picture.

    Raises:
        AnnotationError: A file is not labelme's, or has two shapes of one target; the message names it.
    """
    targets: Targets = {}
    files = sorted(folder.glob("*.json"))
    if not files:
        raise AnnotationError(f"{folder}: no labelme files (*.json)")
    for file in files:
        with expect_form(str(file), "a labelme file"):
            content = json.loads(decode_text(file.read_bytes(), str(file)))
            picture = str(content["imagePath"]).replace("\\", "/").rpartition("/")[2]
            shapes = [_labelme_shape(shape) for shape in content["shapes"]]
        for target, box in shapes:
            _add(targets, target, picture, box, str(file))
    return targets


def _labelme_shape(shape: dict[str, Any]) -> tuple[str, Box]:
    """(target, box) of a rectangle, polygon or circle."""
    group = shape.get("group_id")
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if shape.get("shape_type") == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        points = [(x - radius, y - radius), (x + radius, y + radius)]
    return f"{shape['label']}" if group is None else f"{shape['label']}_{group}", _around(points)


def read_cvat(file: Path) -> Targets:
    """The tracks of "CVAT for video" or the shapes of "CVAT for images", boxes and polygons.

    Frames between two shapes of a track are interpolated, as CVAT does. Of pictures, each label is one target.

    Args:
        file: The XML file.

    Raises:
        AnnotationError: The file is not CVAT's, or a picture has two shapes of one label.
    """
    targets: Targets = {}
    with expect_form(str(file), "a CVAT file"):
        root = ElementTree.fromstring(decode_text(file.read_bytes(), str(file)))
        for track in root.iter("track"):
            shapes = [s for s in track if "frame" in s.attrib]
            given = {int(s.get("frame", "")): None if s.get("outside") == "1" else _cvat_box(s) for s in shapes}
            targets[f"{track.get('label')}_{track.get('id')}"] = dict(_between(given))
        for image in root.iter("image"):
            picture = str(image.get("name")).rpartition("/")[2]
            for shape in image:
                if "label" in shape.attrib and shape.tag in ("box", "polygon"):
                    _add(targets, str(shape.get("label")), picture, _cvat_box(shape), f"{file}, {picture}")
    if not targets:
        raise AnnotationError(f"{file}: no track, and no picture with a box or polygon")
    return targets


def read_coco(file: Path) -> Targets:
    """The boxes of a COCO file, one target per category and, where annotations have one, `track_id`.

    Args:
        file: The JSON file.

    Raises:
        AnnotationError: The file is not COCO's, or a picture has two boxes of one target.
    """
    targets: Targets = {}
    with expect_form(str(file), "a COCO annotation file"):
        content = json.loads(decode_text(file.read_bytes(), str(file)))
        pictures = {p["id"]: str(p["file_name"]).replace("\\", "/").rpartition("/")[2] for p in content["images"]}
        names = {kind["id"]: str(kind["name"]) for kind in content["categories"]}
        for entry in content["annotations"]:
            name, picture = names[entry["category_id"]], pictures[entry["image_id"]]
            track = entry.get("track_id", entry.get("attributes", {}).get("track_id"))
            x, y, w, h = map(float, entry["bbox"])
            _add(targets, name if track is None else f"{name}_{track}", picture, (x, y, w, h), f"{file}, {picture}")
    return targets


def read_mot(file: Path) -> Targets:
    """The tracks of MOT's `gt.txt`: rows `frame, target, x, y, w, h, ...`, frames counted from 1.

    Args:
        file: The text file.

    Raises:
        AnnotationError: A row is something else, or a frame has two boxes of one target.
    """
    targets: Targets = {}
    for line, row in enumerate(number_rows(decode_text(file.read_bytes(), str(file)), str(file)), 1):
        where = f"{file}, line {line}"
        if len(row) < 6 or row[0] % 1 or row[0] < 1 or row[1] % 1 or row[1] < 0:
            kind = "frame (from 1), target (from 0), x, y, w, h, ..."
            raise AnnotationError(f"{where}: expected {kind}, found {', '.join(f'{v:g}' for v in row[:8])}")
        x, y, w, h = row[2:6]
        _add(targets, f"{row[1]:g}", int(row[0]) - 1, (x, y, w, h), where)
    return targets


def read_yolo(folder: Path, size_hw: tuple[int, int]) -> Targets:
    """YOLO's text files, one target per class: rows `class, centre x, centre y, w, h` in shares of the picture.

    Args:
        folder: Has a text file per picture, of the picture's name.
        size_hw: Height and width of the pictures.

    Returns:
        Frames are names of pictures without their ending.

    Raises:
        AnnotationError: There is no file, a row is something else, or a picture has two boxes of one class.
    """
    targets: Targets = {}
    files = [file for file in sorted(folder.glob("*.txt")) if file.name != "classes.txt"]
    if not files:
        raise AnnotationError(f"{folder}: no text file per picture (*.txt)")
    scale = np.array([*size_hw[::-1]] * 2)
    for file in files:
        for line, row in enumerate(number_rows(decode_text(file.read_bytes(), str(file)), str(file)), 1):
            where = f"{file}, line {line}"
            if len(row) != 5 or not all(0 <= value <= 1 for value in row[1:]):
                kind = "class, centre x, centre y, w, h with shares of the picture (0 to 1)"
                raise AnnotationError(f"{where}: expected {kind}, found {', '.join(f'{v:g}' for v in row[:8])}")
            x, y, w, h = (np.array(row[1:]) * scale).tolist()
            _add(targets, f"{row[0]:g}", file.stem, (x - w / 2, y - h / 2, w, h), where)
    return targets


def _cvat_box(shape: ElementTree.Element) -> Box:
    """The upright box round a box, which may be rotated, or a polygon."""
    if shape.tag != "box":
        return _around([tuple(map(float, point.split(","))) for point in shape.attrib["points"].split(";")])
    left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(float(shape.get("rotation", "0")))
    x, y, w, h = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    wide = abs(w * math.cos(angle)) + abs(h * math.sin(angle))
    high = abs(w * math.sin(angle)) + abs(h * math.cos(angle))
    return x - wide / 2, y - high / 2, wide, high


def _around(points: Iterable[tuple[float, ...]]) -> Box:
    """The upright box round points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _between(given: dict[int, Box | None]) -> Iterable[tuple[int, Box | None]]:
    """All frames from the first shape to the last, boxes between two shapes interpolated."""
    places = sorted(given)
    for start, end in pairwise(places):
        one, other = given[start], given[end]
        for frame in range(start, end):
            share = (frame - start) / (end - start)
            if one is None or other is None:
                yield frame, one
            else:
                x, y, w, h = (a + share * (b - a) for a, b in zip(one, other, strict=True))
                yield frame, (x, y, w, h)
    yield from ((frame, given[frame]) for frame in places[-1:])


def _add(targets: Targets, target: str, frame: int | str, box: Box, where: str) -> None:
    """Add a box; AnnotationError if the target has one in this frame."""
    boxes = targets.setdefault(target, {})
    if frame in boxes:
        raise AnnotationError(f"{where}: two shapes of {target!r}; a target needs a label or group number of its own")
    boxes[frame] = box
