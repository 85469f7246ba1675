"""Result files: one region per line, in the format that a benchmark's official tool reads.

Reading accepts any delimiter, boxes (4 numbers) or corners (8 numbers), and the files of the VOT toolkit, text and
binary, without the toolkit. Writing is atomic. The toolkit's folders:

    <results>/<tracker>/<experiment>/<seq>/<run>.txt or .bin      a region per frame, `1` where the run was initialised
                                           <run>_confidence.value  a number per frame, an empty line where there is none
                                           <run>_time.value        seconds per frame

A run is `<seq>_001` (long-term, supervised) or `<seq>_<anchor with 8 digits>` (anchor-based).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.data import (
    AnnotationError,
    Boxes,
    corners_to_xywh,
    decode_text,
    number_rows,
    regular_table,
    to_number,
    xywh_to_corners,
)
from lib.files import write_text, yaml_rows
from lib.registry import suggest

Floats = NDArray[np.float64]
Marks = NDArray[np.int64]
TRACKED, SKIPPED, INITIALISED, FAILED = -1, 0, 1, 2
"""Marks of frames in supervised runs: a frame that has a region, and the numbers that stand in place of one."""


SPECIAL, RECTANGLE, POLYGON = 0, 1, 2
"""Kinds of regions in a binary file of the toolkit, of those that are read."""
_BINARY_MARK = struct.pack("<h", 1)


class ResultFileError(ValueError):
    """A result file that cannot be read; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class BoxFormat:
    """Format of a result file.

    Attributes:
        number: printf format of a number.
        delimiter: Text between two numbers.
        whole: Numbers are truncated toward zero first.
        toolkit: Files have the VOT toolkit's layout: a folder per sequence, the first row a mark in place of its box.
        corners: Rows are the 8 numbers of a polygon's corners (x, y, x, y, ...) in place of x, y, w, h.
        prefix: Beginning of the names of box files, before the sequence.
    """

    number: str
    delimiter: str
    whole: bool = False
    toolkit: bool = False
    corners: bool = False
    prefix: str = ""


FORMATS = {name: BoxFormat(**row) for name, row in yaml_rows(Path(__file__).with_name("formats.yaml")).items()}


