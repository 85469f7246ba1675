"""Boxes of annotation programs: labelme's JSON files, and CVAT's XML of a video or of pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lib.data import AnnotationError, decode_text
from lib.track import Box

Targets = dict[str, dict[int | str, Box | None]]
"""Target -> frame (its number from 0, or its picture's name) -> box; None where the target cannot be seen."""


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
        try:
            content = json.loads(decode_text(file.read_bytes(), str(file)))
            picture = str(content["imagePath"]).replace("\\", "/").rpartition("/")[2]
            shapes = [_labelme_shape(shape) for shape in content["shapes"]]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise AnnotationError(f"{file}: not a labelme file ({type(error).__name__}: {error})") from None
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
    try:
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
    except AnnotationError:
        raise
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise AnnotationError(f"{file}: not a CVAT file ({type(error).__name__}: {error})") from None
    if not targets:
        raise AnnotationError(f"{file}: no track, and no picture with a box or polygon")
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


def _add(targets: Targets, target: str, frame: str, box: Box, where: str) -> None:
    """Add a box; AnnotationError if the target has one in this frame."""
    boxes = targets.setdefault(target, {})
    if frame in boxes:
        raise AnnotationError(f"{where}: two shapes of {target!r}; a target needs a label or group number of its own")
    boxes[frame] = box
