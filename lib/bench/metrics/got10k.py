"""GOT-10k (TPAMI 2021): average overlap and success rates over the frames of all sequences (variant `got10k`)."""

from __future__ import annotations

import numpy as np

from lib.bench.metrics.curves import Array, overlap, share_above
from lib.bench.metrics.metric import METRICS, Metric
from lib.bench.metrics.scores import Aggregate, Floats, Measurement, MetricError, Reading, Rule, Scores, SequenceResult

THRESHOLDS = np.linspace(0.0, 1.0, 101)
EPS = float(np.finfo(np.float64).eps)


def measure_got10k(result: SequenceResult) -> Measurement:
    """Frame 0 and frames with cover 0 are dropped, boxes clipped to the picture, all repetitions pooled."""
    if result.image_size_wh is None:
        raise MetricError(f"{result.name}: the picture size is missing, boxes must be clipped to it")
    runs = [result.prediction_xywh, *result.repetitions]
    if short := [len(run) for run in runs if len(run) != len(result.gt_xywh)]:
        raise MetricError(f"{result.name}: {short[0]} rows for {len(result.gt_xywh)} frames")
    keep = np.ones(len(result.gt_xywh) - 1, dtype=bool) if result.cover is None else result.cover[1:] > 0
    truth = clipped(result.gt_xywh[1:], result.image_size_wh)[keep]
    iou = np.concatenate(
        [np.clip(overlap(clipped(run[1:], result.image_size_wh)[keep], truth, EPS), 0.0, 1.0) for run in runs]
    )
    n = len(iou)
    seconds = None if result.seconds is None else result.seconds[result.seconds > 0]
    values = {
        "fps": float("nan") if seconds is None or not len(seconds) else float((1.0 / seconds).mean()),
        "timed_frames": float(0 if seconds is None else len(seconds)),
        "mean_overlap": float(iou.mean()) if n else float("nan"),
    }
    curves = {
        "overlap": np.array([values["mean_overlap"] if n else 0.0]),
        "success": share_above(iou, THRESHOLDS, n),
        "rate": share_above(iou, np.array([0.5, 0.75]), n),
    }
    return Measurement(curves, values, n)


def speed(scores: Scores) -> float:
    """Frames per second as the toolkit states them: the mean of 1 / time over all timed frames; NaN without times."""
    known = scores.values["timed_frames"] > 0
    if not known.any():
        return float("nan")
    return float(np.average(scores.values["fps"][known], weights=scores.values["timed_frames"][known]))


def clipped(xywh: Array, size_wh: tuple[int, int]) -> Floats:
    """Boxes cut to the picture: x, y to [0, W] and [0, H], w, h to what remains."""
    size = np.asarray(size_wh, dtype=np.float64)
    corner = np.clip(xywh[:, :2], 0.0, size)
    return np.concatenate([corner, np.clip(xywh[:, 2:], 0.0, size - corner)], axis=1)


GOT10K = Rule(
    readings={
        "ao": Reading("AO", "overlap", 0),
        "sr50": Reading("SR 0.50", "rate", 0),
        "sr75": Reading("SR 0.75", "rate", 1),
    },
    thresholds={"success": THRESHOLDS, "rate": np.array([0.5, 0.75]), "overlap": np.zeros(1)},
    aggregate=Aggregate.POOLED,
)

METRICS.register("got10k")(Metric("GOT-10k validation: AO, SR0.5, SR0.75", measure_got10k, GOT10K))
