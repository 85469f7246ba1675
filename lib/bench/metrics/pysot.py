"""One-pass evaluation of the pysot toolkit (variant `pysot`), as SLT-SiamRPN++ and SLT-SiamAttn report it."""

from __future__ import annotations

import numpy as np

from lib.bench.metrics.curves import (
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    PIXEL_THRESHOLDS,
    centre_error,
    centres,
    mean_where,
    normalised_centre_error,
    overlap,
    positive,
    share_above,
    share_within,
)
from lib.bench.metrics.metric import METRICS, Metric
from lib.bench.metrics.pytracking import ONE_PASS
from lib.bench.metrics.scores import Measurement, MetricError, SequenceResult


def measure_pysot(result: SequenceResult) -> Measurement:
    """Row 0 is the tracker's own. Overlap is valid when the true w, h > 0, an error when both true centre numbers are.

    What is not valid is -1: a miss, yet precise. Absent frames are removed but stay in the divisor.
    """
    truth, prediction = result.gt_xywh, result.prediction_xywh
    frames = len(truth)
    if len(prediction) != frames:
        raise MetricError(f"{result.name}: {len(prediction)} rows for {frames} frames")
    if result.visible is not None:
        truth, prediction = truth[result.visible], prediction[result.visible]
    sized = positive(truth[:, 2:])
    # Rounding can push a perfect overlap to 1 + 2e-16, which would pass the threshold 1.
    iou = np.where(sized, np.clip(overlap(prediction, truth), 0.0, 1.0), -1.0)
    placed = positive(centres(truth))
    pixels = np.where(placed, centre_error(prediction, truth), -1.0)
    normalised = np.where(placed, normalised_centre_error(prediction, truth, eps=1e-16), -1.0)
    curves = {
        "success": share_above(iou, OVERLAP_THRESHOLDS, frames),
        "precision": share_within(pixels, PIXEL_THRESHOLDS, frames),
        "norm_precision": share_within(normalised, NORMALISED_THRESHOLDS, frames),
    }
    return Measurement(curves, {"mean_overlap": mean_where(iou, sized)}, frames)


METRICS.register("pysot")(Metric("pysot toolkit, one-pass evaluation", measure_pysot, ONE_PASS))
