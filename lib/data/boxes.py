"""Boxes: overlaps, clipping, jitter, and where a box lies in a crop. x, y, w, h with the top-left corner, in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Array = NDArray[np.float64]


def iou(first_xywh: ArrayLike, second_xywh: ArrayLike) -> Array:
    """Overlap row by row: [N, 4] and [N, 4] -> [N]; 0 where the union is empty."""
    a, b = np.asarray(first_xywh, dtype=np.float64), np.asarray(second_xywh, dtype=np.float64)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    inner = np.clip(high - low, 0, None).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def clip_boxes(boxes_xywh: Tensor, sizes_hw: Tensor, margin: float) -> Tensor:
    """Boxes moved and shrunk so that at least `margin` pixels of each side stay inside their pictures.

    boxes_xywh: [B, 4]; sizes_hw: [B, 2] heights and widths of the pictures; both float64.
    """
    size_wh = sizes_hw.flip(-1)
    low = torch.minimum(boxes_xywh[..., :2].clamp(min=0.0), size_wh - margin)
    high = torch.minimum((boxes_xywh[..., :2] + boxes_xywh[..., 2:]).clamp(min=margin), size_wh)
    return torch.cat([low, (high - low).clamp(min=margin)], dim=-1)


def jitter_box(
    box_xywh: Sequence[float], normal: Sequence[float], uniform: Sequence[float], center: float, scale: float
) -> Array:
    """A box as a tracker's last estimate might have been: size times exp(scale * normal), centre moved by up to half of
    center * sqrt(w * h) of the new size.

    normal, uniform: the two standard normal and the two uniform numbers that decide.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    size = np.array([w, h]) * np.exp(np.asarray(normal, dtype=np.float64) * scale)
    reach = np.sqrt(size.prod()) * center
    centre = np.array([x + 0.5 * w, y + 0.5 * h]) + reach * (np.asarray(uniform, dtype=np.float64) - 0.5)
    return np.concatenate([centre - 0.5 * size, size])


def box_in_crop(box_xywh: ArrayLike, extract_xywh: ArrayLike, resize_factor: float, output_size: int) -> Array:
    """A box of the picture in crop pixels, x, y, w, h.

    The crop was cut round the centre of `extract_xywh`; that centre lies at (output_size - 1) / 2 of the crop.
    """
    box, extract = np.asarray(box_xywh, dtype=np.float64), np.asarray(extract_xywh, dtype=np.float64)
    centre = box[..., :2] + 0.5 * box[..., 2:]
    middle = extract[..., :2] + 0.5 * extract[..., 2:]
    size = box[..., 2:] * resize_factor
    placed = (output_size - 1) / 2 + (centre - middle) * resize_factor
    return np.concatenate([placed - 0.5 * size, size], axis=-1)
