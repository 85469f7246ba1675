"""The contract of a metric variant and the registry of all variants.

    SequenceResult --MetricSpec.measure--> SequenceCurves --> Scores

A variant is a `MetricSpec` registered in `METRICS`; `evaluate` runs it. Curves are shares in 0..1, scores
are in percent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from lib.bench.metrics.sequence_result import MetricError, SequenceResult, checked
from lib.bench.result_files import INITIALISED, TRACKED, Floats
from lib.data import corners_to_xywh
from lib.registry import Registry, listed, suggest

START_PIXELS = 2
"""Distance of a first row from the given box that rounding and counting from 1 explain."""


@dataclass(frozen=True, slots=True)
class SequenceCurves:
    """Curves of one sequence.

    Attributes:
        curves: curve name -> [T] share per threshold.
        values: plain numbers by name ("mean_overlap", "fps").
        frames: number of frames behind the curves.
        weights: curve name -> [T] weight of each point in the average over sequences; a curve without weights is
            averaged by `MetricSpec.averaging`.
        thresholds: curve name -> [T] thresholds.
        samples: numbers per frame, for a metric whose curves need all sequences (`MetricSpec.aggregator`).
    """

    curves: Mapping[str, Floats]
    values: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0
    weights: Mapping[str, Floats] = field(default_factory=dict)
    thresholds: Mapping[str, Floats] = field(default_factory=dict)
    samples: Mapping[str, Floats] = field(default_factory=dict)


Aggregator = Callable[[Sequence[SequenceCurves]], Sequence[SequenceCurves]]
"""Sequences with `samples` -> the same sequences with `curves`."""
CurveLookup = Callable[[str], Floats]
"""Curve name -> [..., T]."""


@dataclass(frozen=True, slots=True)
class Score:
    """One score of a metric, read from a curve.

    Attributes:
        label: name as papers print it.
        curve: name of the curve.
        at: "mean" of the points, "area" below the curve, position of one threshold, or "best" for the threshold at
            which `MetricSpec.best` has its maximum.
    """

    label: str
    curve: str
    at: int | str = "mean"

    def read(self, curve: Floats, best: int = 0) -> Floats:
        """[..., T] shares -> [...] percent; `best` is the position of the best threshold."""
        if self.at == "mean":
            return 100.0 * curve.mean(axis=-1)
        if self.at == "area":
            return 100.0 * ((curve[..., 1:] + curve[..., :-1]) / 2).mean(axis=-1)
        return 100.0 * curve[..., best if self.at == "best" else int(self.at)]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """Declaration of a metric variant.

    Attributes:
        about: one line for users.
        measure: `measure(result, **options) -> SequenceCurves`; raises MetricError for a result it cannot use. An
            option called `dataset` gets the benchmark's name.
        scores: score key -> score; the first one ranks trackers.
        averaging: average over sequences. "mean": every sequence counts the same; "nonempty": so do those whose curve
            is not zero everywhere, the others are left out; "pooled": every frame counts the same.
        corners: `measure` reads corner results [N, 8] itself; otherwise they become boxes first.
        aggregator: `aggregator(sequences, **options) -> sequences`, for curves that need all sequences together.
        derived: curves computed from other curves after averaging, by name.
        best: name of the curve whose first maximum is the "best" threshold.
        note: remark that must accompany the scores, or None.
    """

    about: str
    measure: Callable[..., SequenceCurves]
    scores: Mapping[str, Score]
    averaging: Literal["mean", "nonempty", "pooled"] = "mean"
    corners: bool = False
    aggregator: Callable[..., Sequence[SequenceCurves]] | None = None
    derived: Mapping[str, Callable[[CurveLookup], Floats]] = field(default_factory=dict)
    best: str | None = None
    note: Callable[[Scores], str | None] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Options of `measure` and `aggregator` with their defaults."""
        return {**_options(self.measure), **(_options(self.aggregator) if self.aggregator else {})}


def _options(function: Callable[..., Any]) -> dict[str, Any]:
    """Name -> default of all parameters after the first."""
    return {p.name: p.default for p in list(inspect.signature(function).parameters.values())[1:]}


