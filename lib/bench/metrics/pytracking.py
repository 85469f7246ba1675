"""One-pass evaluation as the pytracking family computes it (variants `ostrack` and `pytracking`).

OSTrack, STARK, LoReTrack, CSTrack and SLT call a frame valid when the true width and height are positive; current
pytracking wants all four numbers positive. Everything else is the same.
"""

from __future__ import annotations

import numpy as np

from lib.bench.metrics.curves import (
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    PIXEL_THRESHOLDS,
    centre_error,
    has_nan,
    mean_where,
    normalised_centre_error,
    overlap,
    positive,
    repeat_previous,
    share_above,
    share_within,
)
from lib.bench.metrics.metric import METRICS, Metric
from lib.bench.metrics.scores import Floats, Measurement, MetricError, Reading, Rule, SequenceResult
from lib.data import Boxes, Mask

ONE_PASS = Rule(
    readings={
        "auc": Reading("AUC", "success"),
        "op50": Reading("OP50", "success", 10),
        "op75": Reading("OP75", "success", 15),
        "precision": Reading("Precision", "precision", 20),
        "norm_precision": Reading("Norm Precision", "norm_precision", 20),
    },
    thresholds={
        "success": OVERLAP_THRESHOLDS,
        "precision": PIXEL_THRESHOLDS,
        "norm_precision": NORMALISED_THRESHOLDS,
    },
)


def measure_ostrack(result: SequenceResult, dataset: str = "", exclude_invalid_frames: bool = False) -> Measurement:
    """A frame is valid when the true w and h are positive (and the target is visible, where the data set says)."""
    return _measure(result, positive(result.gt_xywh[:, 2:]), dataset, exclude_invalid_frames)


def measure_pytracking(result: SequenceResult, dataset: str = "", exclude_invalid_frames: bool = False) -> Measurement:
    """A frame is valid when all four true numbers are positive (and the target is visible)."""
    return _measure(result, positive(result.gt_xywh), dataset, exclude_invalid_frames)


def _measure(result: SequenceResult, valid: Mask, dataset: str, exclude_invalid: bool) -> Measurement:
    dataset = dataset.lower()
    truth = result.gt_xywh
    if np.isnan(truth).any() and dataset != "uav":
        raise MetricError(f"{result.name}: NaN in the ground truth (only UAV123 has such rows)")
    prediction = _repaired(result, "error" if dataset == "lasot" else "zeros")
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
    curves = {
        "success": _single(share_above(iou, OVERLAP_THRESHOLDS, frames)),
        "precision": _single(share_within(pixels, PIXEL_THRESHOLDS, frames)),
        "norm_precision": _single(share_within(normalised, NORMALISED_THRESHOLDS, frames)),
    }
    return Measurement(curves, {"mean_overlap": mean_where(iou, valid)}, frames)


def _repaired(result: SequenceResult, shorter: str) -> Boxes:
    """Rows with zero width or height repeat the row before; missing rows become empty boxes afterwards."""
    rows = result.prediction_xywh
    if np.isnan(rows).any():
        raise MetricError(f"{result.name}: NaN in the result")
    if (rows[:, 2:] < 0).any():
        raise MetricError(f"{result.name}: negative width or height in the result")
    prediction = result.cut(shorter)
    n = min(len(rows), len(prediction))
    unknown = has_nan(result.gt_xywh[:n])
    empty = (prediction[:n, 2:] == 0).any(axis=1) & ~unknown
    prediction[:n] = repeat_previous(prediction[:n], empty)
    return prediction


def _single(curve: Floats) -> Floats:
    """The tools keep curves in single precision, and the last printed digit shows it."""
    return curve.astype(np.float32).astype(np.float64)


METRICS.register("ostrack")(
    Metric("pytracking's analysis as OSTrack has it: valid when w, h > 0", measure_ostrack, ONE_PASS)
)
METRICS.register("pytracking")(
    Metric("pytracking's analysis today: valid when x, y, w, h > 0", measure_pytracking, ONE_PASS)
)
