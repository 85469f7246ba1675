"""Result folders of any tracker, read and scored for a comparison."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib.bench.benchmarks import Benchmark, BenchmarkVideo
from lib.bench.compare import OTHER_FILES
from lib.bench.found_results import find_results, read_results
from lib.bench.metrics import METRICS, MetricError, Scores, average_runs, evaluate
from lib.bench.metrics.metric import listed
from lib.bench.report import TrackerRun, build_report, by_attribute, comparison_tables, export, on_common_sequences
from lib.bench.results import read_manifest
from lib.data import Boxes, Video
from lib.viz import Table


@dataclass(frozen=True)
class ResultSource:
    """Results of one tracker.

    Attributes:
        label: Name of the tracker in tables.
        folders: Result folders; several are repetitions, whose scores are averaged.
    """

    label: str
    folders: tuple[Path, ...]

    @classmethod
    def parse(cls, text: str) -> ResultSource:
        """Read a value of `--results`.

        Args:
            text: ``LABEL=DIR[,DIR...]``, or ``DIR``, whose last part is the label then.

        Raises:
            ValueError: It is neither.
        """
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
        dataset: Name of the data set; some variants treat "lasot" and "uav" in their own way.
        exact: Take the copies with all digits (`float/`) where a folder has them.
        options: Of the metric.
    """

    variant: str
    dataset: str = ""
    exact: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, benchmark: Benchmark, variant: str | None = None, exact: bool = False, **options: Any) -> Scoring:
        """The scoring of a benchmark.

        Args:
            benchmark: The benchmark.
            variant: In place of its own metric.
            exact: See `Scoring`.
            options: Of the metric.

        Raises:
            MetricError: Only a server has its ground truth.
        """
        if not benchmark.scored:
            raise MetricError(f"{benchmark.title} is scored by its server; make a submission instead")
        return cls(variant or benchmark.metric, benchmark.tag, exact, options)


