"""Losses on boxes, scores and masks, and the maps that scores are compared with; no network in them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def generalised_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """GIoU (Rezatofighi et al., CVPR 2019) and IoU of pairs of boxes.

    Args:
        first, second: [..., 4] x1, y1, x2, y2, of shapes that broadcast.

    Returns:
        Both [...].
    """
    (low1, high1), (low2, high2) = first.split(2, dim=-1), second.split(2, dim=-1)
    area = (high1 - low1).prod(dim=-1) + (high2 - low2).prod(dim=-1)
    intersection = (torch.min(high1, high2) - torch.max(low1, low2)).clamp(min=0).prod(dim=-1)
    union = area - intersection
    iou = intersection / union
    hull = (torch.max(high1, high2) - torch.min(low1, low2)).clamp(min=0).prod(dim=-1)
    return iou - (hull - union) / hull, iou


def giou_loss(predicted: Tensor, target: Tensor, skip_swapped: bool = True) -> tuple[Tensor, Tensor]:
    """Mean of 1 - GIoU.

    Args:
        predicted, target: [B, 4] x1, y1, x2, y2.
        skip_swapped: When any box of the batch has its corners swapped, loss and IoU of the batch are 0, as in
            published training; without it every box counts as it is.

    Returns:
        The loss, and the IoU [B].
    """
    if not skip_swapped:
        giou, iou = generalised_iou(predicted, target)
        return (1 - giou).mean(), iou
    swapped = (predicted[:, 2:] < predicted[:, :2]).any() | (target[:, 2:] < target[:, :2]).any()
    # Sorted corners keep the branch that is not taken finite, so that its zero gradient stays a zero.
    corner = torch.minimum(predicted[:, :2], predicted[:, 2:]), torch.maximum(predicted[:, :2], predicted[:, 2:])
    ordered = torch.where(swapped, torch.cat(corner, dim=1), predicted)
    giou, iou = generalised_iou(ordered, target)
    zero = predicted.new_zeros(())
    return torch.where(swapped, zero, (1 - giou).mean()), torch.where(swapped, zero, iou)


def gaussian_radius(size: Tensor) -> Tensor:
    """Radius of the Gaussians of heat maps, for an IoU of 0.7 (Law and Deng, CornerNet, ECCV 2018).

    The third of three quadratics as CornerNet's released code solves them (it forgets a factor 2a), since every tracker
    of this family was trained with these radii. The others never give the smallest radius: theirs are at least half of
    width plus height, and this one is at most a quarter.

    Args:
        size: [B, 2], width and height of the boxes in cells.

    Returns:
        [B], whole cells.
    """
    w, h = size.unbind(dim=1)
    overlap = 0.7
    a, b, c = 4 * overlap, -2 * overlap * (h + w), (overlap - 1) * w * h
    return ((b + (b**2 - 4 * a * c).sqrt()) / 2).clamp(min=0).floor()


def gaussian_heatmap(boxes_xywh: Tensor, grid: int) -> Tensor:
    """Heat maps with a Gaussian at the rounded centre of each box, where they are 1.

    Args:
        boxes_xywh: [B, 4] in units of the crop's side, not clipped; a centre outside the map leaves only the part of
            its Gaussian that reaches into it.
        grid: Side of the maps in cells.

    Returns:
        [B, grid, grid] in 0..1.
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


def gaussian_labels(
    boxes_xywh: Tensor, grid: int, sigma_factor: float, filter_size: int = 4, padded: bool = False
) -> Tensor:
    """Gaussians at the targets' centres, for correlation filters (Bhat et al., DiMP, ICCV 2019).

    Args:
        boxes_xywh: [..., 4] in units of the crop's side.
        grid: Side of the maps in cells.
        sigma_factor: Standard deviation in units of the map's side.
        filter_size: Of the filter; an even one moves the centre by half a cell.
        padded: The map is as large as an even filter's scores, a row and a column more.

    Returns:
        [..., grid, grid], 1 at a centre on a cell.
    """
    even, sigma = (filter_size + 1) % 2, sigma_factor * grid
    centres = grid * (boxes_xywh[..., :2] + boxes_xywh[..., 2:] / 2 - 0.5) + 0.5 * even
    count = grid + even * padded
    cells = torch.arange(count, dtype=boxes_xywh.dtype, device=boxes_xywh.device) - (grid - 1) / 2
    lines = torch.exp(-((cells - centres[..., None]) ** 2) / (2 * sigma**2))
    return lines[..., 1, :, None] * lines[..., 0, None, :]


