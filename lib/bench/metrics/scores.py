"""What goes into a metric (`SequenceResult`) and what comes out (`Scores`)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lib.data import Boxes, Mask

Floats = NDArray[np.float64]


class MetricError(ValueError):
    """Results or ground truth that a metric cannot use; the message names the sequences."""


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """One tracker's result on one sequence, with what the metric must know of the sequence.

    gt_xywh: [N, 4] ground truth in image pixels. prediction_xywh: [M, 4], or [M, 8] corners x1 y1 x2 y1 x2 y2 x1 y2.
    visible: [N] bool, False where the target is absent; None where the data set does not say.
    second_gt_xywh: [N, 4] ground truth of the second modality (GTOT, RGBT234).
    image_size_wh: picture size in pixels (GOT-10k, VOT). cover: [N] visible share (GOT-10k).
    repetitions: further runs of the tracker, [M, 4] each (GOT-10k, VOT). seconds: [M] time per frame of the first run.
    confidence: [M] the tracker's score for each row of the first run (VOT); NaN where it gave none.
    passes: for runs that do not all go from the first frame to the last (VOT), the frames of each run in the order
    they were tracked: row i of run k is about frame passes[k][i].
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
    confidence: Floats | None = None
    passes: tuple[range, ...] = ()

    @property
    def runs(self) -> tuple[Boxes, ...]:
        """Every run of the tracker on this sequence."""
        return (self.prediction_xywh, *self.repetitions)

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
    """One sequence, measured: shares per threshold by curve name, plain values by name, frames behind them.

    weights: by curve name, how much each point of this sequence's curve counts in the curve over all sequences; a curve
    without weights is averaged as `Rule.aggregate` says. thresholds: by curve name, where the rule does not fix them.
    samples: numbers per frame, for a metric whose curves are known only with all sequences together (`Metric.join`).
    """

    curves: Mapping[str, Floats]
    values: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0
    weights: Mapping[str, Floats] = field(default_factory=dict)
    thresholds: Mapping[str, Floats] = field(default_factory=dict)
    samples: Mapping[str, Floats] = field(default_factory=dict)


Join = Callable[[Sequence[Measurement]], Sequence[Measurement]]
"""All sequences' measurements with their samples -> the same with curves."""


class Aggregate(enum.Enum):
    """How sequences become one number."""

    MEAN = "every sequence counts the same"
    MEAN_NONEMPTY = "every sequence counts the same, those whose curve is zero everywhere are left out"
    POOLED = "every frame counts the same"


@dataclass(frozen=True, slots=True)
class Reading:
    """A score as it is read off a curve: the mean of its points, the area below it, the value at one threshold, or
    the value at the best one (`Rule.best`).
    """

    label: str
    curve: str
    at: int | str = "mean"

    def of(self, curve: Floats, best: int = 0) -> Floats:
        """[..., T] shares -> [...] in percent. best: position of the best threshold."""
        if self.at == "mean":
            return 100.0 * curve.mean(axis=-1)
        if self.at == "area":
            return 100.0 * ((curve[..., 1:] + curve[..., :-1]) / 2).mean(axis=-1)
        return 100.0 * curve[..., best if self.at == "best" else int(self.at)]


