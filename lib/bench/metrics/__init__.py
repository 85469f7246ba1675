"""Metric variants by name: `evaluate("ostrack", results, dataset="lasot") -> Scores`.

A benchmark's numbers depend on the toolkit that computed them, so every toolkit is a variant of its own.
"""

from lib.bench.metrics import got10k, one_pass, vot
from lib.bench.metrics.got10k import speed
from lib.bench.metrics.metric import (
    METRICS,
    MetricError,
    MetricSpec,
    Score,
    Scores,
    SequenceCurves,
    SequenceResult,
    average_runs,
    check_options,
    evaluate,
    parse_options,
    unscorable,
)
from lib.bench.metrics.vot import failure_frame, vot_overlap
