"""Ground truth as a folder of text files, to compare results if the benchmark is not on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.bench.benchmarks import BenchmarkVideo
from lib.bench.result_files import ResultFileError, read_column, read_rows
from lib.data import opposite_corners_to_xywh
from lib.data.datasets import positive

SINGLE = ("groundtruth.txt", "groundtruth_rect.txt", "init.txt")
DOUBLE = (("visible.txt", "infrared.txt"), ("groundTruth_v.txt", "groundTruth_i.txt"))
"""Names of box files in a sequence's folder: one file, or one for each of two modalities."""


def read_truth(folder: Path, absent: Path | None = None) -> list[BenchmarkVideo]:
    """The sequences of a folder, without pictures: `<seq>.txt`, `<seq>/groundtruth.txt`, or a file per modality.

    Args:
        folder: Folder of ground truth, x, y, w, h in image pixels per line (GTOT: two opposite corners).
        absent: Folder of `<seq>.txt` with one label per frame, 1 where the target is absent.

    Raises:
        FileNotFoundError: Nothing is found.
        ResultFileError: A file is not an annotation.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder (expected <sequence>.txt files or <sequence>/groundtruth.txt)"
        )
    files = {path.stem: [path] for path in sorted(folder.glob("*.txt"))}
    if not files:
        layouts = (*DOUBLE, *((name,) for name in SINGLE))
        for inner in sorted(folder.iterdir()):
            complete = (names for names in layouts if all((inner / name).is_file() for name in names))
            if found := next(complete, ()):
                files[inner.name] = [inner / name for name in found]
    if not files:
        raise FileNotFoundError(f"{folder}: no ground truth (expected <sequence>.txt or <sequence>/groundtruth.txt)")
    return [_read_sequence(name, paths, absent) for name, paths in files.items()]


def _read_sequence(name: str, files: list[Path], absent: Path | None) -> BenchmarkVideo:
    """One sequence, from a file per modality and the labels of its name in `absent`."""
    truths = []
    for path in files:
        rows = read_rows(path)
        if rows.shape[1] != 4:
            raise ResultFileError(f"{path}: {rows.shape[1]} numbers a line, expected 4 (x, y, w, h)")
        truths.append(opposite_corners_to_xywh(rows) if path.name.startswith("groundTruth_") else rows)  # GTOT
    present = None
    if absent is not None:
        labels = read_column(absent / f"{name}.txt")
        if len(labels) != len(truths[0]):
            raise ResultFileError(f"{absent / name}.txt: {len(labels)} labels for {len(truths[0])} frames")
        present = labels == 0
    valid = positive(truths[0])

    def no_pictures(index: int) -> Any:
        raise FileNotFoundError(f"{files[0]} is ground truth without pictures; there is no frame {index}")

    second = truths[1] if len(truths) > 1 else None
    return BenchmarkVideo(
        name, truths[0], valid, valid, no_pictures, no_pictures, present=present, second_boxes_xywh=second
    )
