"""Metrics of the VOT toolkit: pixel overlap, the long-term protocol, the anchor-based short-term protocol.

- `vot_longterm` (DepthTrack): tracking precision, recall, F-score. Lukezic et al., "Performance evaluation methodology
  for long-term single-object tracking", IEEE Transactions on Cybernetics 2020.
- `vot_multistart` (VOT-RGBD2022): expected average overlap, accuracy, robustness. Kristan et al., "The eighth visual
  object tracking VOT2020 challenge results", ECCV workshops 2020.

A special region (initialisation, lost target, no ground truth) is a row of NaN; it covers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lib.bench.metrics.curves import Floats, has_nan, mean_where
from lib.bench.metrics.metric import CurveLookup, Scores, SequenceCurves
from lib.bench.metrics.sequence_result import MetricError, SequenceResult
from lib.data import Boxes, Mask

Corners = NDArray[np.int64]

PRECISION, RECALL, F_SCORE = "tracking_precision", "tracking_recall", "f_score"
EAO, CURVE, ACCURACY, ROBUSTNESS = "eao", "expected_overlap", "accuracy", "robustness"
LOST = 0.1
"""Largest overlap of a lost frame in the anchor-based protocol."""
GRACE = 10
"""Lost frames in a row that make a failure."""


def vot_overlap(a_xywh: Boxes, b_xywh: Boxes, size_wh: tuple[int, int] | None) -> Floats:
    """Overlap of rectangles that cover whole pixels.

    x, y, w, h are each rounded half to even, from single precision. Two regions within a strip one pixel wide or high
    are equal (1) in any case; regions outside the image, or that leave such a strip of it, overlap by 0.

    Args:
        a_xywh, b_xywh: [N, 4] in image pixels.
        size_wh: image size in pixels; None: no clipping.

    Returns:
        [N] share of pixels in both regions among the pixels in either.
    """
    a, b = _pixels(a_xywh), _pixels(b_xywh)
    bounds = np.concatenate([np.minimum(a[:, :2], b[:, :2]), np.maximum(a[:, 2:], b[:, 2:])], axis=1)
    equal = _is_strip(bounds)
    if size_wh is not None:
        last = np.asarray(size_wh, dtype=np.int64) - 1
        bounds = np.concatenate([np.maximum(bounds[:, :2], 0), np.minimum(bounds[:, 2:], last)], axis=1)
    area_a, area_b, both = (_area(region, bounds) for region in (a, b, _intersection(a, b)))
    area_a[has_nan(a_xywh)] = 0
    area_b[has_nan(b_xywh)] = 0
    both[has_nan(a_xywh) | has_nan(b_xywh)] = 0
    either = area_a + area_b - both
    share = np.divide(both, either, out=np.zeros(len(a)), where=either > 0)
    share[_is_strip(bounds)] = 0.0
    share[equal] = 1.0
    return share


def _pixels(boxes_xywh: Boxes) -> Corners:
    """[N, 4] first and last column and row (x1, y1, x2, y2) of each box; pixel 0, 0 for a special region."""
    rounded = np.round(boxes_xywh.astype(np.float32)).astype(np.float64)
    corners = np.concatenate([rounded[:, :2], rounded[:, :2] + rounded[:, 2:] - 1], axis=1)
    return np.where(has_nan(boxes_xywh)[:, None], 0.0, corners).astype(np.int64)


def _intersection(a: Corners, b: Corners) -> Corners:
    return np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1)


def _area(region: Corners, within: Corners) -> Floats:
    inside = _intersection(region, within)
    return np.clip(inside[:, 2:] - inside[:, :2] + 1, 0, None).prod(axis=1).astype(np.float64)


def _is_strip(region: Corners) -> NDArray[np.bool_]:
    return np.asarray((region[:, :2] >= region[:, 2:]).any(axis=1), dtype=np.bool_)


def _run_overlap(rows_xywh: Boxes, truth_xywh: Boxes, size_wh: tuple[int, int]) -> Floats:
    """[N] overlaps of one run; the first frame is the initialisation, a special region whatever its row says."""
    return vot_overlap(np.concatenate([np.full((1, 4), np.nan), rows_xywh[1:]]), truth_xywh, size_wh)


def longterm_samples(result: SequenceResult) -> SequenceCurves:
    """Overlap and confidence of every frame; the first frame (initialisation) has overlap 0 and confidence 0."""
    overlap = _run_overlap(result.require_rows(), result.gt_xywh, result.require_size())
    confidence, present = checked_longterm(result, result.gt_xywh)
    confidence = np.where(np.isnan(confidence), 0.0, confidence)
    confidence[0] = 0.0
    samples = {"overlap": overlap, "confidence": confidence, "present": present.astype(np.float64)}
    later = present & (np.arange(len(present)) > 0)
    return SequenceCurves({}, {"mean_overlap": mean_where(overlap, later)}, len(present), samples=samples)


def checked_longterm(result: SequenceResult, truth: Floats) -> tuple[Floats, Mask]:
    """Confidence and presence of the target in every frame of a result that has both.

    Args:
        result: the tracker's result.
        truth: [N, 4] or [N, 8]; NaN where the target is absent.

    Raises:
        MetricError: a confidence or every ground truth is missing.
    """
    if result.confidence is None:
        raise MetricError(f"{result.name}: no confidence with the boxes; the F-score needs it")
    if len(result.confidence) != len(truth):
        raise MetricError(f"{result.name}: {len(result.confidence)} confidences for {len(truth)} frames")
    present = ~has_nan(truth)
    if not present.any():
        raise MetricError(f"{result.name}: no frame has ground truth")
    return result.confidence, present


def aggregate_longterm(sequences: Sequence[SequenceCurves], resolution: int = 100) -> list[SequenceCurves]:
    """Precision and recall of each sequence over thresholds taken from the confidences of all sequences.

    Args:
        sequences: with the samples of `longterm_samples`.
        resolution: number of thresholds.
    """
    thresholds = confidence_thresholds(np.concatenate([s.samples["confidence"] for s in sequences]), resolution)
    return precision_and_recall(sequences, thresholds)


def precision_and_recall(sequences: Sequence[SequenceCurves], thresholds: Floats) -> list[SequenceCurves]:
    """Curves over given thresholds.

    Args:
        sequences: with the samples of `longterm_samples`.
        thresholds: [T] of the confidence.
    """
    aggregated = []
    for sequence in sequences:
        confidence, overlap = sequence.samples["confidence"], sequence.samples["overlap"]
        order = np.argsort(-confidence, kind="stable")
        summed = np.concatenate([[0.0], np.cumsum(overlap[order])])
        # Number of frames whose confidence reaches each threshold; without any, precision is 1 and recall 0.
        counts = np.searchsorted(-confidence[order], -thresholds, side="right")
        precision = np.divide(summed[counts], counts, out=np.ones(len(thresholds)), where=counts > 0)
        curves = {PRECISION: precision, RECALL: summed[counts] / sequence.samples["present"].sum()}
        aggregated.append(replace(sequence, curves=curves, thresholds=dict.fromkeys((*curves, F_SCORE), thresholds)))
    return aggregated


def confidence_thresholds(confidence: Floats, resolution: int) -> Floats:
    """Falling thresholds, +inf first and -inf last.

    `resolution` in all, evenly over the sorted confidences, or every confidence where there are fewer.
    """
    if resolution < 3:
        raise MetricError(f"resolution {resolution}: expected at least 3 thresholds")
    falling = np.sort(confidence)[::-1]
    inner = resolution - 2
    if len(falling) > inner:
        step = len(falling) // inner
        falling = falling[np.round(np.linspace(step, len(falling) - step, num=inner)).astype(np.int64)]
    return np.concatenate([[np.inf], falling, [-np.inf]])


def f_score(curve: CurveLookup) -> Floats:
    """[..., T] harmonic mean of tracking precision and recall at each threshold; 0 where both are."""
    precision, recall = curve(PRECISION), curve(RECALL)
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros(total.shape), where=total > 0)


def longterm_note(scores: Scores) -> str | None:
    """Remark on a tracker whose confidence never changes."""
    confidences = [s.samples["confidence"][1:] for s in scores.measured if s.samples]
    if confidences and len(np.unique(np.concatenate(confidences))) < 2:
        return "the confidence is the same in all frames, so F does not show whether the tracker detects a loss"
    return None


def multistart_curves(result: SequenceResult, low: int = 115, high: int = 755) -> SequenceCurves:
    """All runs from the anchors of one sequence.

    Args:
        result: one run per anchor, with `passes`.
        low, high: run lengths that the expected average overlap is averaged over (high is excluded).
    """
    if not 1 <= low < high:
        raise MetricError(f"low {low}, high {high}: expected 1 <= low < high")
    size = result.require_size()
    if not result.passes:
        raise MetricError(f"{result.name}: no runs from anchors (frames that a run starts on)")
    if len(result.runs) != len(result.passes):
        raise MetricError(f"{result.name}: {len(result.runs)} runs for {len(result.passes)} anchors")
    runs, ends = [], []
    for rows, frames in zip(result.runs, result.passes, strict=True):
        if len(rows) != len(frames):
            run = f"the {len(frames)} frames of the run from frame {frames[0]}"
            raise MetricError(f"{result.name}: {len(rows)} rows for {run}")
        truth = result.gt_xywh[list(frames)]
        runs.append(_run_overlap(rows, truth, size))
        ends.append(failure_frame(runs[-1], truth))
    tracked, total = sum(ends), sum(map(len, runs))
    overlap = sum(float(run[:end].sum()) for run, end in zip(runs, ends, strict=True))
    curve, count = expected_overlap(runs, ends, high)
    lengths, accuracy = np.arange(1, high, dtype=np.float64), overlap / tracked if tracked else float("nan")
    return SequenceCurves(
        curves={CURVE: curve, EAO: curve[low - 1 :], **points(np.nan_to_num(accuracy), tracked / total)},
        values={"mean_overlap": accuracy, "runs": float(len(runs))},
        frames=total,
        weights={CURVE: count, EAO: count[low - 1 :], **points(tracked, len(result.gt_xywh))},
        thresholds={CURVE: lengths, EAO: lengths[low - 1 :], **points(0, 0)},
    )


def points(accuracy: float, robustness: float) -> dict[str, Floats]:
    """The two measures, which are single numbers, as curves of one point."""
    return {ACCURACY: np.array([float(accuracy)]), ROBUSTNESS: np.array([float(robustness)])}


def failure_frame(overlap: Floats, truth_xywh: Boxes) -> int:
    """Frame of failure: the first of `GRACE` frames in a row that are lost although there is a target.

    Returns:
        The run's length if it does not fail.
    """
    present = np.asarray((truth_xywh[:, 2:] > 0).all(axis=1))
    lost = np.concatenate([[0], np.cumsum((overlap <= LOST) & present)])
    failures = np.flatnonzero(lost[GRACE:] - lost[:-GRACE] == GRACE)
    return int(failures[0]) if len(failures) else len(overlap)


def expected_overlap(runs: Sequence[Floats], ends: Sequence[int], high: int) -> tuple[Floats, Floats]:
    """Expected overlap by run length.

    A run that did not fail contributes up to its length; one that failed continues with overlap 0. As in the
    toolkit the divisor of that continuation is j - 1, not j.

    Args:
        runs: overlaps of each run.
        ends: frame of failure of each run, its length if it did not fail.
        high: lengths are j = 1 .. high - 1.

    Returns:
        [high - 1] mean over runs of the mean overlap of their first j frames, and [high - 1] the number of these runs.
    """
    summed, count = np.zeros(high - 1), np.zeros(high - 1)
    j = np.arange(1, high)
    for overlap, end in zip(runs, ends, strict=True):
        running_sum = np.cumsum(np.where(np.arange(len(overlap)) < end, overlap, 0.0)[1:])
        reached = min(len(running_sum), high - 1)
        summed[:reached] += running_sum[:reached] / j[:reached]
        count[:reached] += 1
        if end < len(overlap):
            total = running_sum[-1] if len(running_sum) else 0.0
            summed[reached:] += total / np.maximum(j[reached:] - 1, 1)
            count[reached:] += 1
    return np.divide(summed, count, out=np.zeros(high - 1), where=count > 0), count


def multistart_note(scores: Scores) -> str | None:
    """Remark on runs that are shorter than the lengths that EAO averages over."""
    lengths, runs = scores.thresholds[EAO], scores.weights[EAO].sum(axis=0)
    if runs[0] == 0:
        longest = int((scores.weights[CURVE].sum(axis=0) > 0).sum())
        span = f"run lengths {lengths[0]:.0f} to {lengths[-1]:.0f} (metric options low and high)"
        return f"EAO is 0 because no run is longer than {longest} frames: it averages {span}"
    if (runs == 0).any():
        rest = f"lengths from there to {lengths[-1]:.0f} count as 0 in EAO, as in the toolkit"
        return f"no run is {lengths[np.argmin(runs > 0)]:.0f} frames long; {rest} (metric options low and high)"
    return None
