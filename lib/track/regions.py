"""Masks of targets in whole frames, and the polygons around them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lib.data import warp_affine
from lib.track.tracker import Prediction

LEAST_AREA = 100.0
"""Image pixels that a contour has to enclose to become a polygon."""


def with_regions(prediction: Prediction, masks: list[NDArray[np.bool_]], requested: Collection[str]) -> Prediction:
    """A prediction with the regions that are requested.

    Args:
        prediction: Of B targets.
        masks: [H, W] of each, of the size of its frame.
        requested: "polygon", "mask"; see `Tracker.regions`.
    """
    polygons = None
    if "polygon" in requested:
        pairs = zip(masks, prediction.boxes_xywh.numpy(), strict=True)
        polygons = torch.from_numpy(np.stack([polygon_of(mask, box) for mask, box in pairs]))
    return replace(prediction, polygons=polygons, masks=masks if "mask" in requested else None)


def paste_mask(
    probability: NDArray[np.float32], place_xywh: Sequence[float], size_hw: Sequence[int], published: bool = False
) -> NDArray[np.float32]:
    """A mask over a rectangle as a mask of the image.

    Args:
        probability: [n, n] over the rectangle.
        place_xywh: The rectangle in image pixels.
        size_hw: Height and width of the image.
        published: As SiamAttn has it: without the half pixels between corners and centres, and one pixel of the image's
            sides short.

    Returns:
        [H, W], 0 beyond the rectangle.
    """
    (x, y, w, h), (height, width), side = place_xywh, size_hw, len(probability)
    across, down = w / side, h / side
    left, top = x + across / 2 - 0.5, y + down / 2 - 0.5
    if published:
        short_x, short_y = (width - 1) / width, (height - 1) / height
        across, down, left, top = across * short_x, down * short_y, x * short_x, y * short_y
    return warp_affine(probability, np.array([[across, 0, left], [0, down, top]]), (width, height), (0.0,))


def polygon_of(mask: NDArray[np.bool_], box_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rectangle around the largest part of a mask.

    Args:
        mask: [H, W].
        box_xywh: [4] in image pixels; stands in for a mask without a large part.

    Returns:
        [4, 2] corners x, y in image pixels.
    """
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    largest = max(contours, key=cv2.contourArea, default=None)
    if largest is None or len(largest) < 3 or cv2.contourArea(largest) <= LEAST_AREA:
        x, y, w, h = box_xywh
        return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    return np.asarray(cv2.boxPoints(cv2.minAreaRect(largest)), dtype=np.float64)
