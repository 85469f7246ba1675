"""Result folders, ours or any other tracker's, read and scored for a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lib.bench.manifest import read_manifest
from lib.bench.metrics import MetricError, Scores, SequenceResult, average_runs, evaluate
from lib.bench.metrics.scores import listed
from lib.bench.report.runs import TrackerRun
from lib.bench.result_files import read_column, read_rows
from lib.bench.results import exact_file
from lib.data.types import Boxes


class Scorable(Protocol):
    """A sequence that knows what its metric must know (`BenchmarkSequence`, `TextSequence`)."""

    @property
    def name(self) -> str: ...

    @property
    def attributes(self) -> frozenset[str]: ...

    def scored(self, boxes_xywh: Boxes, seconds: NDArray[np.float64] | None = None) -> SequenceResult: ...


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
    """How results are scored. exact: take the copies with all digits (`float/`) where a folder has them."""

    variant: str
    dataset: str = ""
    exact: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def find_results(folder: Path, name: str, exact: bool = False) -> list[Path]:
    """The files of one sequence: `<seq>.txt`, `test_<seq>.txt`, or GOT-10k's `<seq>/<seq>_001.txt` and further runs."""
    if exact and exact_file(folder, name).is_file():
        return [exact_file(folder, name)]
    for candidate in (f"{name}.txt", f"test_{name}.txt"):
        if (folder / candidate).is_file():
            return [folder / candidate]
    return sorted(p for p in (folder / name).glob(f"{name}_*.txt") if p.stem.removeprefix(f"{name}_").isdigit())


def load_runs(
    sources: Sequence[ResultSource], sequences: Sequence[Scorable], protocol: Scoring, skip_missing: bool = False
) -> list[TrackerRun]:
    """Every tracker's results and scores, on the same sequences.

    A sequence that some tracker lacks is an error that names it, or left out for all of them with `skip_missing`.
    Raises FileNotFoundError, ResultFileError, MetricError.
    """
    if len({s.label for s in sources}) != len(sources):
        raise ValueError(f"two trackers have the same label: {', '.join(s.label for s in sources)} (use LABEL=FOLDER)")
    lacking = {
        folder: [s.name for s in sequences if not find_results(folder, s.name, protocol.exact)]
        for source in sources
        for folder in _existing(source)
    }
    gone = {name for names in lacking.values() for name in names}
    if gone and not skip_missing:
        raise FileNotFoundError(
            "; ".join(
                f"{folder}: no result for {len(names)} of {len(sequences)} sequences: {listed(names)}"
                for folder, names in lacking.items()
                if names
            )
            + " (--skip_missing leaves them out for all trackers)"
        )
    kept = [s for s in sequences if s.name not in gone]
    if not kept:
        raise FileNotFoundError(f"no sequence has a result of every tracker ({', '.join(map(str, lacking))})")
    return [_run(source, kept, protocol) for source in sources]


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


def _existing(source: ResultSource) -> tuple[Path, ...]:
    for folder in source.folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder (results of {source.label})")
    return source.folders


def _run(source: ResultSource, sequences: Sequence[Scorable], protocol: Scoring) -> TrackerRun:
    scores: list[Scores] = []
    boxes: dict[str, Boxes] = {}
    for folder in source.folders:
        results = [_result(folder, s, protocol.exact) for s in sequences]
        boxes = boxes or {r.name: r.prediction_xywh for r in results}
        try:
            scores.append(evaluate(protocol.variant, results, dataset=protocol.dataset, **protocol.options))
        except MetricError as error:
            raise MetricError(f"{source.label} ({folder}): {error}") from None
    whole = scores[0] if len(scores) == 1 else average_runs(scores)
    return TrackerRun(source.label, boxes, whole, read_manifest(source.folders[0]) or {})


def _result(folder: Path, sequence: Scorable, exact: bool) -> SequenceResult:
    files = find_results(folder, sequence.name, exact)
    times = files[0].parent / f"{sequence.name}_time.txt"
    nearby = [times, folder / f"{sequence.name}_time.txt"]
    seconds = next((read_column(p) for p in nearby if p.is_file()), None)
    first, *others = (read_rows(path) for path in files)
    result = sequence.scored(first, seconds)
    return replace(result, repetitions=tuple(others)) if others else result