@dataclass(frozen=True)
class Comparison:
    """Trackers on the sequences of a benchmark.

    Attributes:
        title: Name of the benchmark.
        runs: The trackers, on the sequences that all of them have scores of.
        sequences: All sequences that were asked for.
        videos: Their frames, for the players of the report; may be empty.
    """

    title: str
    runs: Sequence[TrackerRun]
    sequences: Sequence[BenchmarkVideo]
    videos: Sequence[Video] = ()

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Tracker -> name of a score -> percent."""
        return {run.name: {run.scores.labels[k]: v for k, v in run.scores.headline.items()} for run in self.runs}

    @property
    def unscored(self) -> dict[tuple[str, str], str]:
        """Tracker and sequence that the metric cannot score -> reason."""
        return {(run.name, name): reason for run in self.runs for name, reason in run.scores.unscored.items()}

    @property
    def attributes(self) -> dict[str, list[str]]:
        """Attribute -> compared sequences that have it."""
        return by_attribute(self.sequences, self.runs[0].scores.names)

    @property
    def tables(self) -> dict[str, Table]:
        """File stem -> table; "sequences" has a row per sequence."""
        return comparison_tables(self.runs, self.attributes)

    @property
    def notes(self) -> list[str]:
        """What was compared, and what was left out."""
        unscored, scores = self.unscored, self.runs[0].scores
        known = {*scores.names, *(name for _, name in unscored)}
        left_out = [s.name for s in self.sequences if s.name not in known]
        about = METRICS[scores.variant].about
        notes = [f"{self.title}: {len(scores.names)} sequences, metric variant {scores.variant} ({about})"]
        if left_out:
            count = f"{len(left_out)} sequences that some tracker has no result for"
            notes.append(f"left out: {count}: {', '.join(left_out)}")
        for (tracker, name), reason in unscored.items():
            notes.append(f"left out: {name} of {tracker} cannot be scored: {reason}")
        return [*notes, *(f"note: {run.name}: {run.scores.note}" for run in self.runs if run.scores.note)]

    def __str__(self) -> str:
        tables = [table.text() for stem, table in self.tables.items() if stem != "sequences"]
        return "\n\n".join(["\n".join(self.notes), *tables])

    def write_report(self, folder: Path, title: str | None = None, training_log: Path | None = None) -> Path:
        """Write tables, plots and `report.html`.

        Args:
            folder: Where to.
            title: Heading of the page.
            training_log: JSONL log of a training.

        Returns:
            The page.
        """
        export(self.runs, self.attributes, folder, self.title)
        heading = title or f"{self.runs[0].name} on {self.title}"
        return build_report(heading, self.title, self.runs, self.videos, self.attributes, training_log, folder)


def trackers_in(source: ResultSource, sequences: Sequence[BenchmarkVideo]) -> list[ResultSource]:
    """The trackers of a folder: itself, or, where it has no results, the folders in it that have some.

    Args:
        source: The folder.
        sequences: Sequences that results are looked for.
    """

    def has_results(folder: Path) -> bool:
        return any(find_results(folder, sequence) for sequence in sequences)

    folder = source.folders[0]
    if len(source.folders) > 1 or not folder.is_dir() or has_results(folder):
        return [source]
    inside = [ResultSource(f.name, (f,)) for f in sorted(folder.iterdir()) if f.is_dir() and has_results(f)]
    return inside or [source]


def load_runs(
    sources: Sequence[ResultSource], sequences: Sequence[BenchmarkVideo], scoring: Scoring, skip_missing: bool = False
) -> list[TrackerRun]:
    """Read and score every tracker's results on the same sequences.

    Args:
        sources: The trackers.
        sequences: Sequences to score.
        scoring: Metric and its options.
        skip_missing: Leave out sequences that some tracker lacks, for all trackers.

    Returns:
        One run per source, in their order, on the sequences that all of them have scores of.

    Raises:
        ValueError: Two trackers have the same label.
        FileNotFoundError: A folder is not there, or lacks sequences; the message names them.
        ResultFileError: A file cannot be read.
        MetricError: Results cannot be scored.
    """
    if len({s.label for s in sources}) != len(sources):
        raise ValueError(f"two trackers have the same label: {', '.join(s.label for s in sources)} (use LABEL=FOLDER)")
    lacking: dict[Path, list[str]] = {}
    used: dict[Path, set[Path]] = {}
    for source in sources:
        for folder in source.folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder}: no such folder (results of {source.label})")
            files = {s.name: find_results(folder, s, scoring.exact) for s in sequences}
            lacking[folder] = [name for name, found in files.items() if not found]
            used[folder] = {path for found in files.values() for path in found.values()}
    gone = {name for names in lacking.values() for name in names}
    if gone and not skip_missing:
        complaints = []
        for folder, names in lacking.items():
            if names:
                count = f"no result for {len(names)} of {len(sequences)} sequences"
                complaints.append(f"{folder}: {count}: {listed(names)}{_unused(folder, used[folder])}")
        raise FileNotFoundError("; ".join(complaints) + " (--skip_missing leaves them out for all trackers)")
    kept = [s for s in sequences if s.name not in gone]
    if not kept:
        raise FileNotFoundError(f"no sequence has a result of every tracker ({', '.join(map(str, lacking))})")
    return on_common_sequences([_load_run(source, kept, scoring) for source in sources])


def _unused(folder: Path, used: Container[Path]) -> str:
    """The files in a result folder that belong to no sequence, for the message that some have none."""
    files = [p for p in sorted(folder.rglob("*.txt")) if p not in used and not p.stem.endswith(OTHER_FILES)]
    names = [str(p.relative_to(folder)) for p in files if p.parent.name != "float"]
    return f"; files of no sequence are there: {listed(names)}" if names else ""


def _load_run(source: ResultSource, sequences: Sequence[BenchmarkVideo], scoring: Scoring) -> TrackerRun:
    """Boxes of a tracker's first folder, and scores over all of its folders."""
    scores: list[Scores] = []
    boxes: dict[str, Boxes] = {}
    for folder in source.folders:
        results = [s.scored(read_results(folder, s, scoring.exact)) for s in sequences]
        if not boxes:
            for result in results:
                boxes[result.name] = rows = result.prediction_xywh
                if result.passes:  # the first run as one row per frame, NaN where it has not been
                    boxes[result.name] = np.full((len(result.gt_xywh), 4), np.nan)
                    boxes[result.name][list(result.passes[0])] = rows[: len(result.passes[0])]
        try:
            scores.append(evaluate(scoring.variant, results, dataset=scoring.dataset, **scoring.options))
        except MetricError as error:
            raise MetricError(f"{source.label} ({folder}): {error}") from None
    whole = scores[0] if len(scores) == 1 else average_runs(scores)
    boxes = {name: boxes[name] for name in whole.names}
    return TrackerRun(source.label, boxes, whole, read_manifest(source.folders[0]) or {})


def with_attributes(sequences: Sequence[BenchmarkVideo], attributes: Sequence[str]) -> list[BenchmarkVideo]:
    """Select sequences by attributes.

    Args:
        sequences: All sequences.
        attributes: Attributes that a sequence must have all of, in any case.

    Raises:
        MetricError: An attribute is unknown (the message has the known ones), or no sequence has all of them.
    """
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
