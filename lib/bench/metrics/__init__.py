"""Metric variants by name: `evaluate("ostrack", results, dataset="lasot") -> Scores`.

A benchmark's numbers depend on the tool that made them, so every tool is a variant of its own here.
"""

from lib.bench.metrics import got10k, matlab, pysot, pytracking, rgbt, vot_longterm, vot_multistart
from lib.bench.metrics.got10k import speed
from lib.bench.metrics.metric import METRICS, Metric, check_options, evaluate, parse_options
from lib.bench.metrics.scores import MetricError, Scores, SequenceResult, average_runs
from lib.bench.metrics.vot_region import vot_overlap