def hinge_loss(scores: Tensor, labels: Tensor, threshold: float = 0.05) -> Tensor:
    """Mean square error of a score map; where there is no target only positive scores count (DiMP, eq. 4).

    Args:
        scores: Any shape.
        labels: The same shape; below the threshold there is no target.
        threshold: See `labels`.
    """
    away = labels < threshold
    return F.mse_loss(torch.where(away, scores.relu(), scores), labels.masked_fill(away, 0.0))


def focal_loss(score: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss (CornerNet, ECCV 2018, eq. 1).

    Args:
        score: Probabilities in (0, 1), any shape.
        target: As many values in 0..1.

    Returns:
        The sum, divided by the number of cells of the whole batch whose target is exactly 1.
    """
    target = target.reshape(score.shape)
    positive = target.eq(1.0)
    p = score.clamp(min=1e-12)
    hit = torch.where(positive, p.log() * (1 - p) ** 2, 0.0).sum()
    miss = torch.where(positive, 0.0, (1 - p).log() * p**2 * (1 - target) ** 4).sum()
    return -(hit + miss) / positive.sum().clamp(min=1)


def cells_under(boxes_xywh: Tensor, grid: int, wrap: bool = False) -> Tensor:
    """Cells whose corner lies in their sample's box; at least one row and one column of cells.

    Args:
        boxes_xywh: [B, 4] in units of the crop's side.
        grid: Side of the map in cells.
        wrap: Bounds below zero count from the far side, as Python's slices do; so published training has it, where a
            box that sticks out to the left or the top mostly finds no cell at all. Otherwise bounds are clamped to the
            map.

    Returns:
        [B, grid * grid] bool, row-major.
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


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Half the mean cross-entropy of all matched anchors of a batch, and half that of all background ones (PySOT).

    Args:
        logits: [B, 2, N] of background and target.
        labels: [B, N] 1 for the target, 0 for the background, -1 for ignored.

    Returns:
        Scalar; a kind without any anchor, or with a single one as in published training, adds nothing.
    """
    entropy = -logits.log_softmax(dim=1)
    halves = []
    for kind in (1, 0):
        chosen = (labels == kind).to(logits)
        count = chosen.sum()
        halves.append((entropy[:, kind] * chosen).sum() * (count > 1) / count.clamp(min=1) / 2)
    return halves[0] + halves[1]


def weighted_l1(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Sum of the absolute differences of weighted anchors, per sample (PySOT).

    Args:
        predicted, target: [B, 4, N].
        weights: [B, N]; those of a sample add up to 1, or to 0 where nothing is to be learned.

    Returns:
        Scalar: the sum over the batch, divided by B.
    """
    return ((predicted - target).abs().sum(dim=1) * weights).sum() / len(predicted)


def hardest_pixels_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of the 70 % of the pixels that are hardest (OHEM, Shrivastava et al., CVPR 2016).

    Args:
        logits: [N, H, W] of masks.
        target: [N, H, W] in 0..1.

    Returns:
        Scalar; 0 without any pixel.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten()
    count = int(0.7 * entropy.numel())
    return entropy.topk(count).values.mean() if count else logits.sum() * 0.0


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus twice the shared area over the sum of both areas (V-Net, Milletari et al., 3DV 2016).

    Args:
        logits: [N, H, W] of masks.
        target: [N, H, W] in 0..1.

    Returns:
        [N]; a pixel is added to all areas, so that an empty mask is to stay empty.
    """
    drawn = logits.sigmoid()
    shared, both = (drawn * target).sum(dim=(1, 2)), (drawn + target).sum(dim=(1, 2))
    return 1 - (2 * shared + 1) / (both + 1)
