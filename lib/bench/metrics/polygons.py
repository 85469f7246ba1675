"""Overlap of polygons in pixels, as the VOT challenges of 2013 to 2019 and pysot's toolkit count them.

It differs from the exact overlap of the polygons, and from the VOT toolkit's rule for rectangles (`vot_overlap`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lib.bench.metrics.curves import Array, Floats
from lib.data import xywh_to_corners

MIN_RATIO = 1e-10
"""Ratio of the areas of two regions below which they do not overlap."""
Single = NDArray[np.float32]


def polygon_overlap(first: Array, second: Array, size_wh: tuple[float, float] | None = None) -> Floats:
    """Share of pixels in both regions among the pixels in either, row by row.

    Args:
        first, second: [N, 4] boxes x, y, w, h or [N, 2 K] corners x, y, ... in image pixels.
        size_wh: Image size in pixels, to which the regions are cut; None: no cutting.

    Returns:
        [N]; NaN where a number of either region is.
    """
    return np.array([_overlap(_corners(a), _corners(b), size_wh) for a, b in zip(first, second, strict=True)])


def _corners(region: Array) -> Single:
    """[K, 2] corners of a row of 4 or 2 K numbers."""
    row = np.asarray(region, dtype=np.float32)
    return (xywh_to_corners(row[None]) if len(row) == 4 else row).reshape(-1, 2)


def _overlap(a: Single, b: Single, size_wh: tuple[float, float] | None) -> float:
    if np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    lows = np.floor([a.min(axis=0), b.min(axis=0)])
    highs = np.ceil([a.max(axis=0), b.max(axis=0)])
    if size_wh is not None:
        lows, highs = np.maximum(lows, 0), np.minimum(highs, np.asarray(size_wh, dtype=np.float32))
    areas = (highs - lows).prod(axis=1)
    inside = np.minimum(*highs) - np.maximum(*lows)
    if (highs <= lows).any() or areas.min() / areas.max() < MIN_RATIO or (inside <= 0).any():
        return 0.0
    origin = lows.min(axis=0)
    width, height = (int(side) + 1 for side in highs.max(axis=0) - origin)
    masks = [filled_polygon(polygon - origin, width, height) for polygon in (a, b)]
    either = int((masks[0] | masks[1]).sum())
    return int((masks[0] & masks[1]).sum()) / either if either else 0.0


def filled_polygon(corners: Single, width: int, height: int) -> NDArray[np.bool_]:
    """Pixels of a polygon by scan lines, both ends of a line included.

    Args:
        corners: [K, 2] x, y in pixels; they are rounded half away from zero.
        width, height: Of the raster.

    Returns:
        [height, width].
    """
    points = np.copysign(np.floor(np.abs(corners) + np.float32(0.5)), corners)
    (x1, y1), (x2, y2) = points.T, np.roll(points, 1, axis=0).T
    rows = np.arange(height, dtype=np.float32)[:, None]
    crossed = (rows >= np.minimum(y1, y2)) & (rows <= np.maximum(y1, y2)) & (y1 != y2)
    with np.errstate(divide="ignore", invalid="ignore"):
        nodes = np.trunc(x1 + (rows - y1) / (y2 - y1) * (x2 - x1))
    nodes = np.sort(np.where(crossed, nodes, np.inf), axis=1)
    count, at = crossed.sum(axis=1), np.zeros(height, dtype=np.int64)
    columns, line = np.arange(width), np.arange(height)
    mask = np.zeros((height, width), dtype=np.bool_)
    while (open_ := at + 1 < count).any():
        start, end = (nodes[line, np.minimum(at + i, len(corners) - 1)] for i in (0, 1))
        fill = open_ & (start != end)
        mask |= fill[:, None] & (columns >= start[:, None]) & (columns <= end[:, None])
        at += np.where(open_, np.where(fill, 2, 1), 0)
    return mask
