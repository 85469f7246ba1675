"""Where two runs of a tracker part: the first frame for each sequence, by how much, and what it does to the scores.

The tool for batch invariance (`--batch 1` against `--batch 8`), for `official` against `fast`, for two machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.bench.manifest import read_manifest
from lib.bench.result_files import read_boxes
from lib.bench.results import exact_file
from lib.bench.trajectories import is_trajectory, read_regions
from lib.data import Boxes, iou_xywh

ASIDE = ("_time", "_score", "_all_boxes", "_all_scores")


@dataclass(frozen=True, slots=True)
class Parting:
    """One sequence of two runs. frame: first frame whose boxes differ by more than the tolerance, None if none does.

    first: difference there; largest: over all frames; both in pixels, the largest of x, y, w, h.
    overlap: smallest IoU of the two boxes of a frame. rows: how many rows each file has.
    """

    name: str
    frame: int | None
    first: float
    largest: float
    overlap: float
    rows: tuple[int, int]

    @property
    def parted(self) -> bool:
        return self.frame is not None or self.rows[0] != self.rows[1]


@dataclass(frozen=True)
class Comparison:
    """only_a, only_b: sequences that one run has and the other lacks. settings: what their manifests disagree on."""

    sequences: list[Parting]
    only_a: list[str]
    only_b: list[str]
    settings: dict[str, tuple[object, object]]

    @property
    def agree(self) -> bool:
        return not (self.only_a or self.only_b or any(p.parted for p in self.sequences))


def compare_runs(a: Path, b: Path, tolerance: float = 1e-3) -> Comparison:
    """Compare two result folders box by box, from the copies with all digits where both runs have them.

    tolerance: in pixels. Raises FileNotFoundError when a folder is not there or has no result.
    """
    files_a, files_b = result_files(a), result_files(b)
    both = [n for n in files_a if n in files_b]
    parted = [_part(n, *_pair(a, b, n, files_a[n], files_b[n]), tolerance) for n in both]
    return Comparison(
        parted,
        sorted(set(files_a) - set(files_b)),
        sorted(set(files_b) - set(files_a)),
        _settings(read_manifest(a) or {}, read_manifest(b) or {}),
    )


def result_files(folder: Path) -> dict[str, Path]:
    """Run -> file of its boxes: `<seq>.txt`, or `<seq>/<run>.txt` and `.bin` as the VOT toolkit has them."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such result folder: {folder}")
    flat = [p for p in folder.glob("*.txt") if not p.stem.endswith(ASIDE)]
    runs = [p for p in folder.glob("*/*_*") if p.suffix in (".bin", ".txt") and p.stem.startswith(f"{p.parent.name}_")]
    nested = [p for p in runs if p.stem.rpartition("_")[2].isdigit()]
    if not flat and not nested:
        raise FileNotFoundError(
            f"no result files (<seq>.txt, or <seq>/<seq>_001.txt as of the VOT toolkit) in {folder}"
        )
    return {path.stem: path for path in sorted(flat or nested, key=lambda p: (p.stem, p.suffix))}


def _pair(a: Path, b: Path, name: str, file_a: Path, file_b: Path) -> tuple[Boxes, Boxes]:
    exact = [exact_file(folder, name) for folder in (a, b)]
    if all(p.is_file() for p in exact):
        return read_boxes(exact[0]), read_boxes(exact[1])
    return _boxes(file_a), _boxes(file_b)


def _boxes(file: Path) -> Boxes:
    return read_regions(file) if is_trajectory(file) else read_boxes(file)


def _part(name: str, a: Boxes, b: Boxes, tolerance: float) -> Parting:
    count = min(len(a), len(b))
    with np.errstate(invalid="ignore"):
        difference = np.abs(a[:count] - b[:count])
    difference[np.isnan(a[:count]) & np.isnan(b[:count])] = 0.0
    largest = np.nan_to_num(difference, nan=np.inf).max(axis=1, initial=0.0)
    beyond = np.flatnonzero(largest > tolerance)
    frame = int(beyond[0]) if len(beyond) else None
    return Parting(
        name,
        frame,
        float(largest[frame]) if frame is not None else 0.0,
        float(largest.max(initial=0.0)),
        float(_overlaps(a[:count], b[:count]).min(initial=1.0)),
        (len(a), len(b)),
    )


def _overlaps(a: Boxes, b: Boxes) -> Boxes:
    """[N] intersection over union; 1 for rows that are the same, empty or not, 0 where only one of them is a box."""
    same = ((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)
    return np.asarray(np.where(same, 1.0, np.nan_to_num(iou_xywh(a, b), nan=0.0)))


def _settings(a: dict[str, object], b: dict[str, object]) -> dict[str, tuple[object, object]]:
    """Differences that can explain a parting."""
    keys = (
        "benchmark",
        "config_hash",
        "weights",
        "protocol",
        "dtype",
        "device",
        "batch",
        "workers",
        "versions",
        "host",
    )
    return {k: (a.get(k), b.get(k)) for k in keys if a.get(k) != b.get(k)}
