"""How much of each token of a crop a target's box covers (CSTrack, ICML 2025).

The published rule draws the box into a map of pixels by Python slices and averages the map over the tokens. A box is a
product of a range of rows and a range of columns, so its share of a token is the product of two overlaps; no map is
needed, and the numbers are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_masks(boxes_xywh: Tensor, size: int, stride: int = 16) -> Tensor:
    """Share of each token that is covered, for boxes in units of the crop's side: the rule of training.

    boxes_xywh: [B, 4], any floating type; pixels are counted in it. size, stride: side of the crop and of a token in
    pixels. Returns [B, (size / stride) ** 2] float32, row-major. A box that begins before the crop begins as many
    pixels before its end instead, as Python's slices have it: published weights were trained so.
    Raises ValueError where tokens do not fill the crop.
    """
    first, extent = (boxes_xywh * size).split(2, dim=-1)
    return _shares(first.trunc(), (first + extent - 1).trunc(), size, stride)


def soft_masks_of_targets(sizes_wh: Tensor, resize: Tensor, size: int, stride: int = 16) -> Tensor:
    """The same for targets in the middle of their crops: the rule of tracking.

    sizes_wh: [B, 2] width and height in image pixels. resize: [B] crop pixels per image pixel.
    """
    boxes = centred_boxes(sizes_wh, resize, size)
    return _shares(boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1, size, stride)


def centred_boxes(sizes_wh: Tensor, resize: Tensor, size: int) -> Tensor:
    """[B, 4] int64 x, y, w, h in pixels of a crop of side `size`; see `soft_masks_of_targets`."""
    extent = (sizes_wh * resize[:, None].to(sizes_wh)).trunc()
    return torch.cat([(size / 2 - 0.5 * extent).trunc(), extent], dim=1).long()


def _shares(first: Tensor, last: Tensor, size: int, stride: int) -> Tensor:
    """Masks of the pixels `first` up to, without, `last`: both [B, 2] whole numbers, columns and rows."""
    if size % stride:
        raise ValueError(f"a crop of {size} pixels cannot be divided into tokens of {stride}")
    first, last = (torch.where(end < 0, end + size, end).clamp(0, size)[..., None] for end in (first, last))
    begin = torch.arange(0, size, stride, device=first.device)
    overlap = (torch.minimum(last, begin + stride) - torch.maximum(first, begin)).clamp(min=0)
    columns, rows = overlap.unbind(1)
    return (rows[:, :, None] * columns[:, None, :] / stride**2).flatten(1).float()
