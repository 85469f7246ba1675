"""Primitives that every metric variant is made of: overlaps, centre errors, threshold curves, repair of bad rows.

Boxes are x, y, w, h in image pixels, float64 (or float32 where a tool computes so). Curves are shares in 0..1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

OVERLAP_THRESHOLDS: NDArray[np.float64] = np.arange(21, dtype=np.float64) * 0.05
PIXEL_THRESHOLDS: NDArray[np.float64] = np.arange(51, dtype=np.float64)
NORMALISED_THRESHOLDS: NDArray[np.float64] = np.arange(51) / 100.0


def overlap(a_xywh: Array, b_xywh: Array, eps: float = 0.0) -> Array:
    """Intersection over union of N pairs of boxes, [N]; NaN where both boxes are empty or a number is NaN.

    eps is added to the union (the got10k toolkit does so).
    """
    low = np.maximum(a_xywh[:, :2], b_xywh[:, :2])
    high = np.minimum(a_xywh[:, :2] + a_xywh[:, 2:], b_xywh[:, :2] + b_xywh[:, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=1)
    union = a_xywh[:, 2:].prod(axis=1) + b_xywh[:, 2:].prod(axis=1) - intersection
    with np.errstate(divide="ignore", invalid="ignore"):
        return intersection / (union + eps) if eps else intersection / union


def centres(xywh: Array) -> Array:
    """Box centres, [N, 2], in the inclusive-pixel form x + (w - 1) / 2 that the tools use.

    The half pixel cancels in a distance, but not in its rounding: ties at a threshold depend on it.
    """
    half = np.asarray(0.5, dtype=xywh.dtype)
    return xywh[:, :2] + half * (xywh[:, 2:] - 1)


def centre_error(prediction_xywh: Array, truth_xywh: Array) -> Array:
    """Distance of the centres in pixels, [N]."""
    return _norm(centres(prediction_xywh) - centres(truth_xywh))


def normalised_centre_error(prediction_xywh: Array, truth_xywh: Array, eps: float = 0.0) -> Array:
    """Distance of the centres in units of the true box, [N]: each is divided by the true (w, h) before subtraction."""
    size = truth_xywh[:, 2:] + eps if eps else truth_xywh[:, 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _norm(centres(prediction_xywh) / size - centres(truth_xywh) / size)


def _norm(difference: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt((difference**2).sum(axis=1))


def share_above(values: Array, thresholds: Array, divisor: int) -> NDArray[np.float64]:
    """Share of values > t for each threshold, [T]. NaN never counts. `divisor` need not be the number of values."""
    ordered = _sorted(values)
    return _share(len(ordered) - np.searchsorted(ordered, thresholds, side="right"), divisor)


def share_within(values: Array, thresholds: Array, divisor: int, strict: bool = False) -> NDArray[np.float64]:
    """Share of values <= t (or < t when strict) for each threshold, [T]. NaN never counts."""
    return _share(np.searchsorted(_sorted(values), thresholds, side="left" if strict else "right"), divisor)


def _sorted(values: Array) -> NDArray[np.float64]:
    values = values.astype(np.float64)
    return np.sort(values[~np.isnan(values)])


def _share(counts: NDArray[np.intp], divisor: int) -> NDArray[np.float64]:
    return counts / divisor if divisor else np.zeros(len(counts))


def positive(rows: Array) -> NDArray[np.bool_]:
    """[N] all numbers of the row are > 0 (NaN is not)."""
    return np.asarray((rows > 0).all(axis=1), dtype=np.bool_)


def has_nan(rows: Array) -> NDArray[np.bool_]:
    """[N] some number of the row is NaN."""
    return np.asarray(np.isnan(rows).any(axis=1), dtype=np.bool_)


def repeat_previous(rows: Array, bad: NDArray[np.bool_]) -> Array:
    """Each bad row replaced by the nearest earlier row that is not bad; row 0 stays. rows [N, D], bad [N]."""
    source = np.where(bad, 0, np.arange(len(rows)))
    return rows[np.maximum.accumulate(source)]


def mean_where(values: Array, mask: NDArray[np.bool_]) -> float:
    """Mean of the masked values; NaN when there are none."""
    return float(values[mask].mean()) if mask.any() else float("nan")
