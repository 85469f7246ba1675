"""Box arithmetic: formats, overlap, clipping, jitter, and the place of a box in a crop.

``xywh`` has the top-left corner, ``cxcywh`` the centre, ``xyxy`` two opposite corners; always in the last dimension.
Coordinates are continuous: a box covers [x, x + w) and its area is w * h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data.types import Box

ArrayT = TypeVar("ArrayT", NDArray[Any], Tensor)
Float32s = NDArray[np.float32]


def _join(first: ArrayT, second: ArrayT) -> ArrayT:
    """Two halves [..., 2] of boxes -> [..., 4]."""
    if isinstance(first, Tensor):
        return torch.cat([first, second], dim=-1)
    return np.concatenate([first, second], axis=-1)


def xywh_to_xyxy(boxes: ArrayT) -> ArrayT:
    """[..., 4] top-left corner and size -> two corners."""
    return _join(boxes[..., :2], boxes[..., :2] + boxes[..., 2:])


def xywh_to_cxcywh(boxes: ArrayT) -> ArrayT:
    """[..., 4] top-left corner and size -> centre and size."""
    return _join(boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:])


def cxcywh_to_xyxy(boxes: ArrayT) -> ArrayT:
    """[..., 4] centre and size -> two corners."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return _join(centre - half, centre + half)


def corners_to_xywh(corners: NDArray[Any]) -> NDArray[Any]:
    """Upright boxes around polygons, or of two opposite corners, without a pixel added.

    Args:
        corners: [N, 2 K] x, y of each of K corners, in any order.

    Returns:
        [N, 4] x, y, w, h.
    """
    points = corners.reshape(len(corners), -1, 2)
    low = points.min(axis=1)
    return np.concatenate([low, points.max(axis=1) - low], axis=1)


def xywh_to_corners(boxes_xywh: NDArray[Any]) -> NDArray[Any]:
    """Corners of boxes.

    Args:
        boxes_xywh: [N, 4] x, y, w, h.

    Returns:
        [N, 8] x, y of four corners, clockwise from the upper left.
    """
    x, y, w, h = boxes_xywh.T
    return np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)


def iou_xywh(a: ArrayT, b: ArrayT) -> ArrayT:
    """Intersection over union, row by row.

    Args:
        a, b: [N, 4] x, y, w, h.

    Returns:
        [N] in 0..1. Two boxes of no area overlap by 0; a row with NaN gives NaN.
    """
    minimum, maximum = (torch.minimum, torch.maximum) if isinstance(a, Tensor) else (np.minimum, np.maximum)
    low: Any = maximum(a[..., :2], b[..., :2])
    high: Any = minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    sides = (high - low).clip(0)
    inside = sides[..., 0] * sides[..., 1]
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - inside
    if isinstance(a, Tensor):
        return torch.where(union == 0, torch.zeros_like(union), inside / union)
    return np.divide(inside, union, out=np.zeros_like(inside), where=union != 0)


def clip_box(box_xywh: Sequence[float], height: float, width: float, margin: float = 0.0) -> Box:
    """Move and clip a box so that some of it lies in the image; NaN stays NaN.

    Args:
        box_xywh: Image pixels.
        height, width: Of the image.
        margin: Least side of the result, in pixels.

    Returns:
        x, y, w, h.
    """
    box = torch.tensor([box_xywh], dtype=torch.float64)
    x, y, w, h = clip_boxes(box, torch.tensor([[height, width]]), margin)[0].tolist()
    return x, y, w, h


def clip_boxes(boxes_xywh: Tensor, sizes_hw: Tensor, margin: float = 0.0) -> Tensor:
    """`clip_box` for many boxes, with the same numbers.

    Args:
        boxes_xywh: [B, 4] image pixels.
        sizes_hw: [B, 2] height and width of the images.
        margin: Least side of the results, in pixels.

    Returns:
        [B, 4] of the boxes' dtype.
    """
    size = sizes_hw.to(boxes_xywh).flip(-1)
    first, extent = boxes_xywh[..., :2], boxes_xywh[..., 2:]
    low = torch.minimum(first.clamp(min=0), size - margin)
    high = torch.minimum((first + extent).clamp(min=margin), size)
    return torch.cat([low, (high - low).clamp(min=margin)], dim=-1)


