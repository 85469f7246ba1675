"""Box files of own data: the table of accepted formats, and the error messages for other files."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lib.data.boxes import corners_to_xywh, cxcywh_to_xyxy
from lib.data.datasets.folders import upright_box
from lib.data.io import AnnotationError, number_rows, to_number
from lib.data.listing import number_in
from lib.data.types import Boxes
from lib.registry import listed

EXPECTED = (
    "expected x, y, w, h (left, top, width, height) in pixels, or a polygon; a heading (x,y,w,h or frame,x1,y1,x2,y2) "
    "says what columns are; see docs/own_data.md"
)
SHARES = "all numbers lie between 0 and 1 (YOLO's shares of the picture? tracking/annotate.py --yolo reads its folders)"
HEADING = re.compile(r"\W*(?!nan\b|inf|m\s*\d)[a-z]\w*(\W|$)", re.IGNORECASE)
"""The first line of a table whose columns have names; not a row of NaN, nor a mask of VOT."""


SIZES, CORNERS, CENTRES = (
    ("x y w h", "x y width height", "left top w h", "left top width height", "xmin ymin w h", "xmin ymin width height"),
    ("x1 y1 x2 y2", "xmin ymin xmax ymax", "left top right bottom", "xtl ytl xbr ybr", "x0 y0 x1 y1"),
    ("cx cy w h", "cx cy width height", "xc yc w h", "xcenter ycenter width height", "centerx centery width height"),
)
COLUMNS: dict[str, Callable[[Boxes], Boxes]] = {
    **dict.fromkeys(CORNERS, corners_to_xywh),  # first: width and height may be the picture's
    **dict.fromkeys(SIZES, lambda rows: rows),
    **dict.fromkeys(CENTRES, lambda rows: corners_to_xywh(cxcywh_to_xyxy(rows))),
}
"""Names of four columns, in lower case without signs -> function that makes x, y, w, h of them."""
FRAMES = {"", "frame", "frameid", "frameno", "framenum", "framenumber", "frameindex", "frameidx", "index", "idx"}
FRAMES |= {"image", "img", "imagename", "filename", "file", "picture"}
"""Names of a column that says which frame a row belongs to; pandas gives its index none."""
TARGETS = {"id", "trackid", "objectid", "objid", "targetid", "label", "class", "classname", "category"}
NOTHING = {"", "na", "n/a", "none", "null", "-"}


@dataclass(frozen=True)
class BoxTable:
    """Content of a box file.

    Attributes:
        boxes_xywh: [N, 4] in image pixels; 0 where the target is not to be seen.
        frames: [N] numbers or names of pictures; None if row n belongs to picture n.
        has_heading: The columns have names, in the first line.
        may_be_corners: Rows of four numbers may be two corners.
    """

    boxes_xywh: Boxes
    frames: list[str] | None = None
    has_heading: bool = False
    may_be_corners: bool = False


def read_table(text: str, where: str) -> BoxTable:
    """Read a box file.

    Args:
        text: Of the file.
        where: The file, for messages.

    Raises:
        AnnotationError: It is of another form; the message says which, and what to do.
    """
    lines = text.lstrip("\ufeff").rstrip().splitlines()
    if not lines:
        raise AnnotationError(f"{where}: no annotation row")
    table = _rows_under_heading(lines, where) if HEADING.match(lines[0]) else _plain_rows(lines, where)
    boxes = table.boxes_xywh
    if (wrong := np.isinf(boxes).any(axis=1) | (boxes[:, 2:] < 0).any(axis=1)).any():
        row = int(wrong.argmax())
        problem = "a coordinate is infinite" if np.isinf(boxes[row]).any() else "a size is negative"
        raise AnnotationError(f"{where}, line {row + 1 + table.has_heading}: {problem}: {boxes[row].tolist()}")
    boxes[np.isnan(boxes).any(axis=1)] = 0.0
    if table.has_heading and _are_shares(boxes):
        raise AnnotationError(f"{where}: {SHARES}; {EXPECTED}")
    return table


def _rows_under_heading(lines: Sequence[str], where: str) -> BoxTable:
    """A table whose columns have names."""
    first = lines[0].lstrip("#% ")
    delimiter = next((sign for sign in ",;\t" if sign in first), " ")
    texts = (line.strip(" ") for line in (first, *lines[1:]))
    try:
        rows = list(csv.reader(texts, delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise AnnotationError(f"{where}: not a table ({error})") from None
    names = [re.sub(r"^(bbox|bb|box|rect)(?=.)", "", re.sub(r"[\W_]", "", name.lower())) for name in rows[0]]
    found = next((columns for columns in COLUMNS if set(columns.split()) <= set(names)), None)
    if found is None:
        via = "; it is VGG Image Annotator's: tracking/annotate.py --via" if "regionshapeattributes" in names else ""
        heading = f"line 1 is a heading ({lines[0][:60]!r}) without four columns of boxes"
        raise AnnotationError(f"{where}: {heading}{via}; {EXPECTED}")
    box_columns = [names.index(name) for name in found.split()]
    numbers = []
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise AnnotationError(f"{where}, line {line}: {len(row)} columns, the heading has {len(names)}")
        words = [row[i].strip() if delimiter == "," else row[i].strip().replace(",", ".") for i in box_columns]
        try:
            numbers.append([np.nan if word.lower() in NOTHING else to_number(word) for word in words])
        except ValueError as error:
            raise AnnotationError(f"{where}, line {line}: {error}") from None
        if np.isinf(numbers[-1]).any():
            raise AnnotationError(f"{where}, line {line}: a coordinate is infinite: {numbers[-1]}")
    if not numbers:
        raise AnnotationError(f"{where}: no annotation row")
    for i, name in enumerate(names):
        targets = {row[i].strip() for row in rows[1:]} - {""} if name in TARGETS else set()
        if len(targets) > 1:
            shown = f"{len(targets)} targets ({rows[0][i]} {listed(sorted(targets), 3)})"
            raise AnnotationError(f"{where}: boxes of {shown}; write a file for each")
    frame_column = next((i for i, name in enumerate(names) if name in FRAMES), None)
    frames = None if frame_column is None else [row[frame_column].strip() for row in rows[1:]]
    return BoxTable(COLUMNS[found](np.array(numbers)), frames, has_heading=True)


def _plain_rows(lines: Sequence[str], where: str) -> BoxTable:
    """Rows of numbers, or of VOT's masks."""
    masks = any(line.lstrip().startswith("m") for line in lines)
    if not masks:
        rows = number_rows("\n".join(lines), where)
        rising = {len(row) for row in rows} == {5} and all(b[0] > a[0] for a, b in pairwise(rows)) and len(rows) > 1
        if rising and all(row[0] % 1 == 0 for row in rows) and not _are_shares(np.array(rows)[:, 1:]):
            return BoxTable(np.array(rows)[:, 1:], [f"{row[0]:.0f}" for row in rows], may_be_corners=True)
        if problem := _other_form(rows):
            raise AnnotationError(f"{where}: {problem}; {EXPECTED}")
    boxes = np.stack([upright_box(line.strip(), f"{where}, line {n}") for n, line in enumerate(lines, 1)])
    return BoxTable(boxes, may_be_corners=not masks and len(rows[0]) == 4)


