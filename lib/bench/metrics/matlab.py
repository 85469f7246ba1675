"""One-pass evaluation of the LaSOT and VisEvent MATLAB toolkits (variant `matlab`), the same code in both.

Published LaSOT and VisEvent numbers: AUC of success, precision at 20 px, normalised precision at 0.20. (The VisEvent
script prints the mean of the precision curve unless its ranking type is changed; papers quote the 20-px value.)
"""

from __future__ import annotations

import dataclasses

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
from lib.bench.metrics.pytracking import ONE_PASS
from lib.bench.metrics.scores import Aggregate, Measurement, SequenceResult
from lib.data import Boxes


def measure_matlab(result: SequenceResult) -> Measurement:
    """Absent frames are deleted but stay in the divisor; a true box with a number <= 0 is a miss, yet precise."""
    frames = len(result.gt_xywh)
    prediction, truth = repaired(result), result.gt_xywh
    if result.visible is not None:
        prediction, truth = prediction[result.visible], truth[result.visible]
    return measured(prediction, truth, frames)


def repaired(result: SequenceResult) -> Boxes:
    """NaN rows and rows without area repeat the row before (where the truth has no NaN); row 0 becomes the truth."""
    prediction = result.cut()
    bad = has_nan(prediction) | ~positive(prediction[:, 2:])
    prediction = repeat_previous(prediction, bad & ~has_nan(result.gt_xywh))
    prediction[0] = result.gt_xywh[0]
    return prediction


def measured(prediction: Boxes, truth: Boxes, frames: int) -> Measurement:
    """Curves of repaired boxes: frames whose truth has a number <= 0 get overlap -1 and error -1."""
    invalid = ~positive(truth)
    iou = overlap(prediction, truth)
    pixels = centre_error(prediction, truth)
    normalised = normalised_centre_error(prediction, truth)
    for values in (iou, pixels, normalised):
        values[invalid] = -1.0
    curves = {
        "success": share_above(iou, OVERLAP_THRESHOLDS, frames),
        "precision": share_within(pixels, PIXEL_THRESHOLDS, frames),
        "norm_precision": share_within(normalised, NORMALISED_THRESHOLDS, frames),
    }
    return Measurement(curves, {"mean_overlap": mean_where(iou, ~invalid)}, frames)


METRICS.register("matlab")(
    Metric(
        "MATLAB toolkits of LaSOT and VisEvent",
        measure_matlab,
        dataclasses.replace(ONE_PASS, aggregate=Aggregate.MEAN_NONEMPTY),
    )
)
