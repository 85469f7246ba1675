"""Metric variants by name: `evaluate("ostrack", results, dataset="lasot") -> Scores`.

A benchmark's numbers depend on the toolkit that computed them, so every toolkit is a variant of its own.
"""

from pathlib import Path

from lib.bench.metrics import got10k, one_pass, supervised, vot
from lib.bench.metrics.curves import overlap
from lib.bench.metrics.got10k import speed
from lib.bench.metrics.metric import (
    METRICS,
    MetricSpec,
    Score,
    Scores,
    SequenceCurves,
    average_runs,
    check_options,
    evaluate,
    parse_options,
    unscorable,
)
from lib.bench.metrics.polygons import polygon_overlap
from lib.bench.metrics.reliability import Reliability, reliability
from lib.bench.metrics.sequence_result import MetricError, SequenceResult
from lib.bench.metrics.vot import failure_frame, vot_overlap
from lib.files import yaml_rows

_FUNCTIONS = {**vars(got10k), **vars(one_pass), **vars(supervised), **vars(vot)}
for _name, _row in yaml_rows(Path(__file__).with_name("metrics.yaml")).items():
    _row["scores"] = {key: Score(*score) for key, score in _row["scores"].items()}
    _row["derived"] = {curve: _FUNCTIONS[function] for curve, function in _row.get("derived", {}).items()}
    _row |= {key: _FUNCTIONS[_row[key]] for key in ("measure", "aggregator", "note") if key in _row}
    METRICS.register(_name)(MetricSpec(**_row))
