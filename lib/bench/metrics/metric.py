"""The named metric variants and the one way to run them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import yaml

from lib.bench.metrics.scores import Join, Measurement, MetricError, Rule, Scores, SequenceResult, listed
from lib.bench.result_files import corners_to_xywh
from lib.registry import Registry, suggest


@dataclass(frozen=True, slots=True)
class Metric:
    """One variant: how a sequence is measured and how scores are read.

    measure(result, dataset=..., **options) -> Measurement. corners: the variant itself converts corner results.
    join(measurements, **options) -> measurements: for a variant whose curves need all sequences together.
    """

    about: str
    measure: Callable[..., Measurement]
    rule: Rule
    corners: bool = False
    join: Callable[..., Sequence[Measurement]] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Options of `measure` and `join` with their defaults."""
        return {**_defaults(self.measure), **(_defaults(self.join) if self.join else {})}

    def joined(self, options: dict[str, Any]) -> Join | None:
        """`join` with its options settled."""
        if self.join is None:
            return None
        return partial(self.join, **{k: v for k, v in options.items() if k in _defaults(self.join)})


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters behind the first."""
    return {p.name: p.default for p in list(inspect.signature(function).parameters.values())[1:]}


METRICS: Registry[Metric] = Registry("metric variant")


def evaluate(variant: str, sequences: Sequence[SequenceResult], **options: Any) -> Scores:
    """Scores of one tracker.

    variant: a name of `METRICS` ("ostrack", "pytracking", "matlab", "lasher", ...).
    options: `dataset` (its benchmark's name: some variants treat "lasot" and "uav" in their own way) and what the
    variant's `measure` and `join` take besides (`METRICS[variant].options`).
    Raises MetricError naming every sequence that cannot be scored, TypeError for an unknown option.
    """
    metric = METRICS[variant]
    options = {k: v for k, v in options.items() if k != "dataset" or k in metric.options}
    check_options(variant, options)
    if not sequences:
        raise MetricError("no sequence to evaluate")
    own = {k: v for k, v in options.items() if k in _defaults(metric.measure)}
    measured, troubles = [], []
    for result in sequences:
        try:
            measured.append(metric.measure(_checked(result, metric.corners), **own))
        except MetricError as error:
            troubles.append(str(error))
    if troubles:
        raise MetricError(f"{len(troubles)} of {len(sequences)} sequences cannot be scored: {listed(troubles, 5)}")
    return Scores.of(variant, metric.rule, [s.name for s in sequences], measured, metric.joined(options))


def check_options(variant: str, options: Mapping[str, Any]) -> None:
    """Raises TypeError, with the nearest name, for an option that the variant does not have."""
    known = METRICS[variant].options
    for name in options:
        if name not in known:
            told = ", ".join(sorted(k for k in known if k != "dataset")) or "none"
            raise TypeError(f"metric {variant!r} has no option {name!r}{suggest(name, list(known))} (known: {told})")


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """``["low=20", "high=45"]`` of a command line as options: numbers, true and false are such, all else is text."""
    options = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not name or not sign:
            raise MetricError(f"metric option {pair!r}: expected NAME=VALUE, such as low=115")
        options[name] = yaml.safe_load(value)
    return options


def _checked(result: SequenceResult, corners: bool) -> SequenceResult:
    shape = result.prediction_xywh.shape
    if len(shape) != 2 or shape[1] not in (4, 8):
        raise MetricError(f"{result.name}: a result is [frames, 4] or [frames, 8], not {list(shape)}")
    if not len(result.gt_xywh):
        raise MetricError(f"{result.name}: the ground truth is empty")
    if shape[0] and shape[1] == 4 and np.isnan(result.prediction_xywh[0]).all() and not result.passes:
        # The VOT toolkit's mark of the initialisation: the tracker was given this box.
        result = replace(result, prediction_xywh=np.concatenate([result.gt_xywh[:1], result.prediction_xywh[1:]]))
    if shape[1] == 8 and not corners:
        return replace(result, prediction_xywh=corners_to_xywh(result.prediction_xywh))
    return result
