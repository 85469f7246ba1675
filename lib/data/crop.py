"""Square crops round a box, as all trackers of the OSTrack family cut them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from lib.data.types import Frame, Image, Mask

LARGEST_SIDE = 20000


class TooSmallBoxError(ValueError):
    """A box whose crop would be less than one pixel wide."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where a crop lies: top-left pixel `x`, `y` (may be negative) and `side` in image pixels."""

    x: int
    y: int
    side: int


@dataclass(frozen=True, slots=True)
class Crop:
    """image: [S, S, C] uint8. resize_factor: crop pixels per image pixel. padded: [S, S] bool, padding."""

    image: Image
    resize_factor: float
    side: int
    padded: Mask | None = None


def crop_window(box_xywh: Sequence[float], factor: float) -> Window:
    """The square round the box's centre with side ceil(sqrt(w * h) * factor).

    Raises TooSmallBoxError below one pixel, ValueError for a side that no picture can need.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    area = w * h
    if not area > 0:
        raise TooSmallBoxError(f"too small bounding box: x, y, w, h = {x:g}, {y:g}, {w:g}, {h:g}")
    side = math.ceil(math.sqrt(area) * factor)
    if side > LARGEST_SIDE:
        raise ValueError(f"the box {x:g}, {y:g}, {w:g}, {h:g} needs a crop of {side} pixels; {LARGEST_SIDE} at most")
    return Window(round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side)


def cut(image: Image, window: Window) -> Image:
    """The window's pixels [side, side, C], black outside the picture.

    A window that reaches the last column or row gets that column or row black too: published trackers pad by one pixel
    too many there, and networks were trained with it. Inside the picture the result is a view.
    """
    height, width = image.shape[:2]
    x1, y1 = max(0, window.x), max(0, window.y)
    # Exclusive ends; `- 1` is the pixel too many.
    x2, y2 = min(window.x + window.side, width - 1), min(window.y + window.side, height - 1)
    if x1 == window.x and y1 == window.y and x2 - x1 == window.side and y2 - y1 == window.side:
        return image[y1:y2, x1:x2]
    out = np.zeros((window.side, window.side, *image.shape[2:]), dtype=image.dtype)
    if x2 > x1 and y2 > y1:
        out[y1 - window.y : y2 - window.y, x1 - window.x : x2 - window.x] = image[y1:y2, x1:x2]
    return out


def sample_target(
    image: Image, box_xywh: Sequence[float], factor: float, output_size: int, with_mask: bool = False
) -> Crop:
    """Cut round the box and resize bilinearly to output_size.

    image: [H, W, C] uint8, C = 3 or 6. with_mask: also say which output pixels padding reached.
    """
    window = crop_window(box_xywh, factor)
    size = (output_size, output_size)
    region = cut(image, window)
    padded = None
    if with_mask:
        ones = np.ones(image.shape[:2], dtype=np.float32)
        outside = 1.0 - cut(ones, window)
        padded = cv2.resize(outside, size).astype(bool)
    return Crop(_resize(region, size), output_size / window.side, window.side, padded)


def _resize(region: Image, size: tuple[int, int]) -> Image:
    if region.shape[2] <= 4:
        return cv2.resize(region, size).reshape(size[1], size[0], region.shape[2])
    parts = [_resize(region[..., i : i + 3], size) for i in range(0, region.shape[2], 3)]
    return np.concatenate(parts, axis=2)


def crop_batch(frames: Sequence[Frame], boxes_xywh: Tensor, factor: float, output_size: int) -> tuple[Tensor, Tensor]:
    """One crop per frame: uint8 [B, C, S, S] (C = 6 with aux pictures) and resize factors float64 [B].

    boxes_xywh: [B, 4] in image pixels.
    """
    channels = 3 if frames[0].aux is None else 6
    out = np.empty((len(frames), channels, output_size, output_size), dtype=np.uint8)
    factors = np.empty(len(frames))
    for i, (frame, box) in enumerate(zip(frames, boxes_xywh.tolist(), strict=True)):
        crop = sample_target(frame.rgb, box, factor, output_size)
        out[i, :3] = crop.image.transpose(2, 0, 1)
        if channels == 6:
            if frame.aux is None:
                raise ValueError(f"frame {i} has no aux picture, others of the batch have one")
            out[i, 3:] = sample_target(frame.aux, box, factor, output_size).image.transpose(2, 0, 1)
        factors[i] = crop.resize_factor
    return torch.from_numpy(out), torch.from_numpy(factors)
