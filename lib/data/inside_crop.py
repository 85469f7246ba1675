"""Crops that are shifted and shrunk into the image, with replicated border beyond it (PrDiMP, CVPR 2020; TrDiMP)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data.crop import CROP_STYLES, UNCHANGED, Colours, CropRegion, CropStyle, PictureChanges, Pixels
from lib.data.crop_styles import WholePixelStyle
from lib.data.types import Box, Image, Levels

MAX_SHRINK = 1.5
"""A crop that is longer than both sides of the image is shrunk by at most this factor."""


@CROP_STYLES.register("inside")
class InsideStyle(WholePixelStyle):
    """Training crops of TrDiMP: a square of whole pixels around a box, moved into the image.

    The image's last row and column count as beyond it, as published. Boxes are relative to the corner of the square.
    """

    edge = 1
    flip_gap = 1

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        x, y, w, h = box_xywh
        # In single precision, since rounding up depends on it.
        share = np.sqrt(np.float32(w) * np.float32(h) / np.float32(size * size))
        wanted = math.ceil(np.float32(size) * share * np.float32(factor))
        side = math.floor(wanted / min(max(wanted / max(size_hw), 1.0), MAX_SHRINK))
        left, top = (
            _moved_inside(round(centre - side * 0.5), side, limit)
            for centre, limit in ((x + 0.5 * w, size_hw[1]), (y + 0.5 * h, size_hw[0]))
        )
        return CropRegion(left, top, side, side, (left + side / 2, top + side / 2), (side, side))

    def cut(self, picture: Image | Levels, region: CropRegion, changes: PictureChanges = UNCHANGED) -> Image:
        top, bottom, left, right = self.shown(region, (picture.shape[0], picture.shape[1]))
        inside = CropRegion(left, top, right - left, bottom - top, region.centre_xy, region.sides_wh)
        first_row, first_column = int(region.top), int(region.left)
        below, after = first_row + int(region.height) - bottom, first_column + int(region.width) - right
        return _replicated(super().cut(picture, inside, changes), (top - first_row, below, left - first_column, after))

    def to_crop(self, box_xywh: Sequence[float], region: CropRegion, size: int) -> NDArray[np.float64]:
        x, y, w, h = box_xywh
        return np.array([x - region.left, y - region.top, w, h]) * (size / region.width)


@CROP_STYLES.register("inside_patch")
class PatchStyle(CropStyle):
    """Patches of TrDiMP's tracker: float32, around a whole pixel; a large one is cut from every n-th pixel.

    `place` is given boxes whose centre is that of their first and last pixel; `place_at` centres and scales.
    """

    dtype = np.dtype(np.float32)

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        x, y, w, h = box_xywh
        return self.place_at((x + (w - 1) / 2, y + (h - 1) / 2), factor * math.sqrt(w * h) / size, size, size_hw)

    def place_at(
        self,
        centre_xy: Sequence[float],
        scale: float,
        size: int,
        size_hw: tuple[int, int],
        inside: bool = True,
        max_shrink: float = MAX_SHRINK,
    ) -> CropRegion:
        """The square of `size * scale` image pixels around a point.

        Args:
            centre_xy: Image pixels; truncated to whole ones.
            scale: Image pixels per pixel of the patch.
            size: Side of the patch in pixels.
            size_hw: Height and width of the image.
            inside: Move the square into the image, and shrink it if it is longer than both sides of the image.
            max_shrink: Largest factor by which it is shrunk.
        """
        # In single precision, since whole numbers depend on it.
        extent = np.float32(scale) * np.float32(size)
        if inside:
            shrink = min(max(extent / np.float32(max(size_hw)), np.float32(1)), np.float32(max_shrink))
            extent = np.trunc(extent / shrink)
        step = max(int(float(extent / np.float32(size)) - 0.1), 1)
        side = max(round(float(extent / np.float32(step))), 2)
        starts = []
        for centre, limit in zip(centre_xy, size_hw[::-1], strict=True):
            steps, offset = divmod(int(centre), step)
            start = steps - (side - 1) // 2
            if inside:
                start = _moved_inside(start, side, len(range(offset, limit, step)))
            starts.append((start * step, offset))
        (left, dx), (top, dy) = starts
        whole = step * side
        # Published: coordinates do not count the pixels that are left out before the first.
        return CropRegion(left + dx, top + dy, whole, whole, (left + whole / 2, top + whole / 2), (whole, whole), step)

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        step, slices, beyond = region.step, [], []
        for first, extent, limit in (
            (int(region.top), int(region.height), image.shape[0]),
            (int(region.left), int(region.width), image.shape[1]),
        ):
            offset = first % step
            start, side, end = (first - offset) // step, extent // step, len(range(offset, limit, step))
            # At least one row and one column, of a square that lies outside the image too.
            low = min(max(start, 0), end - 1)
            high = max(min(start + side, end), low + 1)
            slices.append(slice(offset + low * step, offset + (high - 1) * step + 1, step))
            before = min(max(low - start, 0), side - 1)
            beyond += [before, side - before - (high - low)]
        cut = np.ascontiguousarray(image[slices[0], slices[1]])
        patch: Pixels = _replicated(cut, tuple(beyond)).astype(np.float32)
        patch = patch if len(patch) == size else cv2.resize(patch, (size, size))
        return patch.reshape(size, size, image.shape[2])


def _moved_inside(start: int, side: int, limit: int) -> int:
    """First pixel of an interval moved into 0..limit; one that is too long leaves it on both sides alike."""
    start += max(-start, 0) - max(start + side - limit, 0)
    out = (max(-start, 0) + max(start + side - limit, 0)) // 2
    return -out if out > 0 else start


def _replicated(image: NDArray[np.uint8], beyond: Sequence[int]) -> NDArray[np.uint8]:
    """The image with its border replicated; beyond: pixels above, below, left and right."""
    if not any(beyond):
        return image
    top, bottom, left, right = beyond
    padded = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, dtype=np.uint8).reshape(-1, image.shape[1] + left + right, image.shape[2])
