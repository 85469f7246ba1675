"""Scores of a result folder: of the files as official tools read them, and of the boxes with all digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib.bench.benchmarks import Benchmark, BenchmarkSequence
from lib.bench.metrics import METRICS, Scores, evaluate
from lib.bench.result_files import box_format
from lib.bench.results import ResultFolder


@dataclass(frozen=True)
class Scored:
    """filed: from `<seq>.txt`, the number that papers of this family quote. exact: from the float copies, where the
    official format cuts digits; else None.
    """

    benchmark: Benchmark
    metric: str
    filed: Scores
    exact: Scores | None

    def plain(self) -> dict[str, Any]:
        """For `scores.json`: percent, overall and per sequence."""
        keys = list(self.filed.headline)
        each = {key: self.filed.per_sequence(key) for key in keys}
        return {
            "benchmark": self.benchmark.name,
            "metric": self.metric,
            "labels": self.filed.labels,
            "headline": self.filed.headline,
            "float_boxes": self.exact.headline if self.exact else None,
            "result_format": self.benchmark.result_format,
            "sequences": {name: {key: each[key][name] for key in keys} for name in self.filed.names},
        }


def score(
    benchmark: Benchmark, folder: ResultFolder, sequences: Sequence[BenchmarkSequence], metric: str | None = None
) -> Scored | None:
    """Scores of finished sequences with `metric` or the benchmark's own; None where only a server can score.

    Raises MetricError naming the sequences that cannot be scored.
    """
    variant = metric or benchmark.metric
    if not benchmark.scored or variant not in METRICS:
        return None

    def of(exact: bool) -> Scores:
        results = [s.scored(folder.read(s.name, exact), folder.seconds(s.name)) for s in sequences]
        return evaluate(variant, results, dataset=benchmark.tag)

    cut = box_format(benchmark.result_format).whole
    return Scored(benchmark, variant, of(exact=False), of(exact=True) if cut else None)
