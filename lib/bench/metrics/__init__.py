"""Metric variants by name: `evaluate("ostrack", results, dataset="lasot") -> Scores`.

A benchmark's numbers depend on the tool that made them, so every tool is a variant of its own here.
"""

from lib.bench.metrics import got10k, matlab, pysot, pytracking, rgbt, vot_longterm, vot_multistart
from lib.bench.metrics.metric import METRICS, Metric, check_options, evaluate, parse_options
from lib.bench.metrics.scores import MetricError, Scores, SequenceResult, average_runs

__all__ = [
    "METRICS",
    "Metric",
    "MetricError",
    "Scores",
    "SequenceResult",
    "average_runs",
    "check_options",
    "evaluate",
    "got10k",
    "matlab",
    "parse_options",
    "pysot",
    "pytracking",
    "rgbt",
    "vot_longterm",
    "vot_multistart",
]
