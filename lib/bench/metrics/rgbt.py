"""RGB-thermal benchmarks as the public `rgbt` toolkit scores them: LasHeR, RGBT234, RGBT210, GTOT.

The toolkit rounds results to whole pixels on loading and computes in single precision; both show in the third digit.
RGBT234 and GTOT have a box per modality and take the better one in each frame ("maximum" precision and success rate).
"""

from __future__ import annotations

import numpy as np

from lib.bench.metrics.curves import (
    OVERLAP_THRESHOLDS,
    PIXEL_THRESHOLDS,
    Array,
    centre_error,
    overlap,
    share_above,
    share_within,
)
from lib.bench.metrics.matlab import measured, repaired
from lib.bench.metrics.metric import METRICS, Metric
from lib.bench.metrics.pytracking import ONE_PASS
from lib.bench.metrics.scores import Aggregate, Floats, Measurement, MetricError, Reading, Rule, SequenceResult

GTOT_PIXELS: Floats = np.arange(51, dtype=np.float64) * 0.5


def measure_lasher(result: SequenceResult) -> Measurement:
    """LasHeR (IEEE TIP 2022): the MATLAB protocol of LaSOT without absence labels."""
    whole = SequenceResult(result.name, _whole(result.gt_xywh), _loaded(result.prediction_xywh))
    return measured(_single(repaired(whole)), _single(whole.gt_xywh), len(result.gt_xywh))


def measure_rgbt210(result: SequenceResult) -> Measurement:
    """RGBT210: one ground truth, no handling of invalid boxes; frame 0 is the truth."""
    prediction, truth = _single(_equal_length(result)), _single(result.gt_xywh)
    prediction[0] = truth[0]
    n = len(truth)
    iou = overlap(prediction, truth)
    curves = {
        "success": share_above(iou, OVERLAP_THRESHOLDS, n),
        "precision": share_within(centre_error(prediction, truth), PIXEL_THRESHOLDS, n),
    }
    return Measurement(curves, {"mean_overlap": float(np.nanmean(iou))}, n)


def measure_rgbt234(result: SequenceResult) -> Measurement:
    """RGBT234: the better of the two boxes per frame; frame 0 is the tracker's own."""
    iou, pixels = _best(result, strict=False)
    n = len(result.gt_xywh)
    curves = {
        "success": share_above(iou, OVERLAP_THRESHOLDS, n),
        "precision": share_within(pixels, PIXEL_THRESHOLDS, n),
    }
    return Measurement(curves, {"mean_overlap": float(np.nanmean(iou))}, n)


def measure_gtot(result: SequenceResult, strict: bool = False) -> Measurement:
    """GTOT: the better of the two boxes, errors strictly below 0, 0.5 ... 25 px, frames of all sequences pooled.

    strict: corners are inclusive pixels (w = x2 - x1 + 1); published numbers use w = x2 - x1, as the ground truth
    given here must be (`gt_xywh` from corners by plain subtraction).
    """
    iou, pixels = _best(result, strict)
    n = len(result.gt_xywh)
    curves = {
        "success": share_above(iou, OVERLAP_THRESHOLDS, n),
        "precision": share_within(pixels, GTOT_PIXELS, n, strict=True),
    }
    return Measurement(curves, {"mean_overlap": float(np.nanmean(iou))}, n)


def _best(result: SequenceResult, strict: bool) -> tuple[Array, Array]:
    if result.second_gt_xywh is None:
        raise MetricError(f"{result.name}: the ground truth of the second modality is missing")
    if len(result.second_gt_xywh) != len(result.gt_xywh):
        raise MetricError(f"{result.name}: the two ground truths have different lengths")
    grow = np.array([0.0, 0.0, 1.0, 1.0]) if strict else np.zeros(4)
    corners = result.prediction_xywh.shape[1] == 8
    prediction = _single(_equal_length(result) + (grow if corners else 0.0))
    truths = [_single(truth + grow) for truth in (result.gt_xywh, result.second_gt_xywh)]
    iou = np.fmax(*(overlap(prediction, truth) for truth in truths))
    return iou, np.fmin(*(centre_error(prediction, truth) for truth in truths))


def _equal_length(result: SequenceResult) -> Array:
    if len(result.prediction_xywh) != len(result.gt_xywh):
        raise MetricError(f"{result.name}: {len(result.prediction_xywh)} rows for {len(result.gt_xywh)} frames")
    return _loaded(result.prediction_xywh)


def _loaded(rows: Array) -> Array:
    """Whole pixels, then x, y, w, h from corners x1 y1 x2 y1 x2 y2 ... by plain subtraction."""
    rows = _whole(rows)
    if rows.shape[1] == 8:
        return np.stack([rows[:, 0], rows[:, 1], rows[:, 2] - rows[:, 0], rows[:, 5] - rows[:, 1]], axis=1)
    return rows


def _whole(rows: Array) -> Array:
    return np.round(rows)


def _single(rows: Array) -> Array:
    return rows.astype(np.float32)


LASHER = Rule(
    readings={
        "auc": Reading("SR", "success"),
        "precision": Reading("PR", "precision", 20),
        "norm_precision": Reading("NPR", "norm_precision", 20),
    },
    thresholds=ONE_PASS.thresholds,
)
_PIXELS = {"success": OVERLAP_THRESHOLDS, "precision": PIXEL_THRESHOLDS}
RGBT210 = Rule({"auc": Reading("SR", "success"), "precision": Reading("PR", "precision", 20)}, _PIXELS)
RGBT234 = Rule({"auc": Reading("MSR", "success"), "precision": Reading("MPR", "precision", 20)}, _PIXELS)
GTOT = Rule(
    {"auc": Reading("MSR", "success", "area"), "precision": Reading("MPR", "precision", 10)},
    {"success": OVERLAP_THRESHOLDS, "precision": GTOT_PIXELS},
    Aggregate.POOLED,
)

METRICS.register("lasher")(Metric("LasHeR: PR, NPR, SR", measure_lasher, LASHER, corners=True))
METRICS.register("rgbt210")(Metric("RGBT210: PR, SR", measure_rgbt210, RGBT210, corners=True))
METRICS.register("rgbt234")(Metric("RGBT234: MPR, MSR", measure_rgbt234, RGBT234, corners=True))
METRICS.register("gtot")(Metric("GTOT: MPR at 5 px, MSR, frames pooled", measure_gtot, GTOT, corners=True))
