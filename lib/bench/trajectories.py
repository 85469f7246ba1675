"""Trajectories as the VOT toolkit keeps them, text and binary, read without the toolkit.

    <results>/<tracker>/<experiment>/<seq>/<run>.txt or .bin      a region per frame, `1` where the run was initialised
                                           <run>_confidence.value  a number per frame, an empty line where there is none
                                           <run>_time.value        seconds per frame

A run is `<seq>_001` (long-term) or `<seq>_<anchor with 8 digits>` (anchor-based).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.bench.result_files import ResultFileError
from lib.data import Boxes

Floats = NDArray[np.float64]
SPECIAL, RECTANGLE = 0, 1
_BINARY_MARK = struct.pack("<h", 1)


def trajectory_file(folder: Path, run: str) -> Path | None:
    """The file of a run's regions in its sequence's folder: text before binary, as the toolkit looks; None if none."""
    return next((p for p in (folder / f"{run}.txt", folder / f"{run}.bin") if p.is_file()), None)


def is_trajectory(path: Path) -> bool:
    """Whether a file is binary, or text that begins with the mark of a run's first frame; else it has a box per row."""
    with path.open("rb") as file:
        head = file.readline()
    return head.startswith(_BINARY_MARK) or (head.strip().isdigit() and path.suffix in (".txt", ".bin"))


def read_regions(path: Path) -> Boxes:
    """[N, 4] boxes x, y, w, h; NaN rows for special regions (the first of a run, a loss).

    Raises ResultFileError naming the line.
    """
    data = path.read_bytes()
    if data.startswith(_BINARY_MARK):
        return _read_binary(data, path)
    lines = data.decode("utf-8-sig", errors="replace").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ResultFileError(f"{path}: empty")
    return np.array([_region(line, f"{path}: line {i + 1}") for i, line in enumerate(lines)])


def _region(line: str, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in line.split(",")]
    except ValueError:
        raise ResultFileError(f"{where}: {line.strip()[:40]!r} is neither a rectangle x,y,w,h nor a mark") from None
    if len(numbers) == 1:
        return [float("nan")] * 4
    if len(numbers) != 4:
        raise ResultFileError(
            f"{where}: {len(numbers)} numbers; only rectangles x,y,w,h are read, no polygons or masks"
        )
    return numbers


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
    """[N] the numbers of a `.value` file; NaN for an empty line."""
    text = path.read_text(encoding="utf-8-sig")
    lines = text.removesuffix("\n").split("\n")
    try:
        return np.array([float(line) if line.strip() else np.nan for line in lines])
    except ValueError as error:
        raise ResultFileError(f"{path}: {error}") from None


def format_values(values: Floats) -> str:
    """The text of a `.value` file: every digit, an empty line for NaN."""
    return "".join("\n" if np.isnan(v) else f"{float(v)!r}\n" for v in values)
