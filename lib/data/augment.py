"""Augmentation as data: the random numbers of one sample, drawn in a fixed order, apart from what is done with them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.config import Augment
from lib.data.types import Frame, Image

Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CropDraw:
    """Random numbers of one crop: normal [2] and uniform [2] for the jitter, brightness factor, flip."""

    normal: Float32s
    uniform: Float32s
    gain: float = 1.0
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers of one sample. grey and mirrored hold for all its frames."""

    grey: bool
    mirrored: bool
    template: tuple[CropDraw, ...]
    search: tuple[CropDraw, ...]


def draw_sample(rng: np.random.Generator, templates: int, searches: int, augment: Augment, training: bool) -> Draws:
    """All random numbers of one sample.

    Order: grey, mirror; then for the templates and after them for the search frames: the jitter of each frame (two
    normal numbers, two uniform ones), then brightness and flip of each frame. Validation (`training` False) draws no
    brightness and no crop flip.
    """
    grey = rng.random() < augment.grey
    mirrored = rng.random() < augment.mirror
    kinds = [_draw_crops(rng, count, augment, training) for count in (templates, searches)]
    return Draws(grey, mirrored, kinds[0], kinds[1])


def _draw_crops(rng: np.random.Generator, count: int, augment: Augment, training: bool) -> tuple[CropDraw, ...]:
    jitters = [(rng.standard_normal(2).astype(np.float32), rng.random(2).astype(np.float32)) for _ in range(count)]
    if not training:
        return tuple(CropDraw(normal, uniform) for normal, uniform in jitters)
    spread = augment.brightness
    crops = []
    for normal, uniform in jitters:
        gain = 1 - spread + 2 * spread * rng.random()
        crops.append(CropDraw(normal, uniform, gain, rng.random() < augment.crop_flip))
    return tuple(crops)


def grey_picture(image: Image) -> Image:
    """Luma (OpenCV's weights) in all three channels; black stays black."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def becomes_grey(frame: Frame, rule: str) -> tuple[bool, bool]:
    """Whether the RGB picture and the aux picture of a frame change when its sample becomes grey."""
    if frame.second is None:
        return True, False
    if rule != "rgb_and_equal_aux":
        return rule == "rgb", False
    return True, frame.second is frame.rgb or np.array_equal(frame.rgb, frame.merged()[..., 3:])


def grey_frame(frame: Frame, rule: str) -> Frame:
    """The frame as it is after its sample became grey."""
    rgb, aux = becomes_grey(frame, rule)
    second = frame.second
    if aux and frame.aux is not None:
        second = grey_picture(frame.aux)
    return Frame(grey_picture(frame.rgb) if rgb else frame.rgb, second)


def mirror_box(box_xywh: Float32s, width: int) -> Float32s:
    """The box [4] in the left-right mirrored image; pixel column x becomes width - 1 - x.

    Both corners are moved and the size taken from them, in single precision: the crop's rounding depends on it.
    """
    x, y, w, h = np.asarray(box_xywh, dtype=np.float32)
    last = np.float32(width - 1)
    left, right = last - (x + w), last - x
    return np.array([left, y, right - left, (y + h) - y], dtype=np.float32)


def mirror_box_in_crop(box_xywh: Float32s) -> Float32s:
    """The box [..., 4], in units of the crop's side, in the left-right mirrored crop."""
    mirrored = np.array(box_xywh)
    mirrored[..., 0] = 1 - (box_xywh[..., 0] + box_xywh[..., 2])
    return mirrored
