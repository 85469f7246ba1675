"""Precise RoI pooling (Jiang et al., IoU-Net, ECCV 2018, sec. 3.3) in matrix products, with derivatives in closed form.

A feature map is a bilinear function, zero beyond the grid, with cell (i, j) at the integer point (i, j). A bin is the
mean of this function over its rectangle. The integral is separable: along each axis a bin is a row of weights over the
cells, and pooling is a product with these rows from both sides. Nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TINY = 1e-12
"""Length in cells that stands for zero in divisions."""


def mean_rows(low: Tensor, high: Tensor, bins: int, cells: int) -> Tensor:
    """Weights of the cells in the mean over each of the equal bins of an interval; zero for an empty interval.

    Args:
        low, high: [...] ends of the interval in cells.
        bins: Their number P.
        cells: Along the axis, L.

    Returns:
        [..., P, L], differentiable in the ends.
    """
    offsets, per_length = _offsets(low, high, bins, cells)
    # Integral of the hat function max(0, 1 - |t|) up to each edge, less one half.
    below = offsets - 0.5 * offsets * offsets.abs()
    return below.diff(dim=-2) * (bins * per_length)


def mean_rows_with_derivatives(low: Tensor, high: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """`mean_rows`, and their derivatives with respect to both ends.

    Returns:
        Three [..., P, L]: the rows, their derivatives by `low`, by `high`.
    """
    offsets, per_length = _offsets(low, high, bins, cells)
    hats = 1 - offsets.abs()
    # The integral by way of the hat function, t (1 + hat) / 2.
    rows = (offsets * (1 + hats)).diff(dim=-2) * (0.5 * bins * per_length)
    # An edge moves by its share of the interval with one end, by the rest with the other.
    by_high = hats * (torch.arange(bins + 1, device=low.device, dtype=low.dtype) / bins)[:, None]
    moved = by_high.diff(dim=-2) * bins
    total = hats.diff(dim=-2) * bins
    return rows, (total - moved + rows) * per_length, (moved - rows) * per_length


def _offsets(low: Tensor, high: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor]:
    """Distances of the bins' edges from the cells, cut at -1 and 1, [..., P + 1, L]; one over the length, or zero."""
    length = high - low
    steps = torch.arange(bins + 1, device=low.device, dtype=low.dtype) / bins
    edges = torch.addcmul(low[..., None], length[..., None], steps)
    offsets = edges[..., None] - torch.arange(cells, device=low.device, dtype=low.dtype)
    return offsets.clamp(-1, 1), ((length > 0) / length.clamp_min(TINY))[..., None, None]


def precise_roi_pool(features: Tensor, boxes_xyxy: Tensor, size: int, stride: float) -> Tensor:
    """Means of the feature map over the size x size bins of boxes.

    Args:
        features: [N, C, H, W]; channels-last maps are not copied.
        boxes_xyxy: [N, R, 4] corners in image pixels, R boxes on each map.
        size: P, bins along a side.
        stride: Image pixels per cell.

    Returns:
        [N, R, C, P, P]; zero for boxes without area. Differentiable in features and boxes.
    """
    corners = boxes_xyxy / stride
    rows = mean_rows(corners[..., :2], corners[..., 2:], size, max(features.shape[2:]))
    return _pooled(features, *_by_axis(rows, features))[0].permute(0, 1, 4, 2, 3)


def pool_with_gradient(
    features: Tensor, boxes_xyxy: Tensor, size: int, stride: float
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """`precise_roi_pool` with its derivative by the boxes, for where no graph is recorded.

    Args:
        features, boxes_xyxy, size, stride: As of `precise_roi_pool`.

    Returns:
        The bins [N, R, P, P, C], and a function from the gradient of some score with respect to them, of the same
        shape, to that with respect to the boxes, [N, R, 4].
    """
    corners, (count, channels, height, width) = boxes_xyxy / stride, features.shape
    found = mean_rows_with_derivatives(corners[..., :2], corners[..., 2:], size, max(height, width))
    down, across = _by_axis(found[0], features)
    bins, columns = _pooled(features, down, across)

    def pull_back(gradient: Tensor) -> Tensor:
        """[N, R, P, P, C] -> [N, R, 4]."""
        on_across = (gradient @ columns.transpose(3, 4)).sum(dim=2)
        spread = (across.transpose(2, 3)[:, :, None] @ gradient).view(count, -1, width * channels)
        on_down = (spread @ _channels_last(features).flatten(2).transpose(1, 2)).view(down.shape)
        if height == width:
            both = torch.stack([on_across, on_down], dim=2)
            return torch.cat([(rows * both).sum(dim=(3, 4)) for rows in found[1:]], dim=2) / stride
        pairs = [
            (rows, on)
            for end in found[1:]
            for rows, on in zip(_by_axis(end, features), (on_down, on_across), strict=True)
        ]
        y1, x1, y2, x2 = ((rows * on).sum(dim=(2, 3)) for rows, on in pairs)
        return torch.stack([x1, y1, x2, y2], dim=2) / stride

    return bins, pull_back


def _by_axis(rows: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [N, R, 2, P, L] of x and y -> those down the map and those across it."""
    return rows[:, :, 1, :, : features.shape[2]], rows[:, :, 0, :, : features.shape[3]]


def _channels_last(features: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W, C], contiguous."""
    return features.permute(0, 2, 3, 1).contiguous()


def _pooled(features: Tensor, down: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Both products.

    Args:
        features: [N, C, H, W].
        down, across: [N, R, P, H] and [N, R, Q, W].

    Returns:
        Bins [N, R, P, Q, C], and the columns [N, R, P, W, C] that were pooled downwards alone.
    """
    channels, width = features.shape[1], features.shape[3]
    columns = down.flatten(1, 2) @ _channels_last(features).flatten(2)
    columns = columns.view(*down.shape[:3], width, channels)
    return across[:, :, None] @ columns, columns
