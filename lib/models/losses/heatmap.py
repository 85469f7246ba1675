"""Target heat maps and the focal loss on them (CornerNet, ECCV 2018; CenterNet, 2019)."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_radius(size: Tensor, overlap: float = 0.7) -> Tensor:
    """Radius [B] in cells for boxes of `size` [B, 2] (w, h) in cells.

    The three quadratics as CornerNet's released code solves them (it forgets a factor 2a in two of them), since every
    tracker of this family was trained with these radii.
    """
    w, h = size.unbind(dim=1)
    b1, c1 = h + w, w * h * (1 - overlap) / (1 + overlap)
    r1 = (b1 + (b1**2 - 4 * c1).sqrt()) / 2
    b2, c2 = 2 * (h + w), (1 - overlap) * w * h
    r2 = (b2 + (b2**2 - 16 * c2).sqrt()) / 2
    a3, b3, c3 = 4 * overlap, -2 * overlap * (h + w), (overlap - 1) * w * h
    r3 = (b3 + (b3**2 - 4 * a3 * c3).sqrt()) / 2
    return torch.stack([r1, r2, r3]).amin(dim=0).clamp(min=0).floor()


def gaussian_heatmap(boxes_xywh: Tensor, grid: int) -> Tensor:
    """Heat maps [B, grid, grid], 1 at the rounded box centre.

    boxes_xywh: [B, 4] in units of the crop's side, not clipped; a centre outside the map leaves only the part of its
    Gaussian that reaches into it.
    """
    cells = boxes_xywh * grid
    centre = (cells[:, :2] + cells[:, 2:] / 2).round()
    radius = gaussian_radius(cells[:, 2:])
    sigma = (2 * radius + 1) / 6
    axis = torch.arange(grid, device=cells.device, dtype=cells.dtype)
    dx, dy = (axis - centre[:, :1]).abs(), (axis - centre[:, 1:]).abs()
    square = dx[:, None, :] ** 2 + dy[:, :, None] ** 2
    inside = (dx <= radius[:, None])[:, None, :] & (dy <= radius[:, None])[:, :, None]
    value = torch.exp(-square / (2 * sigma**2)[:, None, None])
    # What lies below double precision of the peak is zero in the published maps.
    return torch.where(inside & (value >= torch.finfo(torch.float64).eps), value, 0.0)


def focal_loss(score: Tensor, target: Tensor, alpha: int = 2, beta: int = 4) -> Tensor:
    """Penalty-reduced focal loss, summed and divided by the number of cells that are exactly 1 in the whole batch.

    score: probabilities in (0, 1), any shape; target: same number of values in 0..1.
    """
    target = target.reshape(score.shape)
    positive = target.eq(1.0)
    p = score.clamp(min=1e-12)
    hit = torch.where(positive, p.log() * (1 - p) ** alpha, 0.0).sum()
    miss = torch.where(positive, 0.0, (1 - p).log() * p**alpha * (1 - target) ** beta).sum()
    return -(hit + miss) / positive.sum().clamp(min=1)
