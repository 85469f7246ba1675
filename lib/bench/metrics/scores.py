"""What goes into a metric (`SequenceResult`) and what comes out (`Scores`)."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lib.data.types import Boxes, Mask

Floats = NDArray[np.float64]


class MetricError(ValueError):
    """Results or ground truth that a metric cannot use; the message names the sequences."""


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """One tracker's result on one sequence, with what the metric must know of the sequence.

    gt_xywh: [N, 4] ground truth in image pixels. prediction_xywh: [M, 4], or [M, 8] corners x1 y1 x2 y1 x2 y2 x1 y2.
    visible: [N] bool, False where the target is absent; None where the data set does not say.
    second_gt_xywh: [N, 4] ground truth of the second modality (GTOT, RGBT234).
    image_size_wh: picture size in pixels, cover: [N] visible share (both GOT-10k).
    repetitions: further runs of the tracker, [M, 4] each (GOT-10k). seconds: [M] time per frame.
    """

    name: str
    gt_xywh: Boxes
    prediction_xywh: Boxes
    visible: Mask | None = None
    second_gt_xywh: Boxes | None = None
    image_size_wh: tuple[int, int] | None = None
    cover: Floats | None = None
    repetitions: tuple[Boxes, ...] = ()
    seconds: Floats | None = None

    def cut(self, shorter: str = "error") -> Boxes:
        """The prediction with as many rows as the ground truth; rows beyond it are dropped.

        shorter: "error" raises MetricError when rows lack, "zeros" appends empty boxes.
        """
        n = len(self.gt_xywh)
        rows = self.prediction_xywh[:n]
        lacking = n - len(rows)
        if lacking and shorter == "error":
            raise MetricError(f"{self.name}: {len(rows)} rows for {n} frames")
        return np.concatenate([rows, np.zeros((lacking, rows.shape[1]))]) if lacking else rows.copy()


@dataclass(frozen=True, slots=True)
class Measurement:
    """One sequence, measured: shares per threshold by curve name, plain values by name, frames behind them."""

    curves: Mapping[str, Floats]
    values: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0


class Aggregate(enum.Enum):
    """How sequences become one number."""

    MEAN = "every sequence counts the same"
    MEAN_NONEMPTY = "every sequence counts the same, those whose curve is zero everywhere are left out"
    POOLED = "every frame counts the same"


@dataclass(frozen=True, slots=True)
class Reading:
    """A score as it is read off a curve: the mean of its points, the area below it, or the value at one threshold."""

    label: str
    curve: str
    at: int | str = "mean"

    def of(self, curve: Floats) -> Floats:
        """[..., T] shares -> [...] in percent."""
        if self.at == "mean":
            return 100.0 * curve.mean(axis=-1)
        if self.at == "area":
            return 100.0 * ((curve[..., 1:] + curve[..., :-1]) / 2).mean(axis=-1)
        return 100.0 * curve[..., int(self.at)]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a metric variant reads its scores: readings by key (the first one ranks trackers) and the aggregation."""

    readings: Mapping[str, Reading]
    thresholds: Mapping[str, Floats]
    aggregate: Aggregate = Aggregate.MEAN


@dataclass(frozen=True)
class Scores:
    """A tracker's scores on a set of sequences.

    names: S sequence names. curves: by name ("success", "precision", "norm_precision") [S, T] shares in 0..1.
    values: by name [S] plain numbers ("mean_overlap", ...). frames: [S] frames behind each sequence's numbers.
    """

    variant: str
    names: tuple[str, ...]
    curves: Mapping[str, Floats]
    values: Mapping[str, Floats]
    frames: NDArray[np.int64]
    rule: Rule

    @classmethod
    def of(cls, variant: str, rule: Rule, names: Sequence[str], measured: Sequence[Measurement]) -> Scores:
        """The measurements of all sequences as arrays."""
        curves = {k: np.stack([m.curves[k] for m in measured]) for k in measured[0].curves}
        values = {k: np.array([m.values[k] for m in measured]) for k in measured[0].values}
        return cls(variant, tuple(names), curves, values, np.array([m.frames for m in measured], dtype=np.int64), rule)

    @property
    def main(self) -> str:
        """Key of the score that ranks trackers ("auc", "ao")."""
        return next(iter(self.rule.readings))

    @property
    def labels(self) -> dict[str, str]:
        """Score key -> name as papers print it."""
        return {key: reading.label for key, reading in self.rule.readings.items()}

    @property
    def headline(self) -> dict[str, float]:
        """Overall scores in percent, by key, as tables print them."""
        return {key: float(reading.of(self.overall(reading.curve))) for key, reading in self.rule.readings.items()}

    def overall(self, curve: str) -> Floats:
        """[T] the curve over all sequences, shares in 0..1."""
        rows = self.curves[curve]
        if self.rule.aggregate is Aggregate.POOLED:
            return _pooled(rows, self.frames)
        if self.rule.aggregate is Aggregate.MEAN_NONEMPTY:
            rows = rows[rows.sum(axis=1) != 0]
        return rows.mean(axis=0) if len(rows) else np.zeros(self.curves[curve].shape[1])

    def value(self, name: str) -> float:
        """A plain number over all sequences; sequences without it (NaN) are left out."""
        numbers = self.values[name]
        known = ~np.isnan(numbers)
        if not known.any():
            return float("nan")
        if self.rule.aggregate is Aggregate.POOLED:
            return float(_pooled(numbers[known], self.frames[known]))
        return float(numbers[known].mean())

    def per_sequence(self, key: str | None = None) -> dict[str, float]:
        """One score in percent (the main one by default) for each sequence."""
        reading = self.rule.readings[key or self.main]
        return dict(zip(self.names, map(float, reading.of(self.curves[reading.curve])), strict=True))

    def subset(self, names: Iterable[str]) -> Scores:
        """The scores on these sequences only, in this order (for attributes, or for what several trackers share)."""
        where = {name: i for i, name in enumerate(self.names)}
        wanted = list(names)
        if lacking := [name for name in wanted if name not in where]:
            raise MetricError(f"no scores for {listed(lacking)}")
        if not wanted:
            raise MetricError("a subset of scores needs at least one sequence")
        rows = np.array([where[name] for name in wanted])
        return replace(
            self,
            names=tuple(wanted),
            curves={k: v[rows] for k, v in self.curves.items()},
            values={k: v[rows] for k, v in self.values.items()},
            frames=self.frames[rows],
        )


def average_runs(runs: Sequence[Scores]) -> Scores:
    """Several runs of one tracker as one: curves and values averaged sequence by sequence."""
    first = runs[0]
    if any(r.names != first.names or r.variant != first.variant for r in runs):
        raise MetricError("runs can be averaged only when they have the same variant and sequences")
    return replace(
        first,
        curves={k: np.mean([r.curves[k] for r in runs], axis=0) for k in first.curves},
        values={k: np.mean([r.values[k] for r in runs], axis=0) for k in first.values},
    )


def listed(names: Sequence[str], limit: int = 10) -> str:
    """ "a, b, c and 4 more", for messages."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def _pooled(rows: Floats, frames: NDArray[np.int64]) -> Floats:
    total = frames.sum()
    return np.tensordot(frames / total, rows, axes=1) if total else np.zeros(rows.shape[1:])
