"""Precise RoI pooling (Jiang et al., IoU-Net, ECCV 2018, sec. 3.3) in matrix products, with derivatives in closed form.

A feature map is a bilinear function, zero beyond the grid, with cell (i, j) at the integer point (i, j). A bin is the
mean of this function over its rectangle. The integral is separable: along each axis a bin is a row of weights over the
cells, and pooling is a product with these rows from both sides. Nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

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
    edges = low[..., None] + length[..., None] * steps
    offsets = (edges[..., None] - torch.arange(cells, device=low.device, dtype=low.dtype)).clamp(-1, 1)
    # Integral of the hat function max(0, 1 - |t|) up to each edge, less one half.
    below = offsets - 0.5 * offsets * offsets.abs()
    return below.diff(dim=-2) * (bins * (length > 0) / length.clamp_min(TINY))[..., None, None]


def precise_roi_pool(features: Tensor, boxes_xyxy: Tensor, size: int | tuple[int, int], stride: float) -> Tensor:
    """Means of the feature map over the bins of boxes.

    Args:
        features: [N, C, H, W]; channels-last maps are not copied.
        boxes_xyxy: [N, R, 4] corners in image pixels, R boxes on each map.
        size: P, Q bins along height and width; one number for both.
        stride: Image pixels per cell.

    Returns:
        [N, R, C, P, Q]; zero for boxes without area. Differentiable in features and boxes.
    """
    x1, y1, x2, y2 = (boxes_xyxy / stride).unbind(dim=2)
    bins, (height, width) = (size, size) if isinstance(size, int) else size, features.shape[2:]
    down, across = mean_rows(y1, y2, bins[0], height), mean_rows(x1, x2, bins[1], width)
    return _pooled(channels_last_rows(features), down, across)[0].permute(0, 1, 4, 2, 3)


class LevelPooling:
    """Precise RoI pooling of boxes on several feature maps, with the derivative by the boxes in closed form.

    For repeated pooling of the same maps without autograd: what does not depend on the boxes is computed once, and the
    weights of both axes and of all maps are one product.

    Args:
        maps: [N, C, H, W] each.
        sizes: P of each map, bins along a side.
        strides: Image pixels per cell of each map.
        origins: [N, 2] each, x and y of the maps' corners in image pixels; zero by default.
    """

    def __init__(
        self, maps: Sequence[Tensor], sizes: Sequence[int], strides: Sequence[float], origins: Sequence[Tensor] = ()
    ) -> None:
        like, self.sizes = maps[0], list(sizes)
        self.maps = [(channels_last_rows(x), x.shape[2], x.shape[3]) for x in maps]
        self.cells = max(max(height, width) for _, height, width in self.maps)
        self.places = torch.arange(self.cells, device=like.device, dtype=like.dtype)
        self.ends, self.to_rows, self.to_slopes = _constants(tuple(sizes), tuple(strides), like.device, like.dtype)
        self.starts: Tensor | None = None
        if origins:
            starts = [o[..., None].expand(-1, -1, p + 1) / s for o, p, s in zip(origins, sizes, strides, strict=True)]
            self.starts = torch.cat(starts, dim=2)[:, None].to(like)

    def __call__(
        self, low: Tensor, extent: Tensor
    ) -> tuple[list[Tensor], Callable[[list[Tensor]], tuple[Tensor, Tensor]]]:
        """Means of the bins.

        Args:
            low: [N, R, 2] x, y of the boxes' upper left corners in image pixels.
            extent: [N, R, 2] their widths and heights.

        Returns:
            Bins [N, R, P, P, C] of each map; and a function from the gradients of some score by these bins to those by
            `low` and `extent`.
        """
        # Edges of the bins of all maps along x and y in cells, [N, R, 2, E], and their distances from the cells.
        edges = torch.stack([low, extent], dim=3) @ self.ends
        edges = edges if self.starts is None else edges - self.starts
        offsets = (edges[..., None] - self.places).clamp_(-1, 1)
        hats = 1 - offsets.abs()
        scale = (extent > 0) / extent.clamp_min(TINY)
        # Weights of the cells in each bin, [N, R, 2, bins, cells].
        rows = (self.to_rows @ torch.addcmul(offsets, offsets, hats)) * scale[..., None, None]
        bins, columns = [], []
        weights = [
            (axes[:, :, 1, :, :height], axes[:, :, 0, :, :width])
            for axes, (_, height, width) in zip(rows.split(self.sizes, dim=3), self.maps, strict=True)
        ]
        for (features, _, _), (down, across) in zip(self.maps, weights, strict=True):
            pooled, column = _pooled(features, down, across)
            bins.append(pooled)
            columns.append(column)

        def backward(gradients: list[Tensor]) -> tuple[Tensor, Tensor]:
            # By the weights along both axes, map by map; maps with fewer cells are padded.
            grad_rows = []
            levels = zip(self.maps, weights, columns, gradients, strict=True)
            for (features, _, _), (down, across), column, gradient in levels:
                grad_across = (gradient @ column.transpose(3, 4)).sum(dim=2)
                spread = (across.transpose(2, 3)[:, :, None] @ gradient).view(len(features), -1, features.shape[2])
                grad_down = (spread @ features.transpose(1, 2)).view_as(down)
                missing = [self.cells - x.shape[3] for x in (grad_across, grad_down)]
                padded = [F.pad(x, (0, m)) if m else x for x, m in zip((grad_across, grad_down), missing, strict=True)]
                grad_rows.append(torch.stack(padded, dim=2))
            # From these to the first edge and to the extent, which moves the edges and divides the integrals.
            grad = torch.cat(grad_rows, dim=3).flatten(3)[..., None]
            grad_scale = rows.flatten(3)[..., None, :] @ grad
            grad_edges = (self.to_slopes @ hats).unflatten(3, (2, -1)).flatten(4) @ grad
            grad_low, grad_extent = (grad_edges.squeeze(4) * scale[..., None]).unbind(3)
            return grad_low, grad_extent - grad_scale[..., 0, 0] * scale

        return bins, backward


@cache
def _constants(
    sizes: tuple[int, ...], strides: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Constant matrices of `LevelPooling`; cached on the device, since a CUDA graph cannot copy them from the host."""
    steps = [torch.arange(p + 1, dtype=torch.float64) / p for p in sizes]
    differences = [torch.eye(p + 1, dtype=torch.float64).diff(dim=0) * p for p in sizes]
    ends = torch.cat([torch.stack([torch.ones_like(t), t]) / s for t, s in zip(steps, strides, strict=True)], dim=1)
    # From the integrals, twice as large, to bins; and from the hat function to what bins gain by each end's motion.
    to_rows = torch.block_diag(*(d * s / 2 for d, s in zip(differences, strides, strict=True)))
    moved = torch.block_diag(*(d * t for d, t in zip(differences, steps, strict=True)))
    to_slopes = torch.cat([torch.block_diag(*differences), moved])
    return ends.to(device, dtype), to_rows.to(device, dtype), to_slopes.to(device, dtype)


def channels_last_rows(features: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W * C]; no copy of channels-last maps."""
    return features.permute(0, 2, 3, 1).contiguous().flatten(2)


def _pooled(features: Tensor, down: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Both products.

    Args:
        features: [N, H, W * C].
        down, across: [N, R, P, H] and [N, R, Q, W].

    Returns:
        Bins [N, R, P, Q, C], and the columns [N, R, P, W, C] that were pooled downwards alone.
    """
    columns = (down.flatten(1, 2) @ features).view(*down.shape[:3], across.shape[3], -1)
    return across[:, :, None] @ columns, columns
