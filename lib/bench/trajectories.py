"""Trajectories as the VOT toolkit keeps them, text and binary, read without the toolkit.

    <results>/<tracker>/<experiment>/<seq>/<run>.txt or .bin      a region per frame, `1` where the run was initialised
                                           <run>_confidence.value  a number per frame, an empty line where there is none
                                           <run>_time.value        seconds per frame

A run is `<seq>_001` (long-term, supervised) or `<seq>_<anchor with 8 digits>` (anchor-based).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from lib.bench.result_files import TRACKED, Floats, Marks, ResultFileError, corners_to_xywh
from lib.data import Boxes, to_number

SPECIAL, RECTANGLE = 0, 1
_BINARY_MARK = struct.pack("<h", 1)


def trajectory_file(folder: Path, run: str) -> Path | None:
    """Find the file of a run's regions: text before binary, the order of the toolkit.

    Args:
        folder: Folder of the sequence.
        run: Name of the run.

    Returns:
        None if there is no such file.
    """
    return next((p for p in (folder / f"{run}.txt", folder / f"{run}.bin") if p.is_file()), None)


def is_trajectory(path: Path) -> bool:
    """Recognise a toolkit's file: it is binary, or its text begins with the mark of the first frame.

    Args:
        path: A result file.
    """
    with path.open("rb") as file:
        head = file.readline()
    return head.startswith(_BINARY_MARK) or (head.strip().isdigit() and path.suffix in (".txt", ".bin"))


def read_regions(path: Path) -> Boxes:
    """Read the boxes of a toolkit's file.

    Args:
        path: Text or binary file.

    Returns:
        [N, 4] boxes x, y, w, h, upright ones around polygons; NaN rows for marks (an initialisation, a failure).

    Raises:
        ResultFileError: A line cannot be read (the message names it), or a binary file has polygons or masks.
    """
    data = path.read_bytes()
    if data.startswith(_BINARY_MARK):
        return _read_binary(data, path)
    rows = _read_text(data, path)
    boxes = np.full((len(rows), 4), np.nan)
    for i, row in enumerate(rows):
        if len(row) == 4:
            boxes[i] = row
        elif len(row) == 8:
            boxes[i] = corners_to_xywh(np.array([row]))[0]
    return boxes


def read_marks(path: Path) -> Marks:
    """Read the marks of a toolkit's text file.

    Args:
        path: The file.

    Returns:
        [N] the number that stands in place of a region, else `TRACKED`.
    """
    rows = _read_text(path.read_bytes(), path)
    return np.array([int(row[0]) if len(row) == 1 else TRACKED for row in rows])


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


def _read_binary(data: bytes, path: Path) -> Boxes:
    """A mark (int16 1), the count (uint32), then a kind (uint8) and its numbers for each region, little-endian."""
    try:
        (count,) = struct.unpack_from("<I", data, 2)
        rows, at = np.full((count, 4), np.nan), 6
        for i in range(count):
            kind = data[at]
            if kind == RECTANGLE:
                rows[i] = struct.unpack_from("<4f", data, at + 1)
            elif kind != SPECIAL:
                raise ResultFileError(f"{path}: frame {i} is a polygon or mask; only rectangles are read")
            at += 17 if kind == RECTANGLE else 5
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
