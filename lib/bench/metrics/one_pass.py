"""One-pass evaluation (OPE): success, precision and normalised precision, as each toolkit computes them.

| variant | toolkit | frame 0 | invalid frames | absent frames | boxes |
|---|---|---|---|---|---|
| `ostrack` | pytracking's analysis in OSTrack, STARK, CSTrack, SLT | truth | w or h <= 0 | invalid | double |
| `pytracking` | pytracking's analysis today | truth | a number <= 0 | invalid | double |
| `matlab` | MATLAB toolkits of LaSOT and VisEvent | truth | a number <= 0 | removed | double |
| `pysot` | pysot toolkit (SLT-SiamRPN++, SLT-SiamAttn) | prediction | w or h <= 0 | removed | double |
| `lasher` | `rgbt` toolkit, LasHeR (IEEE TIP 2022) | truth | a number <= 0 | no labels | rounded, single |
| `rgbt210` | `rgbt` toolkit, RGBT210 | truth | none | no labels | rounded, single |
| `rgbt234` | `rgbt` toolkit: better of two truths | prediction | none | no labels | rounded, single |
| `gtot` | `rgbt` toolkit: better of two truths, frames pooled | prediction | none | no labels | rounded, single |

The divisor of a curve is the number of all frames, removed ones included.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lib.bench.metrics.curves import (
    Array,
    Floats,
    all_positive,
    centre_error,
    centres,
    has_nan,
    mean_where,
    normalised_centre_error,
    overlap,
    repeat_previous,
    share_above,
    share_within,
)
from lib.bench.metrics.metric import SequenceCurves
from lib.bench.metrics.sequence_result import MetricError, SequenceResult
from lib.data import Boxes, Mask

OVERLAP_THRESHOLDS: Floats = np.arange(21, dtype=np.float64) * 0.05
PIXEL_THRESHOLDS: Floats = np.arange(51, dtype=np.float64)
NORMALISED_THRESHOLDS: Floats = np.arange(51) / 100.0
GTOT_PIXELS: Floats = np.arange(51, dtype=np.float64) * 0.5


def threshold_curves(
    overlaps: Array,
    pixel_errors: Array,
    normalised_errors: Array | None = None,
    *,
    frames: int,
    mean_overlap: float,
    pixel_thresholds: Floats = PIXEL_THRESHOLDS,
    strict: bool = False,
) -> SequenceCurves:
    """Curves of one sequence.

    Args:
        overlaps: [N]; frames above a threshold count.
        pixel_errors, normalised_errors: [N]; frames within a threshold count, -1 always does.
        frames: the divisor.
        mean_overlap: of the frames that count.
        pixel_thresholds: [T] for the pixel errors.
        strict: errors must be below a pixel threshold, not at it.
    """
    thresholds = {"success": OVERLAP_THRESHOLDS, "precision": pixel_thresholds}
    curves = {"success": share_above(overlaps, OVERLAP_THRESHOLDS, frames)}
    curves["precision"] = share_within(pixel_errors, pixel_thresholds, frames, strict)
    if normalised_errors is not None:
        thresholds["norm_precision"] = NORMALISED_THRESHOLDS
        curves["norm_precision"] = share_within(normalised_errors, NORMALISED_THRESHOLDS, frames)
    return SequenceCurves(curves, {"mean_overlap": mean_overlap}, frames, thresholds=thresholds)


def ostrack_curves(result: SequenceResult, dataset: str = "", exclude_invalid_frames: bool = False) -> SequenceCurves:
    """A frame is valid when the true w and h are positive (and the target is visible, where labels exist).

    Args:
        result: the tracker's result.
        dataset: "lasot" (no padding of short results, absent frames are never precise) and "uav" (NaN in the ground
            truth is allowed, invalid frames are precise) differ from the others.
        exclude_invalid_frames: divide by the number of valid frames.
    """
    return _pytracking_family(result, all_positive(result.gt_xywh[:, 2:]), dataset.lower(), exclude_invalid_frames)


def pytracking_curves(
    result: SequenceResult, dataset: str = "", exclude_invalid_frames: bool = False
) -> SequenceCurves:
    """As `ostrack_curves`, but a frame is valid when all four true numbers are positive."""
    return _pytracking_family(result, all_positive(result.gt_xywh), dataset.lower(), exclude_invalid_frames)


def _pytracking_family(result: SequenceResult, valid: Mask, dataset: str, exclude_invalid: bool) -> SequenceCurves:
    """Curves of `ostrack` and `pytracking`; valid: [N] by the true boxes alone."""
    truth, rows = result.gt_xywh, result.prediction_xywh
    unknown = int(has_nan(truth).sum())
    if unknown and dataset != "uav":
        count = f"{unknown} of {len(truth)} frames"
        raise MetricError(f"{result.name}: NaN in the ground truth of {count} (no annotation there)")
    if np.isnan(rows).any():
        raise MetricError(f"{result.name}: NaN in the result")
    if (rows[:, 2:] < 0).any():
        raise MetricError(f"{result.name}: negative width or height in the result")
    # Rows of the tracker without area repeat the row before; missing rows stay empty.
    prediction = result.padded_rows(pad=dataset != "lasot")
    n = min(len(rows), len(prediction))
    empty = (prediction[:n, 2:] == 0).any(axis=1) & ~has_nan(truth[:n])
    prediction[:n] = repeat_previous(prediction[:n], empty)
    prediction[0] = truth[0]
    if result.visible is not None:
        valid = valid & result.visible
    iou = overlap(prediction, truth)
    pixels = centre_error(prediction, truth)
    normalised = normalised_centre_error(prediction, truth)
    iou[~valid] = -1.0
    # -1 passes every "<=" threshold: UAV123 counts its invalid frames as precise, and normalised precision does so on
    # every data set but LaSOT, where absent frames never count. Published numbers contain the effect.
    pixels[~valid] = -1.0 if dataset == "uav" else np.inf
    normalised[~valid] = -1.0
    if dataset == "lasot" and result.visible is not None:
        pixels[~result.visible] = np.inf
        normalised[~result.visible] = np.inf
    frames = int(valid.sum()) if exclude_invalid else len(truth)
    if not frames:
        raise MetricError(f"{result.name}: no valid frame")
    # The toolkits keep curves in single precision, and the last printed digit shows it.
    found = threshold_curves(iou, pixels, normalised, frames=frames, mean_overlap=mean_where(iou, valid))
    return replace(found, curves={k: v.astype(np.float32).astype(np.float64) for k, v in found.curves.items()})


def matlab_curves(result: SequenceResult) -> SequenceCurves:
    """Absent frames are removed but stay in the divisor; a true box with a number <= 0 is a miss, yet precise.

    Papers quote precision at 20 px. (The VisEvent script prints the mean of the precision curve by default.)
    """
    prediction, truth = _repaired(result), result.gt_xywh
    if result.visible is not None:
        prediction, truth = prediction[result.visible], truth[result.visible]
    return _matlab_family(prediction, truth, len(result.gt_xywh))


def _repaired(result: SequenceResult) -> Boxes:
    """NaN rows and rows without area repeat the row before (where the truth has no NaN); row 0 becomes the truth."""
    prediction = result.padded_rows()
    bad = has_nan(prediction) | ~all_positive(prediction[:, 2:])
    prediction = repeat_previous(prediction, bad & ~has_nan(result.gt_xywh))
    prediction[0] = result.gt_xywh[0]
    return prediction


def _matlab_family(prediction: Array, truth: Array, frames: int) -> SequenceCurves:
    """Curves of `matlab` and `lasher`: frames whose truth has a number <= 0 get overlap -1 and error -1."""
    invalid = ~all_positive(truth)
    iou = overlap(prediction, truth)
    pixels = centre_error(prediction, truth)
    normalised = normalised_centre_error(prediction, truth)
    for values in (iou, pixels, normalised):
        values[invalid] = -1.0
    return threshold_curves(iou, pixels, normalised, frames=frames, mean_overlap=mean_where(iou, ~invalid))


def pysot_curves(result: SequenceResult) -> SequenceCurves:
    """Overlap is valid when the true w, h > 0, an error when both numbers of the true centre are > 0.

    What is not valid is -1: a miss, yet precise. Absent frames are removed but stay in the divisor. In the mean
    overlap a true box without area counts as a miss.
    """
    truth, prediction, frames = result.gt_xywh, result.require_rows(), len(result.gt_xywh)
    if result.visible is not None:
        truth, prediction = truth[result.visible], prediction[result.visible]
    has_area, has_centre = all_positive(truth[:, 2:]), all_positive(centres(truth))
    # Rounding can push a perfect overlap to 1 + 2e-16, which would pass the threshold 1.
    share = np.clip(overlap(prediction, truth), 0.0, 1.0)
    iou = np.where(has_area, share, -1.0)
    pixels = np.where(has_centre, centre_error(prediction, truth), -1.0)
    normalised = np.where(has_centre, normalised_centre_error(prediction, truth, eps=1e-16), -1.0)
    return threshold_curves(iou, pixels, normalised, frames=frames, mean_overlap=mean_where(share, ~np.isnan(share)))


def lasher_curves(result: SequenceResult) -> SequenceCurves:
    """The MATLAB protocol of LaSOT without absence labels, on whole pixels in single precision."""
    rounded = SequenceResult(result.name, np.round(result.gt_xywh), _whole_pixels(result.prediction_xywh))
    prediction, truth = _repaired(rounded).astype(np.float32), rounded.gt_xywh.astype(np.float32)
    return _matlab_family(prediction, truth, len(truth))


def rgbt210_curves(result: SequenceResult) -> SequenceCurves:
    """One ground truth, no handling of invalid boxes; frame 0 is the truth."""
    truth = result.gt_xywh.astype(np.float32)
    prediction = _whole_pixels(result.require_rows()).astype(np.float32)
    prediction[0] = truth[0]
    iou, pixels = overlap(prediction, truth), centre_error(prediction, truth)
    return threshold_curves(iou, pixels, frames=len(truth), mean_overlap=float(np.nanmean(iou)))


def rgbt234_curves(result: SequenceResult) -> SequenceCurves:
    """The better of the two true boxes in each frame ("maximum" success and precision rate)."""
    iou, pixels = _better_of_two(result)
    return threshold_curves(iou, pixels, frames=len(iou), mean_overlap=float(np.nanmean(iou)))


def gtot_curves(result: SequenceResult, strict: bool = False) -> SequenceCurves:
    """The better of the two true boxes, errors strictly below 0, 0.5 ... 25 px.

    Args:
        result: its `gt_xywh` come from corners by plain subtraction, w = x2 - x1, as published numbers have it.
        strict: corners are inclusive pixels (w = x2 - x1 + 1).
    """
    iou, pixels = _better_of_two(result, grow=1.0 if strict else 0.0)
    mean = float(np.nanmean(iou))
    return threshold_curves(iou, pixels, frames=len(iou), mean_overlap=mean, pixel_thresholds=GTOT_PIXELS, strict=True)


def _better_of_two(result: SequenceResult, grow: float = 0.0) -> tuple[Array, Array]:
    """[N] larger overlap and smaller centre error of two modalities; grow is added to w, h of boxes from corners."""
    if result.second_gt_xywh is None:
        raise MetricError(f"{result.name}: the ground truth of the second modality is missing")
    if len(result.second_gt_xywh) != len(result.gt_xywh):
        raise MetricError(f"{result.name}: the two ground truths have different lengths")
    more = np.array([0.0, 0.0, grow, grow])
    corners = result.prediction_xywh.shape[1] == 8
    prediction = (_whole_pixels(result.require_rows()) + (more if corners else 0.0)).astype(np.float32)
    truths = [(truth + more).astype(np.float32) for truth in (result.gt_xywh, result.second_gt_xywh)]
    iou = np.fmax(*(overlap(prediction, truth) for truth in truths))
    return iou, np.fmin(*(centre_error(prediction, truth) for truth in truths))


def _whole_pixels(rows: Array) -> Array:
    """Rows rounded to whole pixels, as the `rgbt` toolkit loads them; corners become boxes by plain subtraction."""
    rows = np.round(rows)
    if rows.shape[1] == 8:
        return np.stack([rows[:, 0], rows[:, 1], rows[:, 2] - rows[:, 0], rows[:, 5] - rows[:, 1]], axis=1)
    return rows
