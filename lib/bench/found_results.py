"""Results and ground truth in folders of anybody's: found by name and layout, read in any format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lib.bench.benchmarks import BenchmarkVideo
from lib.bench.result_files import ResultFileError, read_column, read_result, read_rows, read_values, trajectory_file
from lib.bench.results import Result, exact_file
from lib.data import opposite_corners_to_xywh
from lib.data.datasets import positive

SINGLE = ("groundtruth.txt", "groundtruth_rect.txt", "init.txt")
DOUBLE = (("visible.txt", "infrared.txt"), ("groundTruth_v.txt", "groundTruth_i.txt"))
"""Names of box files in a sequence's folder: one file, or one for each of two modalities."""


def find_results(folder: Path, sequence: BenchmarkVideo, exact: bool = False) -> dict[str, Path]:
    """Find the box files of one sequence.

    They are `<seq>.txt`, `test_<seq>.txt`, the VOT toolkit's `<seq>/<run>.txt` or `.bin`, or GOT-10k's
    `<seq>/<seq>_001.txt` and further repetitions. Without them, `<name>.txt` by a name of the sequence in another
    toolkit, or in other case where only one file has it.

    Args:
        folder: Result folder.
        sequence: The sequence.
        exact: Take the copies with all digits where there are any.

    Returns:
        Run -> file; empty where a run has none.
    """
    name, runs = sequence.name, sequence.run_names
    copies = {run: exact_file(folder, run) for run in runs}
    if exact and all(path.is_file() for path in copies.values()):
        return copies
    if runs != [name]:
        kept = {run: path for run in runs if (path := trajectory_file(folder / name, run))}
        if kept or len(runs) > 1:
            return kept if len(kept) == len(runs) else {}
    for candidate in (f"{name}.txt", f"test_{name}.txt"):
        if (folder / candidate).is_file():
            return {name: folder / candidate}
    repeated = sorted(p for p in (folder / name).glob(f"{name}_*.txt") if p.stem.removeprefix(f"{name}_").isdigit())
    if repeated:
        return {path.stem: path for path in repeated}
    for other in sequence.other_names:
        if (folder / f"{other}.txt").is_file():
            return {name: folder / f"{other}.txt"}
    wanted = {f"{spelling}.txt".lower() for spelling in (name, *sequence.other_names)}
    alike = [p for p in folder.glob("*.txt") if p.name.lower() in wanted]
    return {name: alike[0]} if len(alike) == 1 else {}


def read_results(folder: Path, sequence: BenchmarkVideo, exact: bool = False) -> list[Result]:
    """Read the runs of one sequence, with confidence and time as far as there are files of them.

    Args:
        folder: Result folder.
        sequence: The sequence.
        exact: Take the copies with all digits where there are any.

    Raises:
        FileNotFoundError: There is no result.
        ResultFileError: A file cannot be read; the message names the line.
    """
    name = sequence.name
    files = find_results(folder, sequence, exact)
    if not files:
        raise FileNotFoundError(f"{folder}: no result for {name}")
    results = []
    for run, path in files.items():
        # Without their endings: the toolkits' folders, then the flat ones.
        own = path.stem if run == name else name
        stems = (f"{name}/{run}", f"{name}/{name}", run, name, own, f"scores/{own}", f"times/{own}")
        columns = []
        for endings in (("_confidence.value", "_confidence.txt", "_score.txt"), ("_time.value", "_time.txt")):
            candidates = [folder / f"{stem}{ending}" for stem in stems for ending in endings]
            file = next((p for p in candidates if p.is_file()), None)
            columns.append(np.zeros(0) if file is None else read_values(file))
        results.append(Result(run, read_result(path), columns[0], columns[1]))
    return results


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
