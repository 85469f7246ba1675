"""Losses on boxes, maps and features; no network in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def generalised_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """GIoU and IoU [B] of boxes row by row, both [B, 4] x1, y1, x2, y2 (Rezatofighi et al., CVPR 2019)."""
    area = (first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1)
    low, high = torch.max(first[:, :2], second[:, :2]), torch.min(first[:, 2:], second[:, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=1)
    union = area - intersection
    iou = intersection / union
    hull = (torch.max(first[:, 2:], second[:, 2:]) - torch.min(first[:, :2], second[:, :2])).clamp(min=0).prod(dim=1)
    return iou - (hull - union) / hull, iou


def giou_loss(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of 1 - GIoU, and the IoU [B]; both [B, 4] x1, y1, x2, y2.

    When any box of the batch has its corners swapped, loss and IoU of the batch are 0, as in published training.
    """
    swapped = (predicted[:, 2:] < predicted[:, :2]).any() | (target[:, 2:] < target[:, :2]).any()
    # Sorted corners keep the branch that is not taken finite, so that its zero gradient stays a zero.
    corner = torch.minimum(predicted[:, :2], predicted[:, 2:]), torch.maximum(predicted[:, :2], predicted[:, 2:])
    ordered = torch.where(swapped, torch.cat(corner, dim=1), predicted)
    giou, iou = generalised_iou(ordered, target)
    zero = predicted.new_zeros(())
    return torch.where(swapped, zero, (1 - giou).mean()), torch.where(swapped, zero, iou)


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


def cells_under(boxes_xywh: Tensor, grid: int, wrap: bool = False) -> Tensor:
    """[B, N] bool, N = grid * grid, row-major: True where a cell's corner lies in its sample's box, for at least one
    row and column of cells.

    boxes_xywh: [B, 4] in units of the crop's side. wrap: bounds below zero count from the far side, as Python's slices
    do; so published training has it, where a box that sticks out to the left or the top mostly finds no cell at all.
    Otherwise bounds are clamped to the map.
    """
    centre, extent = boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2, boxes_xywh[:, 2:]
    low = ((centre - extent / 2) * grid).ceil().long()
    high = ((centre + extent / 2) * grid).ceil().long()
    high = torch.where(high == low, high + 1, high)
    if wrap:
        low, high = (torch.where(bound < 0, bound + grid, bound) for bound in (low, high))
    cells = torch.arange(grid, device=boxes_xywh.device)
    inside = (cells >= low.clamp(min=0)[..., None]) & (cells < high[..., None])
    columns, rows = inside.unbind(dim=1)
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)


def channel_kl(student: Tensor, teacher: Tensor, temperature: float, dim: int = 1) -> Tensor:
    """T^2 * KL(teacher || student) at every position, in float32; `dim` (the channels) is summed away."""
    expected = F.log_softmax(teacher.float() / temperature, dim=dim)
    found = F.log_softmax(student.float() / temperature, dim=dim)
    return F.kl_div(found, expected, reduction="none", log_target=True).sum(dim=dim) * temperature**2


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum of `channel_kl` over all positions of [B, C, ...] maps, divided by B."""
    return channel_kl(student, teacher, temperature).sum() / len(student)


def resize_map(maps: Tensor, size: int) -> Tensor:
    """[B, C, h, w] -> [B, C, size, size]: bilinear, half-pixel centres, no antialias; untouched where it fits."""
    if maps.shape[-2:] == (size, size):
        return maps
    return F.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=False)


def search_map(tokens: Tensor, grid: int) -> Tensor:
    """The last grid^2 of the tokens [B, N, C] (the search region's, row-major) as a map [B, C, grid, grid]."""
    return tokens[:, -grid * grid :].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)


def qkv_kd(student: Tensor, teacher: Tensor, student_grid: int, teacher_grid: int, temperature: float = 4.0) -> Tensor:
    """Global view (QKV-KD): queries, keys and values of the search tokens, each its own distribution over channels.

    student, teacher: [B, N, 3C], what a block's qkv projection gives (before the scale of the queries), heads merged,
    search tokens last. The student's map is resized to the teacher's grid.
    """
    found = resize_map(search_map(student, student_grid), teacher_grid)
    expected = search_map(teacher, teacher_grid)
    shape = (3, expected.shape[1] // 3)
    return channel_kl(found.unflatten(1, shape), expected.unflatten(1, shape), temperature, dim=2).sum() / len(student)


@torch.no_grad()
def saliency(feature: Tensor) -> Tensor:
    """Mean square over channels of a feature map [B, C, g, g] -> [B, g, g]."""
    return feature.float().square().mean(dim=1)


def disc_kd(
    student: Tensor,
    teacher: Tensor,
    saliency_threshold: float = 0.2,
    foreground_weight: float = 0.6,
    background_weight: float = 0.4,
    temperature: float = 4.0,
) -> Tensor:
    """Target-aware view (Disc-KD): search feature maps [B, C, g, g], weighted by where the teacher sees something.

    Positions whose saliency in the teacher reaches `saliency_threshold` weigh `foreground_weight`, the others
    `background_weight`. Published
    as two passes over masked maps; a masked position is zero on both sides and adds nothing, so one pass is the same.
    """
    divergence = channel_kl(resize_map(student, teacher.shape[-1]), teacher, temperature)
    weights = torch.where(saliency(teacher) >= saliency_threshold, foreground_weight, background_weight)
    return (divergence * weights).sum() / len(student)