def _are_shares(rows: NDArray[np.float64]) -> bool:
    """All boxes that are there lie between 0 and 1."""
    seen = rows[np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)]
    return bool(len(seen) and ((seen >= 0) & (seen <= 1)).all())


def _other_form(rows: list[list[float]]) -> str:
    """Form of rows that are no boxes in pixels; "" if they may be some."""
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        rows = rows[:1]
    table = np.array(rows)
    if _are_shares(table[np.isfinite(table).all(axis=1)][:, -4:]):
        return SHARES
    if table.shape[1] == 5 and (table[:, 0] % 1 == 0).all():
        return f"rows begin with a number of a frame or class ({table[0, 0]:g})"
    if len(rows) < 2 or table.shape[1] < 5:
        return ""
    frames, targets = table[:, 0], table[:, 1]
    successive = table.shape[1] != 8 and (np.diff(frames) == 1).all() and frames[0] % 1 == 0
    names = np.unique(targets)
    whole = (table[:, :2] % 1 == 0).all() and all((np.diff(frames[targets == t]) > 0).all() for t in names)
    whole = whole and 2 * len(names) <= len(rows)
    marks = table[:, 6:]  # MOT's confidence, class and visibility, or -1
    if successive or (whole and (not marks.size or (np.abs(marks[:, 0]) <= 1).all() or (marks[:, -1] == -1).all())):
        numbers = f"rows begin with the numbers of frames ({frames[0]:g}, {frames[1]:g}, ...)"
        return f"{numbers}, as MOT's, which tracking/annotate.py --mot reads"
    return ""


def frame_positions(table: BoxTable, names: Sequence[str], numbered: bool, where: str) -> NDArray[np.int64]:
    """The pictures that rows belong to.

    Args:
        table: With frames.
        names: Names of all pictures.
        numbered: Numbers in these names count frames; those of unpacked videos say nothing of the user's counting.
        where: The box file, for messages.

    Returns:
        [N] positions in `names`.

    Raises:
        AnnotationError: A frame has no picture or two rows, or it is unclear from where frames are counted.
    """
    frames, count = table.frames or [], len(names)
    if all(re.fullmatch(r"\d+(\.0*)?", frame) for frame in frames):
        given = [int(float(frame)) for frame in frames]
        known: dict[int | str | None, int] = {number_in(name): i for i, name in enumerate(names)} if numbered else {}
        if len(known) < count or not set(given) <= set(known):
            first = 0 if 0 in given else 1
            known = {first + i: i for i in range(count)}
            if first and max(given) < count:
                problem = f"frames are numbered {min(given)} to {max(given)} of {count}, counted from 0 or from 1"
                raise AnnotationError(
                    f"{where}: {problem}; a row for frame 0 or {count}, even without a box, settles it"
                )
        keys: Sequence[int | str] = given
    else:
        known = {name.rpartition(".")[0]: i for i, name in enumerate(names)}
        words = [re.split(r"[/\\]", frame)[-1] for frame in frames]
        keys = [word if word in known else word.rpartition(".")[0] for word in words]
    seen: set[int | str] = set()
    for n, key in enumerate(keys):
        if key not in known or key in seen:
            problem = "has two rows; a file holds one target" if key in seen else f"has no picture among {count}"
            raise AnnotationError(f"{where}, line {n + 1 + table.has_heading}: frame {frames[n]} {problem}")
        seen.add(key)
    return np.array([known[key] for key in keys], dtype=np.int64)