def clip_centres(boxes_xywh: Tensor, sizes_hw: Tensor, smallest: float = 10.0) -> Tensor:
    """Move the centres of boxes into their images and limit the sides (TransT, CVPR 2021, and the SiamFC family).

    Args:
        boxes_xywh: [B, 4] image pixels.
        sizes_hw: [B, 2] height and width of the images.
        smallest: Least side of the results in pixels; above it, sides are no longer than the image's.

    Returns:
        [B, 4] x, y, w, h of the boxes' dtype.
    """
    size = sizes_hw.to(boxes_xywh).flip(-1)
    extent = boxes_xywh[..., 2:]
    centre = torch.minimum((boxes_xywh[..., :2] + extent / 2).clamp(min=0), size)
    extent = torch.minimum(extent, size).clamp(min=smallest)
    return torch.cat([centre - extent / 2, extent], dim=-1)


def jitter_box(
    box_xywh: Float32s,
    normal: Float32s,
    uniform: Float32s,
    scale_jitter: float,
    center_jitter: float,
    geometric: bool = True,
    scale_bias: float = 0.0,
) -> Float32s:
    """A box of random size and place around another one, for given random numbers (OSTrack, ECCV 2022).

    Single precision, as published training code has it: the crop's rounding depends on it.

    Args:
        box_xywh: [4] image pixels.
        normal: [2] N(0, 1) for the size.
        uniform: [2] U(0, 1) for the centre.
        scale_jitter: Standard deviation of the logarithm of width and height.
        center_jitter: 1 lets the centre move by half the new box's mean side.
        geometric: That mean is the geometric one (OSTrack), or else the arithmetic one (TransT).
        scale_bias: Mean of the logarithm of width and height; above 0 for boxes that are too large.

    Returns:
        [4] x, y, w, h.
    """
    box = np.asarray(box_xywh, dtype=np.float32)
    half = np.float32(0.5)
    # exp in double precision: numpy's single-precision exp differs between processors in the last digit
    spread = np.asarray(normal, dtype=np.float32) * np.float32(scale_jitter) + np.float32(scale_bias)
    size = box[2:] * np.array([math.exp(v) for v in spread.tolist()], dtype=np.float32)
    side = np.sqrt(size[0] * size[1]) if geometric else half * (size[0] + size[1])
    reach = side * np.float32(center_jitter)
    centre = box[:2] + half * box[2:] + reach * (np.asarray(uniform, dtype=np.float32) - half)
    return np.concatenate([centre - half * size, size])


def soft_masks(boxes_xywh: Tensor, size: int, stride: int = 16) -> Tensor:
    """Share of each token that a box covers, by the rule of training.

    A box that begins before the crop begins as many pixels before its end instead, as Python's slices have it:
    published weights were trained so.

    Args:
        boxes_xywh: [B, 4] in units of the crop's side, any floating type; pixels are counted in it.
        size, stride: Side of the crop and of a token in pixels.

    Returns:
        [B, (size / stride) ** 2] float32, row-major.

    Raises:
        ValueError: Tokens do not fill the crop.
    """
    first, extent = (boxes_xywh * size).split(2, dim=-1)
    return _coverage(first.trunc(), (first + extent - 1).trunc(), size, stride)


def soft_masks_of_targets(sizes_wh: Tensor, resize: Tensor, size: int, stride: int = 16) -> Tensor:
    """Share of each token that a target in the middle of its crop covers, by the rule of tracking.

    Args:
        sizes_wh: [B, 2] width and height of the targets in image pixels.
        resize: [B] crop pixels per image pixel.
        size, stride: Side of the crop and of a token in pixels.

    Returns:
        [B, (size / stride) ** 2] float32, row-major.
    """
    boxes = centred_boxes(sizes_wh, resize, size)
    return _coverage(boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1, size, stride)


def centred_boxes(sizes_wh: Tensor, resize: Tensor, size: int) -> Tensor:
    """Boxes of targets in the middle of their crops.

    Args:
        sizes_wh, resize, size: See `soft_masks_of_targets`.

    Returns:
        [B, 4] int64 x, y, w, h in crop pixels.
    """
    extent = (sizes_wh * resize[:, None].to(sizes_wh)).trunc()
    return torch.cat([(size / 2 - 0.5 * extent).trunc(), extent], dim=1).long()


def _coverage(first: Tensor, last: Tensor, size: int, stride: int) -> Tensor:
    """Masks of the pixels `first` up to, without, `last`: both [B, 2] whole numbers, columns and rows."""
    if size % stride:
        raise ValueError(f"a crop of {size} pixels cannot be divided into tokens of {stride}")
    first, last = (torch.where(end < 0, end + size, end).clamp(0, size)[..., None] for end in (first, last))
    begin = torch.arange(0, size, stride, device=first.device)
    overlap = (torch.minimum(last, begin + stride) - torch.maximum(first, begin)).clamp(min=0)
    columns, rows = overlap.unbind(1)
    return (rows[:, :, None] * columns[:, None, :] / stride**2).flatten(1).float()
