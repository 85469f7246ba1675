"""Boxes in the files of other programs: labelme, CVAT, VGG Image Annotator, Label Studio, COCO, MOT and YOLO."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from lib.data import AnnotationError, decode_text, expect_form, number_rows
from lib.files import visible_files, write_text
from lib.track import Box

Targets = dict[str, dict[int | str, Box | None]]
"""Target -> frame (its number from 0, or its picture's name) -> box; None where the target cannot be seen."""
MAX_GAP = 10**6
"""Frames between two shapes; more of them are a damaged number, whose boxes would fill the memory."""


def read_labelme(folder: Path) -> Targets:
    """The shapes of a folder of labelme files, one target per label and group number.

    Args:
        folder: Has a JSON file per picture.

    Raises:
        AnnotationError: A file is not labelme's, or has two shapes of one target; the message names it.
    """
    targets: Targets = {}
    files = visible_files(folder, "*.json")
    if not files:
        raise AnnotationError(f"{folder}: no folder with labelme files (*.json)")
    for file in files:
        with expect_form(str(file), "a labelme file"):
            content = json.loads(_text(file))
            picture = _file_name(content["imagePath"])
            shapes = [_labelme_shape(shape) for shape in content["shapes"]]
        for target, box in shapes:
            _add_box(targets, target, picture, box, str(file))
    return targets


def _labelme_shape(shape: dict[str, Any]) -> tuple[str, Box]:
    """(target, box) of a rectangle, polygon or circle."""
    group = shape.get("group_id")
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if shape.get("shape_type") == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        points = [(x - radius, y - radius), (x + radius, y + radius)]
    return f"{shape['label']}" if group is None else f"{shape['label']}_{group}", _bounding_box(points)


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
        root = ElementTree.fromstring(_text(file))
        for track in root.iter("track"):
            shapes = [s for s in track if "frame" in s.attrib]
            given = {int(s.get("frame", "")): None if s.get("outside") == "1" else _cvat_box(s) for s in shapes}
            targets[f"{track.get('label')}_{track.get('id')}"] = _interpolated(given, str(file))
        for image in root.iter("image"):
            picture = _file_name(image.get("name"))
            for shape in image:
                if "label" in shape.attrib and shape.tag in ("box", "polygon"):
                    _add_box(targets, str(shape.get("label")), picture, _cvat_box(shape), f"{file}, {picture}")
    if not targets:
        hint = "; Pascal VOC's files are not read, those of YOLO or COCO are" if root.tag == "annotation" else ""
        raise AnnotationError(f"{file}: no track, and no picture with a box or polygon{hint}")
    return targets


def _cvat_box(shape: ElementTree.Element) -> Box:
    """The upright box round a box, which may be rotated, or a polygon."""
    if shape.tag != "box":
        return _bounding_box([tuple(map(float, point.split(","))) for point in shape.attrib["points"].split(";")])
    left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(float(shape.get("rotation", "0")))
    x, y, w, h = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    wide = abs(w * math.cos(angle)) + abs(h * math.sin(angle))
    high = abs(w * math.sin(angle)) + abs(h * math.cos(angle))
    return x - wide / 2, y - high / 2, wide, high


def write_cvat(file: Path, label: str, boxes: Mapping[int, Box | None]) -> None:
    """Write one track of "CVAT for video 1.1", to be corrected there; `read_cvat` reads it.

    Args:
        file: The XML file.
        label: Of the target, as in CVAT's task.
        boxes: Frame, from 0 -> box in image pixels; None where the target cannot be seen.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    track = ElementTree.SubElement(root, "track", id="0", label=label, source="auto")
    last: Box | None = None
    for frame in sorted(boxes):
        last = boxes[frame] or last
        if last is not None:
            x, y, w, h = last
            sides = {key: f"{v:.4f}" for key, v in {"xtl": x, "ytl": y, "xbr": x + w, "ybr": y + h}.items()}
            flags = {"keyframe": "1", "outside": str(int(boxes[frame] is None)), "occluded": "0"}
            ElementTree.SubElement(track, "box", {"frame": str(frame), **flags, **sides, "z_order": "0"})
    write_text(file, ElementTree.tostring(root, encoding="unicode"))


def write_labelme(
    folder: Path, label: str, boxes: Mapping[int, Box | None], pictures: Sequence[Path], size_hw: tuple[int, int]
) -> None:
    """Write labelme's file of each picture, to be corrected there; `read_labelme` reads them.

    Args:
        folder: For the JSON files; usually that of the pictures.
        label, boxes: As of `write_cvat`.
        pictures: One per frame.
        size_hw: Their height and width.
    """
    for frame, box in boxes.items():
        x, y, w, h = box or (0.0,) * 4
        corners = [[round(x, 4), round(y, 4)], [round(x + w, 4), round(y + h, 4)]]
        shape: dict[str, Any] = {
            "label": label,
            "points": corners,
            "group_id": None,
            "shape_type": "rectangle",
            "flags": {},
        }
        content: dict[str, Any] = {
            "version": "5.0.1",
            "flags": {},
            "shapes": [] if box is None else [shape],
            "imagePath": os.path.relpath(pictures[frame].resolve(), folder.resolve()),
            "imageData": None,
            "imageHeight": size_hw[0],
            "imageWidth": size_hw[1],
        }
        write_text(folder / f"{pictures[frame].stem}.json", json.dumps(content, indent=1))


def read_via(file: Path) -> Targets:
    """The shapes of VGG Image Annotator (version 1 or 2), one target per combination of region attributes.

    Args:
        file: CSV file, JSON file or project.

    Raises:
        AnnotationError: The file is another one, or a picture has two shapes of one target.
    """
    targets: Targets = {}
    text = _text(file).lstrip("\ufeff")
    with expect_form(str(file), "a file of VGG Image Annotator 1 or 2"):
        regions: list[tuple[str, Any, Any]] = []
        if text.startswith(("{", "[")):
            content = json.loads(text)
            for entry in content.get("_via_img_metadata", content).values():
                shapes = entry["regions"]
                shapes = shapes.values() if isinstance(shapes, dict) else shapes
                regions += [(entry["filename"], r["shape_attributes"], r["region_attributes"]) for r in shapes]
        else:
            for row in csv.DictReader(text.splitlines()):
                shape, attributes = json.loads(row["region_shape_attributes"]), json.loads(row["region_attributes"])
                regions += [(row["filename"], shape, attributes)] if shape else []
        for name, shape, attributes in regions:
            picture = _file_name(name)
            words: list[str] = []
            for value in attributes.values():  # of a checkbox those that are set
                words += [key for key, is_set in value.items() if is_set] if isinstance(value, dict) else [str(value)]
            target = "_".join(filter(None, words)) or "target"
            _add_box(targets, target, picture, _via_box(shape), f"{file}, {picture}")
    return targets


def _via_box(shape: dict[str, Any]) -> Box:
    """The upright box round a rectangle, circle, ellipse or polygon."""
    if shape["name"] == "rect":
        return float(shape["x"]), float(shape["y"]), float(shape["width"]), float(shape["height"])
    if "all_points_x" in shape:
        return _bounding_box(zip(map(float, shape["all_points_x"]), map(float, shape["all_points_y"]), strict=True))
    x, y = float(shape["cx"]), float(shape["cy"])
    rx, ry = (float(shape["r"]),) * 2 if "r" in shape else (float(shape["rx"]), float(shape["ry"]))
    return x - rx, y - ry, 2 * rx, 2 * ry


def read_label_studio(file: Path, size_hw: tuple[int, int]) -> Targets:
    """The boxes of one video in Label Studio's JSON (full or minimal), one target per region.

    Frames between two keyframes are interpolated, as Label Studio does; the last keyframe is the end.

    Args:
        file: The JSON file.
        size_hw: Height and width of the video.

    Raises:
        AnnotationError: The file is another one, or has several videos or annotations.
    """
    targets: Targets = {}
    with expect_form(str(file), "Label Studio's JSON of one video with boxes"):
        tasks = json.loads(_text(file))
        tasks = tasks if isinstance(tasks, list) else [tasks]
        answers = [answer for task in tasks for answer in task.get("annotations", (task,))]
        if len(answers) != 1:
            count = f"{len(tasks)} videos with {len(answers)} annotations"
            raise AnnotationError(f"{file}: {count}; export one of one video")
        for number, (labels, keyframes) in enumerate(_video_regions(answers[0])):
            given: dict[int, Box | None] = {}
            for key in sorted(keyframes, key=lambda key: int(key["frame"])):
                frame = int(key["frame"]) - 1
                given[frame] = _label_studio_box(key, size_hw)
                if not key.get("enabled", True):
                    given[frame + 1] = None  # until the next keyframe
            targets[f"{'_'.join(labels) or 'target'}_{number}"] = _interpolated(given, str(file))
    if not targets:
        raise AnnotationError(f"{file}: no boxes of a video; Label Studio saves those of pictures as COCO or YOLO")
    return targets


def _video_regions(content: Any) -> Iterator[tuple[list[str], list[Any]]]:
    """(labels, keyframes) of everything that has a sequence, at any depth."""
    if isinstance(content, dict) and isinstance(content.get("sequence"), list):
        yield list(content.get("labels", [])), content["sequence"]
    else:
        for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
            yield from _video_regions(part)


def _label_studio_box(key: dict[str, Any], size_hw: tuple[int, int]) -> Box:
    """The upright box of a keyframe in percent of the picture; it may be rotated about its upper left corner."""
    height, width = size_hw
    x, w = (float(key[name]) / 100 * width for name in ("x", "width"))
    y, h = (float(key[name]) / 100 * height for name in ("y", "height"))
    angle = math.radians(float(key.get("rotation", 0)))
    c, s = math.cos(angle), math.sin(angle)
    return _bounding_box((x + i * w * c - j * h * s, y + i * w * s + j * h * c) for i in (0, 1) for j in (0, 1))


def _file_name(name: Any) -> str:
    """The last part of a picture's path."""
    return str(name).replace("\\", "/").rpartition("/")[2]


def read_coco(file: Path) -> Targets:
    """The boxes of a COCO file, one target per category and, where annotations have one, `track_id`.

    Args:
        file: The JSON file.

    Raises:
        AnnotationError: The file is not COCO's, or a picture has two boxes of one target.
    """
    targets: Targets = {}
    with expect_form(str(file), "a COCO annotation file"):
        content = json.loads(_text(file))
        pictures = {p["id"]: _file_name(p["file_name"]) for p in content["images"]}
        names = {kind["id"]: str(kind["name"]) for kind in content["categories"]}
        for entry in content["annotations"]:
            name, picture = names[entry["category_id"]], pictures[entry["image_id"]]
            track = entry.get("track_id", entry.get("attributes", {}).get("track_id"))
            x, y, w, h = map(float, entry["bbox"])
            _add_box(targets, name if track is None else f"{name}_{track}", picture, (x, y, w, h), f"{file}, {picture}")
    return targets


def read_mot(file: Path) -> Targets:
    """The tracks of MOT's `gt.txt`: rows `frame, target, x, y, w, h, ...`, frames counted from 1.

    Args:
        file: The text file.

    Raises:
        AnnotationError: A row is something else, or a frame has two boxes of one target.
    """
    targets: Targets = {}
    for where, row in _rows(file):
        if len(row) < 6 or row[0] % 1 or row[0] < 1 or row[1] % 1 or row[1] < 0:
            raise _unexpected(where, "frame (from 1), target (from 0), x, y, w, h, ...", row)
        x, y, w, h = row[2:6]
        _add_box(targets, f"{row[1]:g}", int(row[0]) - 1, (x, y, w, h), where)
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
    files = [file for file in visible_files(folder, "*.txt") if file.name != "classes.txt"]
    if not files:
        raise AnnotationError(f"{folder}: no folder with a text file per picture (*.txt)")
    scale = np.array([*size_hw[::-1]] * 2)
    for file in files:
        for where, row in _rows(file):
            if len(row) != 5 or not all(0 <= value <= 1 for value in row[1:]):
                raise _unexpected(where, "class, centre x, centre y, w, h with shares of the picture (0 to 1)", row)
            x, y, w, h = (np.array(row[1:]) * scale).tolist()
            _add_box(targets, f"{row[0]:g}", file.stem, (x - w / 2, y - h / 2, w, h), where)
    return targets


def _text(file: Path) -> str:
    return decode_text(file.read_bytes(), str(file))


def _rows(file: Path) -> Iterator[tuple[str, Sequence[float]]]:
    """(place for messages, numbers) of each line."""
    for line, row in enumerate(number_rows(_text(file), str(file)), 1):
        yield f"{file}, line {line}", row


def _unexpected(where: str, kind: str, row: Sequence[float]) -> AnnotationError:
    return AnnotationError(f"{where}: expected {kind}, found {', '.join(f'{v:g}' for v in row[:8])}")


def _bounding_box(points: Iterable[tuple[float, ...]]) -> Box:
    """The upright box round points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _interpolated(given: dict[int, Box | None], where: str) -> dict[int | str, Box | None]:
    """All frames from the first shape to the last, boxes between two shapes interpolated."""
    boxes: dict[int | str, Box | None] = {}
    places = sorted(given)
    for start, end in pairwise(places):
        if end - start > MAX_GAP:
            raise AnnotationError(f"{where}: two shapes are {end - start} frames apart; no video is that long")
        one, other = given[start], given[end]
        for frame in range(start, end):
            boxes[frame] = one
            if one is not None and other is not None:
                share = (frame - start) / (end - start)
                x, y, w, h = (a + share * (b - a) for a, b in zip(one, other, strict=True))
                boxes[frame] = x, y, w, h
    boxes.update((frame, given[frame]) for frame in places[-1:])
    return boxes


def _add_box(targets: Targets, target: str, frame: int | str, box: Box, where: str) -> None:
    """Add a box; AnnotationError if the target has one in this frame."""
    boxes = targets.setdefault(target, {})
    if frame in boxes:
        raise AnnotationError(f"{where}: two shapes of {target!r}; a target needs a label or group number of its own")
    boxes[frame] = box
