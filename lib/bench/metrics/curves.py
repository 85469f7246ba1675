"""Parts of every metric variant: overlaps, centre errors, threshold curves, repair of unusable rows.

Boxes are x, y, w, h in image pixels, float64 (or float32 where a tool computes so). Curves are shares in 0..1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.bench.result_files import Floats

Array = NDArray[Any]
Bools = NDArray[np.bool_]


def overlap(a_xywh: Array, b_xywh: Array, eps: float = 0.0) -> Array:
    """Intersection over union of N pairs of boxes.

    Args:
        a_xywh, b_xywh: [N, 4].
        eps: added to the union, as the got10k toolkit does.

    Returns:
        [N]; NaN where both boxes are empty or a number is NaN.
    """
    low = np.maximum(a_xywh[:, :2], b_xywh[:, :2])
    high = np.minimum(a_xywh[:, :2] + a_xywh[:, 2:], b_xywh[:, :2] + b_xywh[:, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=1)
    union = a_xywh[:, 2:].prod(axis=1) + b_xywh[:, 2:].prod(axis=1) - intersection
    with np.errstate(divide="ignore", invalid="ignore"):
        return intersection / (union + eps) if eps else intersection / union


def centres(xywh: Array) -> Array:
    """[N, 2] box centres in the inclusive-pixel form x + (w - 1) / 2 of the toolkits.

    The half pixel cancels in a distance, but not in its rounding: ties at a threshold depend on it.
    """
    half = np.asarray(0.5, dtype=xywh.dtype)
    return xywh[:, :2] + half * (xywh[:, 2:] - 1)


def centre_error(prediction_xywh: Array, truth_xywh: Array) -> Array:
    """[N] distance of the centres in pixels."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(((centres(prediction_xywh) - centres(truth_xywh)) ** 2).sum(axis=1))


def normalised_centre_error(prediction_xywh: Array, truth_xywh: Array, eps: float = 0.0) -> Array:
    """[N] distance of the centres, each divided by the true (w, h) before the subtraction."""
    size = truth_xywh[:, 2:] + eps if eps else truth_xywh[:, 2:]
    with np.errstate(all="ignore"):
        return np.sqrt(((centres(prediction_xywh) / size - centres(truth_xywh) / size) ** 2).sum(axis=1))


def share_above(values: Array, thresholds: Array, divisor: int) -> Floats:
    """[T] count of values > threshold over `divisor` (not always the number of values); NaN never counts."""
    known = np.sort(values[~np.isnan(values)].astype(np.float64))
    counts = len(known) - np.searchsorted(known, thresholds, side="right")
    return counts / divisor if divisor else np.zeros(len(thresholds))


def share_within(values: Array, thresholds: Array, divisor: int, strict: bool = False) -> Floats:
    """[T] count of values <= threshold (< if `strict`) over `divisor`; NaN never counts."""
    known = np.sort(values[~np.isnan(values)].astype(np.float64))
    counts = np.searchsorted(known, thresholds, side="left" if strict else "right")
    return counts / divisor if divisor else np.zeros(len(thresholds))


def all_positive(rows: Array) -> Bools:
    """[N] True where all numbers of the row are > 0 (NaN is not)."""
    return np.asarray((rows > 0).all(axis=1), dtype=np.bool_)


def has_nan(rows: Array) -> Bools:
    """[N] True where a number of the row is NaN."""
    return np.asarray(np.isnan(rows).any(axis=1), dtype=np.bool_)


def repeat_previous(rows: Array, bad: Bools) -> Array:
    """Replace each bad row by the nearest earlier good row; row 0 stays. rows: [N, D], bad: [N]."""
    return rows[np.maximum.accumulate(np.where(bad, 0, np.arange(len(rows))))]


def mean_where(values: Array, mask: Bools) -> float:
    """Mean of the masked values; NaN when the mask is empty."""
    return float(values[mask].mean()) if mask.any() else float("nan")