@dataclass(frozen=True)
class Scores:
    """Scores of one tracker on S sequences.

    Attributes:
        variant: name of the metric variant.
        spec: the metric variant.
        names: S sequence names.
        measured: S curves, as `MetricSpec.measure` returns them.
        aggregator: `MetricSpec.aggregator` with its options, or None.
        unscored: further sequences, which the variant cannot score -> the reason.
        wrong_length: "name (12 rows, 10 frames)" of results that were cut or filled up to the frames.
        wrong_start: names of results whose first row is further than `START_PIXELS` from the given box.
        sequences: `measured` after the aggregator.
    """

    variant: str
    spec: MetricSpec
    names: tuple[str, ...]
    measured: tuple[SequenceCurves, ...]
    aggregator: Aggregator | None = None
    unscored: Mapping[str, str] = field(default_factory=dict)
    wrong_length: tuple[str, ...] = ()
    wrong_start: tuple[str, ...] = ()
    sequences: Sequence[SequenceCurves] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sequences", self.aggregator(self.measured) if self.aggregator else self.measured)

    @cached_property
    def curves(self) -> dict[str, Floats]:
        """Curve name ("success", "precision", "norm_precision", ...) -> [S, T] shares in 0..1."""
        return {k: np.stack([s.curves[k] for s in self.sequences]) for k in self.sequences[0].curves}

    @cached_property
    def weights(self) -> dict[str, Floats]:
        """Curve name -> [S, T], where sequences do not count the same."""
        return {k: np.stack([s.weights[k] for s in self.sequences]) for k in self.sequences[0].weights}

    @cached_property
    def values(self) -> dict[str, Floats]:
        """Plain numbers by name ("mean_overlap", ...), [S]."""
        return {k: np.array([s.values[k] for s in self.sequences]) for k in self.sequences[0].values}

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """[S] number of frames behind each sequence's curves."""
        return np.array([s.frames for s in self.sequences], dtype=np.int64)

    @property
    def thresholds(self) -> dict[str, Floats]:
        """Curve name -> [T]."""
        return dict(self.sequences[0].thresholds)

    @property
    def main(self) -> str:
        """Key of the score that ranks trackers ("auc", "ao")."""
        return next(iter(self.spec.scores))

    @property
    def labels(self) -> dict[str, str]:
        """Score key -> name as papers print it."""
        return {key: score.label for key, score in self.spec.scores.items()}

    @property
    def headline(self) -> dict[str, float]:
        """Score key -> score over all sequences, in percent."""
        best = self.best
        return {key: float(score.read(self.overall(score.curve), best)) for key, score in self.spec.scores.items()}

    @property
    def best(self) -> int:
        """Position of the best threshold over all sequences (`MetricSpec.best`); 0 where the metric has none."""
        return int(np.argmax(self.overall(self.spec.best))) if self.spec.best else 0

    @property
    def note(self) -> str | None:
        """Remark that must accompany these scores, or None."""
        notes = [self.spec.note(self) if self.spec.note else None]
        if self.wrong_length:
            notes.append(f"results with other numbers of rows than frames: {', '.join(self.wrong_length)}")
        if self.wrong_start:
            count = f"{len(self.wrong_start)} of {len(self.sequences)} results do not begin with the given box"
            reason = "is the row of the first frame missing, or are boxes of another form?"
            notes.append(f"{count} ({listed(self.wrong_start, 5)}); {reason}")
        return "; ".join(filter(None, notes)) or None

    def overall(self, curve: str) -> Floats:
        """[T] curve over all sequences, shares in 0..1."""
        if curve in self.spec.derived:
            return self.spec.derived[curve](self.overall)
        rows = self.curves[curve]
        if curve in self.weights:
            return _weighted_mean(rows, self.weights[curve])
        if self.spec.averaging == "pooled":
            return _weighted_mean(rows, self.frames[:, None].astype(np.float64))
        if self.spec.averaging == "nonempty":
            rows = rows[rows.sum(axis=1) != 0]
        return rows.mean(axis=0) if len(rows) else np.zeros(self.curves[curve].shape[1])

    def value(self, name: str) -> float:
        """Plain number over all sequences; sequences without it (NaN) are left out."""
        numbers = self.values[name]
        known = ~np.isnan(numbers)
        if not known.any():
            return float("nan")
        if self.spec.averaging == "pooled":
            return float(_weighted_mean(numbers[known], self.frames[known].astype(np.float64)))
        return float(numbers[known].mean())

    def per_sequence(self, key: str | None = None) -> dict[str, float]:
        """Sequence name -> one score (the main one by default) in percent, at the threshold that is best overall."""
        score = self.spec.scores[key or self.main]
        derived = self.spec.derived.get(score.curve)
        rows = derived(self.curves.__getitem__) if derived else self.curves[score.curve]
        return dict(zip(self.names, map(float, score.read(rows, self.best)), strict=True))

    def subset(self, names: Iterable[str]) -> Scores:
        """Scores on these sequences only, in this order (an attribute, or the sequences that several trackers share).

        Raises:
            MetricError: a sequence is unknown, or none is given.
        """
        position = {name: i for i, name in enumerate(self.names)}
        requested = list(names)
        if missing := [name for name in requested if name not in position]:
            raise MetricError(f"no scores for {listed(missing)}")
        if not requested:
            raise MetricError("a subset of scores needs at least one sequence")
        kept = tuple(self.measured[position[name]] for name in requested)
        return replace(self, names=tuple(requested), measured=kept)


