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
    length = high - low
    steps = torch.arange(bins + 1, device=low.device, dtype=low.dtype) / bins
    offsets = (low[..., None] + steps * length[..., None])[..., None] - torch.arange(
        cells, device=low.device, dtype=low.dtype
    )
    offsets = offsets.clamp(-1, 1)
    # Integral of the hat function max(0, 1 - |t|) up to each edge, less one half.
    below = offsets - 0.5 * offsets * offsets.abs()
    filled = length > 0
    per_bin = torch.where(filled, bins / length.clamp_min(TINY), 0.0)
    return below.diff(dim=-2) * per_bin[..., None, None]


def mean_rows_with_derivatives(low: Tensor, high: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """`mean_rows`, and their derivatives with respect to both ends.

    Returns:
        Three [..., P, L]: the rows, their derivatives by `low`, by `high`.
    """
    rows, length = mean_rows(low, high, bins, cells), (high - low)[..., None]
    steps = torch.arange(bins + 1, device=low.device, dtype=low.dtype) / bins
    places = torch.arange(cells, device=low.device, dtype=low.dtype)
    edges = low[..., None] + steps * length
    hats = (1 - (edges[..., None] - places).abs()).clamp_min(0)
    per_length = torch.where(length > 0, 1 / length.clamp_min(TINY), 0.0)[..., None]
    by_high = hats * steps[:, None]
    derivatives = [
        (moved.diff(dim=-2) * bins + sign * rows) * per_length for moved, sign in ((hats - by_high, 1), (by_high, -1))
    ]
    return rows, derivatives[0], derivatives[1]


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
    x1, y1, x2, y2 = (boxes_xyxy / stride).unbind(-1)
    height, width = features.shape[-2:]
    down, across = mean_rows(y1, y2, size, height), mean_rows(x1, x2, size, width)
    return _pooled(features, down, across)[0].permute(0, 1, 4, 2, 3)


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
    x1, y1, x2, y2 = (boxes_xyxy / stride).unbind(-1)
    count, channels, height, width = features.shape
    down, by_y1, by_y2 = mean_rows_with_derivatives(y1, y2, size, height)
    across, by_x1, by_x2 = mean_rows_with_derivatives(x1, x2, size, width)
    bins, columns = _pooled(features, down, across)

    def pull_back(gradient: Tensor) -> Tensor:
        """[N, R, P, P, C] -> [N, R, 4]."""
        # of the rows across: [N, R, Q, P * C] @ [N, R, P * C, W]; of those down, through [N, R * P, W * C]
        on_across = gradient.permute(0, 1, 3, 2, 4).flatten(3) @ columns.transpose(2, 3).flatten(3).transpose(2, 3)
        spread = (across.transpose(2, 3)[:, :, None] @ gradient).view(count, -1, width * channels)
        on_down = (spread @ _channels_last(features).flatten(2).transpose(1, 2)).view(down.shape)
        pairs = ((by_x1, on_across), (by_y1, on_down), (by_x2, on_across), (by_y2, on_down))
        return torch.stack([(rows * on).sum(dim=(2, 3)) for rows, on in pairs], dim=-1) / stride

    return bins, pull_back


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
