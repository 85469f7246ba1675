"""Result text files: one box per line, in the format that a benchmark's official tool reads.

Reading sniffs the delimiter and takes boxes (4 numbers) or corners (8 numbers); writing is atomic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.data import Boxes
from lib.files import write_text
from lib.registry import suggest

Floats = NDArray[np.float64]


class ResultFileError(ValueError):
    """A result file that cannot be read; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class BoxFormat:
    """How a number is printed and what stands between numbers; `whole` truncates toward zero first.

    toolkit: the files lie as the VOT toolkit has them, a folder per sequence, the first row a mark in place of its box.
    """

    number: str
    delimiter: str
    whole: bool = False
    toolkit: bool = False


FORMATS: dict[str, BoxFormat] = {
    "int_tab": BoxFormat("%d", "\t", whole=True),
    "int_comma": BoxFormat("%d", ",", whole=True),
    "float_tab": BoxFormat("%.4f", "\t"),
    "float_comma": BoxFormat("%.14f", ","),
    "float_space": BoxFormat("%.18e", " "),
    "float_comma3": BoxFormat("%.3f", ","),
    "got10k": BoxFormat("%.3f", ","),
    "trackingnet": BoxFormat("%.2f", ","),
    "vot": BoxFormat("%.4f", ",", toolkit=True),
}
"""int_tab: OSTrack and its children. int_comma: their submissions. float_comma: VisEvent runners.
float_space: numpy's default (RGB-T runners). float_comma3: GDSTrack. got10k, trackingnet, vot: the official toolkits
(TraX carries four decimals)."""

_BLANK = str.maketrans({",": " ", "\t": " ", ";": " "})


def box_format(name: str) -> BoxFormat:
    """The format of this name; ValueError with the known names otherwise."""
    if name not in FORMATS:
        raise ValueError(f"unknown result format {name!r}{suggest(name, list(FORMATS))} (known: {', '.join(FORMATS)})")
    return FORMATS[name]


def write_boxes(path: Path | str, boxes_xywh: ArrayLike, format: str = "float_comma") -> None:
    """Write [N, 4] boxes (x, y, w, h in image pixels) in the named format; the file appears whole or not at all."""
    boxes = np.asarray(boxes_xywh, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{path}: boxes must be [frames, 4], not {list(boxes.shape)}")
    if box_format(format).whole and not np.isfinite(boxes).all():
        raise ValueError(f"{path}: frame {int(np.argmin(np.isfinite(boxes).all(axis=1)))} has no finite box")
    write_text(path, format_boxes(boxes, format))


def format_boxes(boxes_xywh: Boxes, format: str) -> str:
    """The text of [N, 4] boxes in the named format; they must be finite where it has whole numbers."""
    how = box_format(format)
    rows = np.trunc(boxes_xywh) if how.whole else boxes_xywh
    line = how.delimiter.join([how.number] * 4) + "\n"
    if how.toolkit:  # TraX has single precision
        return "1\n" + "".join(line % tuple(row) for row in rows[1:].astype(np.float32).tolist())
    return "".join(line % tuple(row) for row in rows.tolist())


def write_column(path: Path | str, values: Iterable[float], number: str = "%f") -> None:
    """Write one number per line: seconds (`%f`) or scores (`%.2f`, `%.8f`)."""
    write_text(path, "".join(number % v + "\n" for v in values))


def read_boxes(path: Path | str) -> Boxes:
    """[N, 4] boxes x, y, w, h of any tracker's text file; 8 numbers a line are corners and become boxes.

    Raises FileNotFoundError, or ResultFileError naming the line that is no box.
    """
    rows = read_rows(path)
    if rows.shape[1] == 8:
        return corners_to_xywh(rows)
    if rows.shape[1] != 4:
        raise ResultFileError(f"{path}: {rows.shape[1]} numbers a line, expected 4 (x, y, w, h) or 8 (corners)")
    return rows


def read_rows(path: Path | str) -> Floats:
    """[N, D] numbers of a text file, separated by commas, tabs, semicolons or blanks; NaN is a number."""
    text = Path(path).read_text(encoding="utf-8-sig")
    lines = text.translate(_BLANK).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ResultFileError(f"{path}: empty")
    width = len(lines[0].split())
    for i, line in enumerate(lines):
        if len(line.split()) != width or not width:
            raise ResultFileError(f"{path}: line {i + 1} has {len(line.split())} numbers, line 1 has {width}")
    try:
        numbers = np.array(" ".join(lines).split(), dtype=np.float64)
    except ValueError as error:
        raise ResultFileError(f"{path}: {_first_word(lines, path)}") from error
    return numbers.reshape(-1, width)


def read_column(path: Path | str) -> Floats:
    """[N] the first number of each line (times, scores, absence labels)."""
    return read_rows(path)[:, 0]


def corners_to_xywh(corners: Floats) -> Boxes:
    """[N, 8] four corners x, y, x, y, ... -> [N, 4] the upright box around them."""
    x, y = corners[:, 0::2], corners[:, 1::2]
    low = np.stack([x.min(axis=1), y.min(axis=1)], axis=1)
    high = np.stack([x.max(axis=1), y.max(axis=1)], axis=1)
    return np.concatenate([low, high - low], axis=1)


def _first_word(lines: list[str], path: Path | str) -> str:
    for i, line in enumerate(lines):
        for word in line.split():
            try:
                float(word)
            except ValueError:
                return f"line {i + 1}: {word!r} is not a number"
    return "not all words are numbers"
