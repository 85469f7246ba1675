"""Long-term protocol of VOT, which DepthTrack uses: tracking precision, recall and F-score (`vot_longterm`).

Lukezic et al., "Performance evaluation methodology for long-term single-object tracking", IEEE Transactions on
Cybernetics 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lib.bench.metrics.curves import has_nan, mean_where
from lib.bench.metrics.metric import METRICS, Metric
from lib.bench.metrics.scores import Curves, Floats, Measurement, MetricError, Reading, Rule, Scores, SequenceResult
from lib.bench.metrics.vot_region import initialised, vot_overlap

PRECISION, RECALL, F_SCORE = "tracking_precision", "tracking_recall", "f_score"


def measure_longterm(result: SequenceResult) -> Measurement:
    """Overlap and confidence of every frame; the first one (initialisation) has no region and confidence 0."""
    if result.image_size_wh is None:
        raise MetricError(f"{result.name}: the picture size is missing, overlaps are counted within the picture")
    if result.confidence is None:
        raise MetricError(f"{result.name}: no confidence beside the boxes; the F-score is read over confidence")
    frames = len(result.gt_xywh)
    for what, rows in (("rows", result.prediction_xywh), ("confidences", result.confidence)):
        if len(rows) != frames:
            raise MetricError(f"{result.name}: {len(rows)} {what} for {frames} frames")
    overlap = vot_overlap(initialised(result.prediction_xywh), result.gt_xywh, result.image_size_wh)
    confidence = np.where(np.isnan(result.confidence), 0.0, result.confidence)
    confidence[0] = 0.0
    present = ~has_nan(result.gt_xywh)
    if not present.any():
        raise MetricError(f"{result.name}: no frame has ground truth")
    samples = {"overlap": overlap, "confidence": confidence, "present": present.astype(np.float64)}
    later = present & (np.arange(frames) > 0)
    return Measurement({}, {"mean_overlap": mean_where(overlap, later)}, frames, samples=samples)


def join_longterm(measured: Sequence[Measurement], resolution: int = 100) -> list[Measurement]:
    """Thresholds from the confidences of all sequences, then precision and recall of each sequence over them."""
    chosen = confidence_thresholds(np.concatenate([m.samples["confidence"] for m in measured]), resolution)
    joined = []
    for m in measured:
        precision, recall = _precision_and_recall(m, chosen)
        joined.append(
            replace(
                m,
                curves={PRECISION: precision, RECALL: recall},
                thresholds={PRECISION: chosen, RECALL: chosen, F_SCORE: chosen},
            )
        )
    return joined


def confidence_thresholds(confidence: Floats, resolution: int) -> Floats:
    """Falling thresholds, +inf first and -inf last: `resolution` in all, evenly over the sorted confidences, or every
    confidence where there are fewer.
    """
    if resolution < 3:
        raise MetricError(f"resolution {resolution}: expected at least 3 thresholds")
    falling = np.sort(confidence)[::-1]
    inner = resolution - 2
    if len(falling) > inner:
        step = len(falling) // inner
        falling = falling[np.round(np.linspace(step, len(falling) - step, num=inner)).astype(np.int64)]
    return np.concatenate([[np.inf], falling, [-np.inf]])


def _precision_and_recall(m: Measurement, thresholds: Floats) -> tuple[Floats, Floats]:
    """Of the frames whose confidence reaches each threshold; without any, precision 1 and recall 0."""
    order = np.argsort(-m.samples["confidence"], kind="stable")
    summed = np.concatenate([[0.0], np.cumsum(m.samples["overlap"][order])])
    counts = np.searchsorted(-m.samples["confidence"][order], -thresholds, side="right")
    precision = np.divide(summed[counts], counts, out=np.ones(len(thresholds)), where=counts > 0)
    return precision, summed[counts] / m.samples["present"].sum()


def _f_score(curve: Curves) -> Floats:
    precision, recall = curve(PRECISION), curve(RECALL)
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros(total.shape), where=total > 0)


def _note(scores: Scores) -> str | None:
    confidences = [m.samples["confidence"][1:] for m in scores.measured]
    if confidences and len(np.unique(np.concatenate(confidences))) < 2:
        return "the confidence is the same in all frames, so that F says nothing of whether the tracker knows a loss"
    return None


LONGTERM = Rule(
    readings={
        "f_score": Reading("F", F_SCORE, "best"),
        "precision": Reading("Pr", PRECISION, "best"),
        "recall": Reading("Re", RECALL, "best"),
    },
    thresholds={},
    derived={F_SCORE: _f_score},
    best=F_SCORE,
    note=_note,
)

METRICS.register("vot_longterm")(
    Metric(
        "VOT long-term: F-score, precision, recall at the best confidence",
        measure_longterm,
        LONGTERM,
        join=join_longterm,
    )
)
