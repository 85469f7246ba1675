"""Box regression losses."""

from __future__ import annotations

import torch
from torch import Tensor


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