METRICS: Registry[MetricSpec] = Registry("metric variant")


def evaluate(
    variant: str, results: Sequence[SequenceResult], unreadable: Mapping[str, str] | None = None, **options: Any
) -> Scores:
    """Score one tracker.

    Args:
        variant: a name of `METRICS` ("ostrack", "pytracking", "matlab", "lasher", ...).
        results: the tracker's result on every sequence; those that cannot be scored are in `Scores.unscored`.
        unreadable: further sequences, whose results could not be read -> the reason; they are in there too.
        options: `dataset` (the benchmark's name: some variants treat "lasot" and "uav" differently) and the options of
            the variant (`METRICS[variant].options`).

    Raises:
        MetricError: no sequence can be scored; the message has the reasons.
        TypeError: an option is unknown.
    """
    measured, unscored = _measure(variant, results, options)
    unscored = {**(unreadable or {}), **unscored}
    if not measured:
        reasons = listed([f"{name}: {reason}" for name, reason in unscored.items()], 5)
        raise MetricError(f"no sequence can be scored by {variant!r}: {reasons or 'there are none'}")
    wrong_length, wrong_start = [], []
    for result in results:
        rows, frames = len(result.prediction_xywh), len(result.gt_xywh)
        if result.name not in measured or result.passes:
            continue
        if rows != frames:
            wrong_length.append(f"{result.name} ({rows} rows, {frames} frames)")
        first = result.prediction_xywh[:1]
        first = corners_to_xywh(first) if first.shape[1] == 8 else first
        if (np.abs(first - result.gt_xywh[:1]) > START_PIXELS).any():
            wrong_start.append(result.name)
    spec, aggregator = METRICS[variant], None
    if spec.aggregator is not None:
        aggregator = partial(spec.aggregator, **{k: options[k] for k in _options(spec.aggregator) if k in options})
    remarks = (tuple(wrong_length), tuple(wrong_start))
    return Scores(variant, spec, tuple(measured), tuple(measured.values()), aggregator, unscored, *remarks)


def unscorable(variant: str, results: Sequence[SequenceResult], **options: Any) -> dict[str, str]:
    """The sequences whose ground truth a variant cannot use, whatever a tracker's boxes are.

    Args:
        variant, options: as for `evaluate`.
        results: the sequences; predictions, sizes and confidences are not looked at.

    Returns:
        Sequence name -> reason.
    """
    plain = []
    for result in results:
        boxes = [np.tile([0.0, 0.0, 1.0, 1.0], (len(p), 1)) for p in result.passes or (result.gt_xywh,)]
        made_up = replace(result, prediction_xywh=boxes[0], repetitions=tuple(boxes[1:]), image_size_wh=(1, 1))
        marks = np.array([INITIALISED, *[TRACKED] * (len(boxes[0]) - 1)])
        plain.append(replace(made_up, confidence=np.zeros(len(boxes[0])), marks=(marks,)))
    return _measure(variant, plain, options)[1]


