"""Result folders of any tracker, read and scored for a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lib.bench.metrics import MetricError, Scores, SequenceResult, average_runs, evaluate
from lib.bench.metrics.metric import listed
from lib.bench.report.comparison import TrackerRun
from lib.bench.result_files import read_rows
from lib.bench.results import Result, exact_file, read_manifest
from lib.bench.trajectories import is_trajectory, read_regions, read_values, trajectory_file
from lib.data import Boxes


class Scorable(Protocol):
    """A sequence that knows what its metric needs (`BenchmarkVideo`).

    run_names: of its runs; one, named like the sequence, except for VOT.
    """

    @property
    def name(self) -> str: ...

    @property
    def run_names(self) -> list[str]: ...

    @property
    def attributes(self) -> frozenset[str]: ...

    def scored(self, runs: Sequence[Result]) -> SequenceResult: ...


@dataclass(frozen=True)
class ResultSource:
    """A tracker's name and its result folders: several are runs of the same tracker, and are averaged."""

    label: str
    folders: tuple[Path, ...]

    @classmethod
    def parse(cls, text: str) -> ResultSource:
        """`"LABEL=DIR[,DIR...]"` or `"DIR"`, whose last part then is the label."""
        label, sign, folders = text.partition("=")
        paths = tuple(Path(f).expanduser() for f in (folders if sign else text).split(",") if f)
        if not paths or (sign and not label):
            raise ValueError(f"--results {text!r}: expected FOLDER or LABEL=FOLDER[,FOLDER...]")
        return cls(label if sign else paths[0].name, paths)


@dataclass(frozen=True)
class Scoring:
    """Options of a comparison.

    Attributes:
        variant: Metric.
        dataset: The name that the metric is given; some variants treat "lasot" and "uav" in their own way.
        exact: Take the copies with all digits (`float/`) where a folder has them.
        options: Of the metric.
    """

    variant: str
    dataset: str = ""
    exact: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def load_runs(
    sources: Sequence[ResultSource], sequences: Sequence[Scorable], scoring: Scoring, skip_missing: bool = False
) -> list[TrackerRun]:
    """Every tracker's results and scores, on the same sequences.

    A sequence that some tracker lacks is an error that names it, or left out for all of them with `skip_missing`.
    Raises FileNotFoundError, ResultFileError, MetricError.
    """
    if len({s.label for s in sources}) != len(sources):
        raise ValueError(f"two trackers have the same label: {', '.join(s.label for s in sources)} (use LABEL=FOLDER)")
    lacking: dict[Path, list[str]] = {}
    for source in sources:
        for folder in source.folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder}: no such folder (results of {source.label})")
            lacking[folder] = [s.name for s in sequences if not find_results(folder, s, scoring.exact)]
    gone = {name for names in lacking.values() for name in names}
    if gone and not skip_missing:
        complaints = [
            f"{folder}: no result for {len(names)} of {len(sequences)} sequences: {listed(names)}"
            for folder, names in lacking.items()
            if names
        ]
        raise FileNotFoundError("; ".join(complaints) + " (--skip_missing leaves them out for all trackers)")
    kept = [s for s in sequences if s.name not in gone]
    if not kept:
        raise FileNotFoundError(f"no sequence has a result of every tracker ({', '.join(map(str, lacking))})")
    return [_load_run(source, kept, scoring) for source in sources]


def _load_run(source: ResultSource, sequences: Sequence[Scorable], scoring: Scoring) -> TrackerRun:
    scores: list[Scores] = []
    boxes: dict[str, Boxes] = {}
    for folder in source.folders:
        results = [s.scored(read_results(folder, s, scoring.exact)) for s in sequences]
        boxes = boxes or {r.name: _by_frame(r) for r in results}
        try:
            scores.append(evaluate(scoring.variant, results, dataset=scoring.dataset, **scoring.options))
        except MetricError as error:
            raise MetricError(f"{source.label} ({folder}): {error}") from None
    whole = scores[0] if len(scores) == 1 else average_runs(scores)
    return TrackerRun(source.label, boxes, whole, read_manifest(source.folders[0]) or {})


def _by_frame(result: SequenceResult) -> Boxes:
    """The first run as one row per frame of the sequence, NaN where it has not been."""
    if not result.passes:
        return result.prediction_xywh
    rows = np.full((len(result.gt_xywh), 4), np.nan)
    rows[list(result.passes[0])] = result.prediction_xywh[: len(result.passes[0])]
    return rows


def find_results(folder: Path, sequence: Scorable, exact: bool = False) -> dict[str, Path]:
    """The files of one sequence's runs by the runs' names; empty where one of them is missing.

    They are `<seq>.txt`, `test_<seq>.txt`, the VOT toolkit's `<seq>/<run>.txt` or `.bin`, or GOT-10k's
    `<seq>/<seq>_001.txt` and further repetitions.
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
    return {path.stem: path for path in repeated}


def read_results(folder: Path, sequence: Scorable, exact: bool = False) -> list[Result]:
    """The runs of one sequence, with confidence and time as far as there are files of them.

    Raises ResultFileError naming file and line; FileNotFoundError where `find_results` finds nothing.
    """
    name = sequence.name
    files = find_results(folder, sequence, exact)
    if not files:
        raise FileNotFoundError(f"{folder}: no result for {name}")
    results = []
    for run, path in files.items():
        rows = read_regions(path) if is_trajectory(path) else read_rows(path)
        # Without their endings: the toolkits' folders, then the flat ones.
        stems = (f"{name}/{run}", f"{name}/{name}", run, name, f"scores/{name}", f"times/{name}")
        columns = []
        for endings in (("_confidence.value", "_confidence.txt", "_score.txt"), ("_time.value", "_time.txt")):
            candidates = [folder / f"{stem}{ending}" for stem in stems for ending in endings]
            file = next((p for p in candidates if p.is_file()), None)
            columns.append(np.zeros(0) if file is None else read_values(file))
        results.append(Result(run, rows, columns[0], columns[1]))
    return results


def with_attributes(sequences: Sequence[Scorable], attributes: Sequence[str]) -> list[Scorable]:
    """The sequences that have all of these attributes (case-insensitive); MetricError naming the known ones."""
    known = {a.lower() for s in sequences for a in s.attributes}
    for attribute in attributes:
        if attribute.lower() not in known:
            raise MetricError(
                f"no sequence has the attribute {attribute!r} (known: {', '.join(sorted(known)) or 'none'})"
            )
    wanted = {a.lower() for a in attributes}
    kept = [s for s in sequences if wanted <= {a.lower() for a in s.attributes}]
    if not kept:
        raise MetricError(f"no sequence has all of the attributes {', '.join(attributes)}")
    return kept