Curves = Callable[[str], Floats]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a metric variant reads its scores: readings by key (the first one ranks trackers) and the aggregation.

    derived: curves made of others once these are averaged, by name. best: the curve whose first maximum is the
    threshold that readings at "best" are taken at. note: what a reader of the scores must be told, if anything.
    """

    readings: Mapping[str, Reading]
    thresholds: Mapping[str, Floats]
    aggregate: Aggregate = Aggregate.MEAN
    derived: Mapping[str, Callable[[Curves], Floats]] = field(default_factory=dict)
    best: str | None = None
    note: Callable[[Scores], str | None] | None = None


@dataclass(frozen=True)
class Scores:
    """A tracker's scores on a set of sequences.

    names: S sequence names. curves: by name ("success", "precision", "norm_precision") [S, T] shares in 0..1.
    values: by name [S] plain numbers ("mean_overlap", ...). frames: [S] frames behind each sequence's numbers.
    weights: by curve name [S, T], where sequences do not count the same. thresholds: by curve name [T].
    measured, join: what the curves were made of, where they depend on all sequences together; else empty and None.
    """

    variant: str
    names: tuple[str, ...]
    curves: Mapping[str, Floats]
    values: Mapping[str, Floats]
    frames: NDArray[np.int64]
    rule: Rule
    weights: Mapping[str, Floats] = field(default_factory=dict)
    thresholds: Mapping[str, Floats] = field(default_factory=dict)
    measured: tuple[Measurement, ...] = ()
    join: Join | None = None

    @classmethod
    def of(
        cls, variant: str, rule: Rule, names: Sequence[str], measured: Sequence[Measurement], join: Join | None = None
    ) -> Scores:
        """The measurements of all sequences as arrays."""
        whole = join(measured) if join else measured
        first = whole[0]
        return cls(
            variant,
            tuple(names),
            {k: np.stack([m.curves[k] for m in whole]) for k in first.curves},
            {k: np.array([m.values[k] for m in whole]) for k in first.values},
            np.array([m.frames for m in whole], dtype=np.int64),
            rule,
            {k: np.stack([m.weights[k] for m in whole]) for k in first.weights},
            {**rule.thresholds, **first.thresholds},
            tuple(measured) if join else (),
            join,
        )

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
        best = self.best
        return {
            key: float(reading.of(self.overall(reading.curve), best)) for key, reading in self.rule.readings.items()
        }

    @property
    def best(self) -> int:
        """Position of the best threshold over all sequences (`Rule.best`); 0 where the metric has none."""
        return int(np.argmax(self.overall(self.rule.best))) if self.rule.best else 0

    @property
    def note(self) -> str | None:
        """What must be said with these scores."""
        return self.rule.note(self) if self.rule.note else None

    def overall(self, curve: str) -> Floats:
        """[T] the curve over all sequences, shares in 0..1."""
        if curve in self.rule.derived:
            return self.rule.derived[curve](self.overall)
        rows = self.curves[curve]
        if curve in self.weights:
            return _weighted(rows, self.weights[curve])
        if self.rule.aggregate is Aggregate.POOLED:
            return _weighted(rows, self.frames[:, None].astype(np.float64))
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
            return float(_weighted(numbers[known], self.frames[known].astype(np.float64)))
        return float(numbers[known].mean())

    def per_sequence(self, key: str | None = None) -> dict[str, float]:
        """One score in percent (the main one by default) for each sequence, at the threshold that is best overall."""
        reading = self.rule.readings[key or self.main]
        derived = self.rule.derived.get(reading.curve)
        rows = derived(self.curves.__getitem__) if derived else self.curves[reading.curve]
        return dict(zip(self.names, map(float, reading.of(rows, self.best)), strict=True))

    def subset(self, names: Iterable[str]) -> Scores:
        """The scores on these sequences only, in this order (for attributes, or for what several trackers share)."""
        where = {name: i for i, name in enumerate(self.names)}
        wanted = list(names)
        if lacking := [name for name in wanted if name not in where]:
            raise MetricError(f"no scores for {listed(lacking)}")
        if not wanted:
            raise MetricError("a subset of scores needs at least one sequence")
        rows = np.array([where[name] for name in wanted])
        if self.join:
            return Scores.of(self.variant, self.rule, wanted, [self.measured[i] for i in rows], self.join)
        return replace(
            self,
            names=tuple(wanted),
            curves={k: v[rows] for k, v in self.curves.items()},
            values={k: v[rows] for k, v in self.values.items()},
            frames=self.frames[rows],
            weights={k: v[rows] for k, v in self.weights.items()},
        )


def average_runs(runs: Sequence[Scores]) -> Scores:
    """Several runs of one tracker as one: curves and values averaged sequence by sequence."""
    first = runs[0]
    if any(r.names != first.names or r.variant != first.variant for r in runs):
        raise MetricError("runs can be averaged only when they have the same variant and sequences")
    if any(r.curves[k].shape != first.curves[k].shape for r in runs for k in first.curves):
        raise MetricError("runs can be averaged only when they have the same number of frames with a confidence")

    def mean(rows: list[Floats], weights: list[Floats] | None) -> Floats:
        return np.mean(rows, axis=0) if weights is None else _weighted(np.stack(rows), np.stack(weights))

    def weights_of(curve: str) -> list[Floats] | None:
        return [r.weights[curve] for r in runs] if curve in first.weights else None

    return replace(
        first,
        curves={k: mean([r.curves[k] for r in runs], weights_of(k)) for k in first.curves},
        values={k: np.mean([r.values[k] for r in runs], axis=0) for k in first.values},
        weights={k: np.mean([r.weights[k] for r in runs], axis=0) for k in first.weights},
        thresholds={k: np.mean([r.thresholds[k] for r in runs], axis=0) for k in first.thresholds},
        measured=(),
        join=None,
    )


def listed(names: Sequence[str], limit: int = 10) -> str:
    """ "a, b, c and 4 more", for messages."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def _weighted(rows: Floats, weights: Floats) -> Floats:
    """Mean of rows [S, ...] along the first axis, weights [S, ...] that broadcast; 0 where no row has a weight."""
    total = np.broadcast_to(weights.sum(axis=0), rows.shape[1:])
    summed = (rows * weights).sum(axis=0)
    return np.divide(summed, total, out=np.zeros(rows.shape[1:]), where=total > 0)