def _measure(
    variant: str, results: Sequence[SequenceResult], options: Mapping[str, Any]
) -> tuple[dict[str, SequenceCurves], dict[str, str]]:
    """({sequence: curves}, {sequence: reason for which it has none}); not every variant asks for the `dataset`."""
    check_options(variant, {k: v for k, v in options.items() if k != "dataset"})
    spec = METRICS[variant]
    own = {k: options[k] for k in _options(spec.measure) if k in options}
    measured: dict[str, SequenceCurves] = {}
    unscored: dict[str, str] = {}
    for result in results:
        try:
            curves = spec.measure(checked(result, spec.corners), **own)
            if not all(np.isfinite(curve).all() for curve in curves.curves.values()):
                raise MetricError(f"{result.name}: a score is not finite")
            measured[result.name] = curves
        except MetricError as error:
            unscored[result.name] = str(error).removeprefix(f"{result.name}: ")
    return measured, unscored


def check_options(variant: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError, with the nearest name, for an option that the variant does not have; also for a value's kind.

    An option takes what its default is; one that is None by default takes a whole number.
    """
    known = METRICS[variant].options
    whole = (Integral, "a whole number")
    kinds: dict[type, tuple[type, str]] = {int: whole, type(None): whole, float: (Real, "a number")}
    kinds |= {bool: (bool, "true or false"), str: (str, "a word")}
    for name, value in options.items():
        if name not in known:
            names = ", ".join(sorted(k for k in known if k != "dataset")) or "none"
            raise TypeError(f"metric {variant!r} has no option {name!r}{suggest(name, list(known))} (known: {names})")
        if value is known[name] or type(known[name]) not in kinds:
            continue
        kind, expected = kinds[type(known[name])]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"metric {variant!r}: option {name} must be {expected}, not {value!r}")


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Options from a command line: `["low=20", "strict=true"]` -> `{"low": 20, "strict": True}`."""
    options = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not name or not sign:
            raise MetricError(f"metric option {pair!r}: expected NAME=VALUE, such as low=115")
        options[name] = yaml.safe_load(value)
    return options


def average_runs(runs: Sequence[Scores]) -> Scores:
    """Average several runs of one tracker, sequence by sequence.

    Raises:
        MetricError: the runs differ in variant, sequences, or the number of thresholds.
    """
    if unscored := {name: reason for run in runs for name, reason in run.unscored.items()}:
        runs = [run.subset(name for name in run.names if name not in unscored) for run in runs]
    first = runs[0]
    if any(r.names != first.names or r.variant != first.variant for r in runs):
        raise MetricError("runs can be averaged only when they have the same variant and sequences")
    if any(r.curves[k].shape != first.curves[k].shape for r in runs for k in first.curves):
        raise MetricError("runs can be averaged only when they have the same number of frames with a confidence")
    averaged = []
    for repeated in zip(*(r.sequences for r in runs), strict=True):
        one = repeated[0]
        curves = {}
        for k in one.curves:
            rows = np.stack([s.curves[k] for s in repeated])
            own = np.stack([s.weights[k] for s in repeated]) if k in one.weights else None
            curves[k] = rows.mean(axis=0) if own is None else _weighted_mean(rows, own)
        values = {k: float(np.mean([s.values[k] for s in repeated])) for k in one.values}
        weights = {k: np.mean([s.weights[k] for s in repeated], axis=0) for k in one.weights}
        thresholds = {k: np.mean([s.thresholds[k] for s in repeated], axis=0) for k in one.thresholds}
        averaged.append(SequenceCurves(curves, values, one.frames, weights, thresholds))
    wrong_length = tuple(dict.fromkeys(name for run in runs for name in run.wrong_length))
    wrong_start = tuple(dict.fromkeys(name for run in runs for name in run.wrong_start))
    scores = replace(first, measured=tuple(averaged), aggregator=None, unscored=unscored)
    return replace(scores, wrong_length=wrong_length, wrong_start=wrong_start)


def _weighted_mean(rows: Floats, weights: Floats) -> Floats:
    """Mean of rows [S, ...] along the first axis with weights [S, ...] that broadcast; 0 where all weights are 0."""
    total = np.broadcast_to(weights.sum(axis=0), rows.shape[1:])
    summed = (rows * weights).sum(axis=0)
    return np.divide(summed, total, out=np.zeros(rows.shape[1:]), where=total > 0)
