"""Differences between two runs of a tracker: the first frame that differs in each sequence, and by how much.

For checks of batch invariance (`--batch 1` against `--batch 8`), for `official` against `fast`, for two machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.bench.result_files import read_boxes
from lib.bench.results import exact_file, read_manifest
from lib.data import Boxes, iou_xywh
from lib.files import visible_files

OTHER_FILES = ("_time", "_score", "_all_boxes", "_all_scores")
"""Ends of the names of files next to box files."""


@dataclass(frozen=True, slots=True)
class SequenceDifference:
    """Differences of one sequence between two runs, in pixels, the largest of x, y, w, h.

    Attributes:
        name: Of the run.
        frame: First frame whose boxes differ by more than the tolerance; None if none does.
        first: Difference there.
        largest: Over all frames.
        overlap: Smallest IoU of the two boxes of a frame.
        rows: Number of rows of each file.
    """

    name: str
    frame: int | None
    first: float
    largest: float
    overlap: float
    rows: tuple[int, int]

    @property
    def differs(self) -> bool:
        """True beyond the tolerance, and for files of different length."""
        return self.frame is not None or self.rows[0] != self.rows[1]


@dataclass(frozen=True)
class RunComparison:
    """Comparison of two runs.

    Attributes:
        sequences: Those that both have.
        only_a: Those that only the first run has.
        only_b: Those that only the second run has.
        settings: Entries of the manifests that differ, `weights.sha256` for one within another.
        without_manifest: Folders whose settings are unknown; `settings` is empty then.
    """

    sequences: list[SequenceDifference]
    only_a: list[str]
    only_b: list[str]
    settings: dict[str, tuple[object, object]]
    without_manifest: list[Path]

    @property
    def agree(self) -> bool:
        """True if both runs have the same sequences and no box differs beyond the tolerance."""
        return not (self.only_a or self.only_b or any(s.differs for s in self.sequences))


CAUSES = (
    "benchmark", "second_picture", "config_hash", "weights", "protocol", "engine", "dtype", "device", "batch",
    "workers", "versions", "host",
)  # fmt: skip
"""Entries of a manifest that can explain a difference."""


def compare_runs(a: Path, b: Path, tolerance: float = 1e-3) -> RunComparison:
    """Compare two result folders box by box, from the copies with all digits where both runs have them.

    Args:
        a: First result folder.
        b: Second result folder.
        tolerance: Largest difference of x, y, w or h that counts as agreement, in pixels.

    Raises:
        FileNotFoundError: A folder is not there or has no result.
        ValueError: The tolerance is negative or NaN.
    """
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be at least 0 pixels, not {tolerance:g}")
    files_a, files_b = result_files(a), result_files(b)
    found = []
    for name in (name for name in files_a if name in files_b):
        exact = [exact_file(folder, name) for folder in (a, b)]
        files = exact if all(p.is_file() for p in exact) else [files_a[name], files_b[name]]
        found.append(_difference(name, read_boxes(files[0]), read_boxes(files[1]), tolerance))
    manifests = [read_manifest(folder) for folder in (a, b)]
    without = [folder for folder, manifest in zip((a, b), manifests, strict=True) if manifest is None]
    one, two = ({} if without else _causes(manifest or {}) for manifest in manifests)
    settings = {key: (one.get(key), two.get(key)) for key in {**one, **two} if one.get(key) != two.get(key)}
    only_a, only_b = sorted(files_a.keys() - files_b.keys()), sorted(files_b.keys() - files_a.keys())
    return RunComparison(found, only_a, only_b, settings, without)


def _causes(manifest: Mapping[str, Any]) -> dict[str, object]:
    """The `CAUSES` of a manifest, with the entries of mappings under dotted names."""
    found: dict[str, object] = {}
    for key in CAUSES:
        value = manifest.get(key)
        found |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return found


def result_files(folder: Path) -> dict[str, Path]:
    """Box files of a result folder: `<seq>.txt`, or `<seq>/<run>.txt` and `.bin` of the VOT toolkit.

    Args:
        folder: The folder.

    Returns:
        Run -> its file.

    Raises:
        FileNotFoundError: The folder is not there or has no result.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such result folder: {folder}")
    flat = [p for p in visible_files(folder, "*.txt") if not p.stem.endswith(OTHER_FILES)]
    runs = [p for p in visible_files(folder, "*/*_*") if p.stem.startswith(f"{p.parent.name}_")]
    nested = [p for p in runs if p.suffix in (".bin", ".txt") and p.stem.rpartition("_")[2].isdigit()]
    if not flat and not nested:
        expected = "<seq>.txt, or <seq>/<seq>_001.txt as of the VOT toolkit"
        raise FileNotFoundError(f"no result files ({expected}) in {folder}")
    return {path.stem: path for path in sorted(flat or nested, key=lambda p: (p.stem, p.suffix))}


def _difference(name: str, a: Boxes, b: Boxes, tolerance: float) -> SequenceDifference:
    """Compare the boxes [N, 4] and [M, 4] of one sequence over the rows that both have."""
    count = min(len(a), len(b))
    with np.errstate(invalid="ignore"):
        difference = np.abs(a[:count] - b[:count])
    difference[np.isnan(a[:count]) & np.isnan(b[:count])] = 0.0
    largest = np.nan_to_num(difference, nan=np.inf).max(axis=1, initial=0.0)
    beyond = np.flatnonzero(largest > tolerance)
    frame = int(beyond[0]) if len(beyond) else None
    # Rows that are the same overlap by 1, empty or not; where only one of them is a box, by 0.
    same = ((a[:count] == b[:count]) | (np.isnan(a[:count]) & np.isnan(b[:count]))).all(axis=1)
    overlap = np.where(same, 1.0, np.nan_to_num(iou_xywh(a[:count], b[:count]), nan=0.0))
    first = 0.0 if frame is None else float(largest[frame])
    extremes = float(largest.max(initial=0.0)), float(overlap.min(initial=1.0))
    return SequenceDifference(name, frame, first, *extremes, (len(a), len(b)))
