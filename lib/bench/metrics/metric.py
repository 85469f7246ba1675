"""The named metric variants and the one way to run them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lib.bench.metrics.scores import Measurement, MetricError, Rule, Scores, SequenceResult, listed
from lib.bench.result_files import corners_to_xywh
from lib.registry import Registry, suggest


@dataclass(frozen=True, slots=True)
class Metric:
    """One variant: how a sequence is measured and how scores are read.

    measure(result, dataset=..., **options) -> Measurement. corners: the variant itself converts corner results.
    """

    about: str
    measure: Callable[..., Measurement]
    rule: Rule
    corners: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options of `measure` with their defaults."""
        given = list(inspect.signature(self.measure).parameters.values())[1:]
        return {p.name: p.default for p in given}


METRICS: Registry[Metric] = Registry("metric variant")


def evaluate(variant: str, sequences: Sequence[SequenceResult], **options: Any) -> Scores:
    """Scores of one tracker.

    variant: a name of `METRICS` ("ostrack", "pytracking", "matlab", "lasher", ...).
    options: `dataset` (its benchmark's name: some variants treat "lasot" and "uav" in their own way) and what the
    variant's `measure` takes besides (`METRICS[variant].options`).
    Raises MetricError naming every sequence that cannot be scored, TypeError for an unknown option.
    """
    metric = METRICS[variant]
    options = {k: v for k, v in options.items() if k != "dataset" or k in metric.options}
    for name in options:
        if name not in metric.options:
            known = sorted(metric.options)
            raise TypeError(f"metric {variant!r} has no option {name!r}{suggest(name, known)} (known: {known})")
    if not sequences:
        raise MetricError("no sequence to evaluate")
    measured, troubles = [], []
    for result in sequences:
        try:
            measured.append(metric.measure(_checked(result, metric.corners), **options))
        except MetricError as error:
            troubles.append(str(error))
    if troubles:
        raise MetricError(f"{len(troubles)} of {len(sequences)} sequences cannot be scored: {listed(troubles, 5)}")
    return Scores.of(variant, metric.rule, [s.name for s in sequences], measured)


def _checked(result: SequenceResult, corners: bool) -> SequenceResult:
    shape = result.prediction_xywh.shape
    if len(shape) != 2 or shape[1] not in (4, 8):
        raise MetricError(f"{result.name}: a result is [frames, 4] or [frames, 8], not {list(shape)}")
    if not len(result.gt_xywh):
        raise MetricError(f"{result.name}: the ground truth is empty")
    if shape[1] == 8 and not corners:
        return replace(result, prediction_xywh=corners_to_xywh(result.prediction_xywh))
    return result
