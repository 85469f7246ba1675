"""GOT-10k (TPAMI 2021): average overlap and success rates over the frames of all sequences (variant `got10k`)."""

from __future__ import annotations

import numpy as np

from lib.bench.metrics.curves import Array, Floats, overlap, share_above
from lib.bench.metrics.metric import Scores, SequenceCurves
from lib.bench.metrics.sequence_result import MetricError, SequenceResult

OVERLAPS = np.linspace(0.0, 1.0, 101)
RATES = np.array([0.5, 0.75])
EPS = float(np.finfo(np.float64).eps)


def got10k_curves(result: SequenceResult) -> SequenceCurves:
    """Frame 0 and frames with cover 0 are dropped, boxes clipped to the image, all repetitions pooled."""
    size = result.require_size()
    for run in result.runs:
        if len(run) != len(result.gt_xywh):
            raise MetricError(f"{result.name}: {len(run)} rows for {len(result.gt_xywh)} frames")
    if np.isnan(result.gt_xywh).any() or any(np.isnan(run).any() for run in result.runs):
        what = "ground truth" if np.isnan(result.gt_xywh).any() else "result"
        raise MetricError(f"{result.name}: NaN in the {what}, for which GOT-10k's toolkit has no rule")
    keep = np.ones(len(result.gt_xywh) - 1, dtype=bool) if result.cover is None else result.cover[1:] > 0
    truth = clipped(result.gt_xywh[1:], size)[keep]
    overlaps = [overlap(clipped(run[1:], size)[keep], truth, EPS) for run in result.runs]
    iou = np.clip(np.concatenate(overlaps), 0.0, 1.0)
    n = len(iou)
    mean = float(iou.mean()) if n else float("nan")
    seconds = np.zeros(0) if result.seconds is None else result.seconds[result.seconds > 0]
    fps = float((1.0 / seconds).mean()) if len(seconds) else float("nan")
    values = {"fps": fps, "timed_frames": float(len(seconds)), "mean_overlap": mean}
    rates = {"success": share_above(iou, OVERLAPS, n), "rate": share_above(iou, RATES, n)}
    thresholds = {"overlap": np.zeros(1), "success": OVERLAPS, "rate": RATES}
    return SequenceCurves({"overlap": np.array([mean if n else 0.0]), **rates}, values, n, thresholds=thresholds)


def clipped(xywh: Array, size_wh: tuple[int, int]) -> Floats:
    """[N, 4] boxes cut to the image: x, y to [0, W] and [0, H], w, h to what remains."""
    size = np.asarray(size_wh, dtype=np.float64)
    corner = np.clip(xywh[:, :2], 0.0, size)
    return np.concatenate([corner, np.clip(xywh[:, 2:], 0.0, size - corner)], axis=1)


def speed(scores: Scores) -> float:
    """Frames per second as the toolkit states them: the mean of 1 / time over all timed frames; NaN without times."""
    known = scores.values["timed_frames"] > 0
    if not known.any():
        return float("nan")
    return float(np.average(scores.values["fps"][known], weights=scores.values["timed_frames"][known]))
