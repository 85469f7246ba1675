"""Scores of a result folder: of the files as official tools read them, and of the boxes with all digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.bench.benchmarks import Benchmark, BenchmarkVideo
from lib.bench.metrics import METRICS, Scores, evaluate
from lib.bench.result_files import box_format
from lib.bench.results import ResultFolder


@dataclass(frozen=True)
class Scored:
    """Scores of one result folder.

    Attributes:
        benchmark: The benchmark.
        metric: Variant of `lib.bench.metrics`.
        filed: Scores of the result files, the numbers that papers of this family quote.
        exact: Scores of the copies with all digits, where the official format cuts them; else None.
        options: Of the metric, where not the usual ones.
    """

    benchmark: Benchmark
    metric: str
    filed: Scores
    exact: Scores | None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """Remarks that belong to the numbers."""
        count, complete = len(self.filed.names), self.benchmark.complete
        counted = f"these are {count} sequences, {self.benchmark.title} has {complete}" if complete else ""
        notes = [counted if count != complete else "", self.benchmark.note, self.filed.note]
        return [note for note in notes if note]

    def plain(self) -> dict[str, Any]:
        """Content of `scores.json`: percent, overall and per sequence."""
        keys = list(self.filed.headline)
        each = {key: self.filed.per_sequence(key) for key in keys}
        return {
            "benchmark": self.benchmark.name,
            "metric": self.metric,
            "metric_options": dict(self.options),
            "labels": self.filed.labels,
            "headline": self.filed.headline,
            "float_boxes": self.exact.headline if self.exact else None,
            "result_format": self.benchmark.result_format,
            "sequences": {name: {key: each[key][name] for key in keys} for name in self.filed.names},
        }


def score(
    benchmark: Benchmark,
    folder: ResultFolder,
    sequences: Sequence[BenchmarkVideo],
    metric: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Scored | None:
    """Scores of finished sequences.

    Args:
        benchmark: The benchmark.
        folder: Its results.
        sequences: Those to score.
        metric: Variant in place of the benchmark's own.
        options: Of the metric.

    Returns:
        None where only a server can score.

    Raises:
        MetricError: Sequences cannot be scored; the message names them.
    """
    variant = metric or benchmark.metric
    if not benchmark.scored or variant not in METRICS:
        return None

    def scores(exact: bool) -> Scores:
        results = [s.scored([folder.result(run, exact) for run in s.run_names]) for s in sequences]
        return evaluate(variant, results, dataset=benchmark.tag, **(options or {}))

    cut = box_format(benchmark.result_format).whole
    return Scored(benchmark, variant, scores(exact=False), scores(exact=True) if cut else None, options or {})
