"""Result files of one sequence in a folder of ours or of anybody's: found by name and layout, read in any format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.bench.benchmarks import BenchmarkVideo
from lib.bench.result_files import read_result, read_values, trajectory_file
from lib.bench.results import Result, exact_file


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