def box_format(name: str) -> BoxFormat:
    """Look up a format.

    Args:
        name: A key of `FORMATS`.

    Raises:
        ValueError: The name is unknown; the message has the known ones.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown result format {name!r}{suggest(name, list(FORMATS))} (known: {', '.join(FORMATS)})")
    return FORMATS[name]


def write_boxes(path: Path | str, regions: ArrayLike, format: str = "float_comma", marks: Marks | None = None) -> None:
    """Write a result file, whole or not at all.

    Args:
        path: The file.
        regions: [N, 4] boxes x, y, w, h or [N, 8] corners, image pixels.
        format: Name of the format.
        marks: [N] marks of a supervised run (see `format_boxes`).

    Raises:
        ValueError: Regions have another shape, or are not finite where the format has whole numbers.
    """
    rows = np.asarray(regions, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] not in (4, 8):
        raise ValueError(f"{path}: boxes must be [frames, 4], polygons [frames, 8], not {list(rows.shape)}")
    if box_format(format).whole and not np.isfinite(rows).all():
        raise ValueError(f"{path}: frame {int(np.argmin(np.isfinite(rows).all(axis=1)))} has no finite box")
    write_text(path, format_boxes(rows, format, marks))


def format_boxes(regions: Floats, format: str, marks: Marks | None = None) -> str:
    """Text of a result file.

    Args:
        regions: [N, 4] boxes x, y, w, h or [N, 8] corners, image pixels; converted to what the format has.
        format: Name of the format; with whole numbers regions must be finite.
        marks: [N] marks of a supervised run (`SKIPPED`, `INITIALISED`, `FAILED`, or `TRACKED` where the region is
            written). None: all frames are tracked; in the VOT toolkit's format the first one is the initialisation.
    """
    form = box_format(format)
    if form.corners and regions.shape[1] == 4:
        regions = xywh_to_corners(regions)
    if form.whole:
        regions = np.trunc(regions)
    if form.toolkit:
        regions = regions.astype(np.float32)  # TraX has single precision
        if marks is None:
            marks = np.full(len(regions), TRACKED)
            marks[:1] = INITIALISED
    line = form.delimiter.join([form.number] * regions.shape[1]) + "\n"
    if marks is None:
        return "".join(line % tuple(row) for row in regions.tolist())
    rows = zip(regions.tolist(), marks.tolist(), strict=True)
    return "".join(line % tuple(row) if mark == TRACKED else f"{mark}\n" for row, mark in rows)


def write_column(path: Path | str, values: Iterable[float], number: str = "%f") -> None:
    """Write one number per line, whole or not at all.

    Args:
        path: The file.
        values: Seconds or scores.
        number: printf format of a number.
    """
    write_text(path, "".join(number % v + "\n" for v in values))


def read_boxes(path: Path | str) -> Boxes:
    """Read the boxes of any tracker's text file.

    Args:
        path: The file, with x, y, w, h or 8 numbers of corners in each line.

    Returns:
        [N, 4] boxes x, y, w, h; upright ones around corners.

    Raises:
        FileNotFoundError: There is no such file.
        ResultFileError: A line is not a box; the message names it.
    """
    rows = read_result(Path(path))
    if rows.shape[1] == 8:
        return corners_to_xywh(rows)
    if rows.shape[1] != 4:
        raise ResultFileError(f"{path}: {rows.shape[1]} numbers a line, expected 4 (x, y, w, h) or 8 (corners)")
    return rows


def read_result(path: Path) -> Floats:
    """Read the regions of any tracker's file, the toolkit's or any other.

    Args:
        path: Text or binary file.

    Returns:
        [N, 4] boxes x, y, w, h or [N, 8] corners; a table of other text has as many columns as its lines.

    Raises:
        FileNotFoundError: There is no such file.
        ResultFileError: A line cannot be read; the message names it.
    """
    return read_regions(path, polygons=True) if is_trajectory(path) else read_rows(path)


def read_rows(path: Path | str) -> Floats:
    """Read a table of numbers.

    Args:
        path: Text file; numbers are separated by commas, tabs, semicolons or blanks, and NaN is a number.

    Returns:
        [N, D] numbers.

    Raises:
        FileNotFoundError: There is no such file.
        ResultFileError: It is empty, or a line has a word or another count of numbers; the message names the line.
    """
    try:
        text = decode_text(Path(path).read_bytes(), str(path))
        if (table := regular_table(text)) is not None:
            return table
        rows = number_rows(text, str(path))
    except AnnotationError as error:
        raise ResultFileError(str(error)) from None
    if not rows:
        raise ResultFileError(f"{path}: empty")
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ResultFileError(f"{path}: line {i + 1} has {len(row)} numbers, line 1 has {len(rows[0])}")
    return np.array(rows)


def read_column(path: Path | str) -> Floats:
    """Read the first number of each line (times, scores, labels of absence).

    Args:
        path: The file.

    Raises:
        FileNotFoundError, ResultFileError: As of `read_rows`.
    """
    return read_rows(path)[:, 0]


def is_trajectory(path: Path) -> bool:
    """Recognise a toolkit's file: it is binary, or its text begins with the mark of the first frame.

    Args:
        path: A result file.
    """
    with path.open("rb") as file:
        head = file.readline()
    return head.startswith(_BINARY_MARK) or (head.strip().isdigit() and path.suffix in (".txt", ".bin"))


def read_regions(path: Path, polygons: bool = False) -> Floats:
    """Read the boxes of a toolkit's file.

    Args:
        path: Text or binary file.
        polygons: Keep them, as corners of all rows, if there are any.

    Returns:
        [N, 4] boxes x, y, w, h, upright ones around polygons, or [N, 8] corners; NaN rows for marks (an initialisation,
        a failure).

    Raises:
        ResultFileError: A line cannot be read (the message names it), or a binary file has masks.
    """
    rows = _read_trajectory(path)
    boxes, corners = np.full((len(rows), 4), np.nan), np.full((len(rows), 8), np.nan)
    for i, row in enumerate(rows):
        if len(row) == 4:
            boxes[i], corners[i] = row, xywh_to_corners(np.array([row]))[0]
        elif len(row) == 8:
            boxes[i], corners[i] = corners_to_xywh(np.array([row]))[0], row
    return corners if polygons and any(len(row) == 8 for row in rows) else boxes


def read_marks(path: Path) -> Marks | None:
    """Read the marks of a toolkit's file.

    Args:
        path: Any result file.

    Returns:
        [N] `TRACKED` where there is a region, else the mark; None for other programs' files.
    """
    if not is_trajectory(path):
        return None
    return np.array([int(row[0]) if len(row) == 1 else TRACKED for row in _read_trajectory(path)])


def _read_trajectory(path: Path) -> list[list[float]]:
    """One list of numbers per frame: a mark, a box, or corners."""
    data = path.read_bytes()
    return _read_binary(data, path) if data.startswith(_BINARY_MARK) else _read_text(data, path)


def _read_text(data: bytes, path: Path) -> list[list[float]]:
    """One list of numbers per line: a mark, a box, or corners."""
    lines = data.decode("utf-8-sig", errors="replace").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ResultFileError(f"{path}: empty")
    rows = []
    for i, line in enumerate(lines):
        place = f"{path}: line {i + 1}"
        try:
            row = [to_number(word) for word in line.split(",")]
        except ValueError:
            raise ResultFileError(f"{place}: {line.strip()[:40]!r} is neither a region nor a mark") from None
        if len(row) not in (1, 4, 8) or (len(row) == 1 and not row[0].is_integer()):
            raise ResultFileError(f"{place}: {len(row)} numbers; expected a mark, x,y,w,h or 8 numbers of corners")
        rows.append(row)
    return rows


def _read_binary(data: bytes, path: Path) -> list[list[float]]:
    """A mark (int16 1), the count (uint32), then a kind (uint8) and its numbers for each region, little-endian."""
    rows: list[list[float]] = []
    try:
        (count,) = struct.unpack_from("<I", data, 2)
        at = 6
        for i in range(count):
            kind, at = data[at], at + 1
            numbers = {SPECIAL: "<I", RECTANGLE: "<4f", POLYGON: "<H8f"}.get(kind)
            if numbers is None:
                raise ResultFileError(f"{path}: frame {i} is a mask; only rectangles and polygons are read")
            row = list(struct.unpack_from(numbers, data, at))
            if kind == POLYGON and row.pop(0) != 4:
                raise ResultFileError(f"{path}: frame {i} is a polygon of other than four corners")
            rows.append(row)
            at += struct.calcsize(numbers)
    except (struct.error, IndexError):
        raise ResultFileError(f"{path}: cut short") from None
    return rows


def read_values(path: Path) -> Floats:
    """Read a `.value` file.

    Args:
        path: The file.

    Returns:
        [N] numbers; NaN for an empty line.

    Raises:
        ResultFileError: A line is not a number.
    """
    text = path.read_text(encoding="utf-8-sig")
    lines = text.removesuffix("\n").split("\n")
    if text.isascii() and "_" not in text:
        with suppress(ValueError):  # an empty line, or what is named below
            return np.array(list(map(float, lines)))
    try:
        return np.array([to_number(line) if line.strip() else np.nan for line in lines])
    except ValueError as error:
        raise ResultFileError(f"{path}: {error}") from None


def format_values(values: Floats) -> str:
    """Text of a `.value` file.

    Args:
        values: [N] numbers, written with every digit; NaN becomes an empty line.
    """
    return "".join("\n" if np.isnan(v) else f"{float(v)!r}\n" for v in values)
