"""Overlap of rectangles as the VOT toolkit has it: rectangles cover whole pixels of the picture.

A special region (initialisation, lost, no ground truth) is a row with NaN; it covers nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lib.bench.metrics.curves import has_nan
from lib.bench.metrics.scores import Floats
from lib.data import Boxes

Corners = NDArray[np.int64]


def vot_overlap(a_xywh: Boxes, b_xywh: Boxes, size_wh: tuple[int, int] | None) -> Floats:
    """[N] share of pixels in both regions among the pixels in either, within a picture of `size_wh` pixels.

    x, y, w, h are rounded each (half to even, from single precision). Two regions within a strip one pixel wide or
    high are equal (1), whatever they are; what lies outside the picture, or leaves such a strip of it, overlaps 0.
    """
    a, b = pixels(a_xywh), pixels(b_xywh)
    around = np.concatenate([np.minimum(a[:, :2], b[:, :2]), np.maximum(a[:, 2:], b[:, 2:])], axis=1)
    same = _thin(around)
    if size_wh is not None:
        low, high = np.zeros(2, dtype=np.int64), np.asarray(size_wh, dtype=np.int64) - 1
        around = np.concatenate([np.maximum(around[:, :2], low), np.minimum(around[:, 2:], high)], axis=1)
    area_a, area_b, both = (_area(region, around) for region in (a, b, _common(a, b)))
    for area, box in ((area_a, a_xywh), (area_b, b_xywh)):
        area[has_nan(box)] = 0
    both[has_nan(a_xywh) | has_nan(b_xywh)] = 0
    either = area_a + area_b - both
    share = np.divide(both, either, out=np.zeros(len(a)), where=either > 0)
    share[_thin(around)] = 0.0
    share[same] = 1.0
    return share


def initialised(boxes_xywh: Boxes) -> Boxes:
    """A run's boxes with the special region in the first row, whatever stands there: the tracker was given that box."""
    return np.concatenate([np.full((1, 4), np.nan), boxes_xywh[1:]])


def pixels(boxes_xywh: Boxes) -> Corners:
    """[N, 4] first and last column and row (x1, y1, x2, y2) of each box; pixel 0, 0 for a special region."""
    single = np.round(boxes_xywh.astype(np.float32)).astype(np.float64)
    corners = np.concatenate([single[:, :2], single[:, :2] + single[:, 2:] - 1], axis=1)
    return np.where(has_nan(boxes_xywh)[:, None], 0.0, corners).astype(np.int64)


def _common(a: Corners, b: Corners) -> Corners:
    return np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1)


def _area(region: Corners, within: Corners) -> Floats:
    inside = _common(region, within)
    return np.clip(inside[:, 2:] - inside[:, :2] + 1, 0, None).prod(axis=1).astype(np.float64)


def _thin(region: Corners) -> NDArray[np.bool_]:
    return np.asarray((region[:, :2] >= region[:, 2:]).any(axis=1), dtype=np.bool_)
