"""The ways to cut crops that `DATA.CROP_STYLE` names; what a style decides is said in `lib.data.crop`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.config import Region
from lib.data.affine import warp_affine
from lib.data.boxes import Float32s
from lib.data.crop import (
    CROP_STYLES,
    UNCHANGED,
    Colours,
    CropRegion,
    CropStyle,
    Edit,
    PictureChanges,
    Pixels,
    pictures_of,
)
from lib.data.device_crop import Cut, resize_cuts
from lib.data.types import Box, Frame, Image, Levels, Mask
from lib.ranges import Range

MEAN_COLOUR = (123.675, 116.28, 103.53)
"""R, G, B: the mean of ImageNet in grey levels."""
ContextAmount = Annotated[float, Range(0, 2)]
"""Margin around a box in a template of PySOT, in sums of its width and height; published: 0.5."""


class WholePixelStyle(CropStyle):
    """A square of whole pixels, cut and resized bilinearly in uint8. A border that is not given is black.

    Attributes:
        edge: Number of the image's last rows and columns that count as beyond it.
    """

    edge = 0

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        return self.crop(image, region, size, PictureChanges(border=border))

    def crop(
        self, picture: Image | Levels, region: CropRegion, size: int, changes: PictureChanges = UNCHANGED
    ) -> Pixels:
        cut = self.cut(picture, region, changes)
        return cv2.resize(cut, (size, size)).reshape(size, size, cut.shape[2]).astype(np.uint8, copy=False)

    def cut(self, picture: Image | Levels, region: CropRegion, changes: PictureChanges = UNCHANGED) -> Image:
        """The pixels of the region before resizing.

        Args:
            picture, region, changes: See `crop`.

        Returns:
            [region.height, region.width, C]; a view where the crop is inside the image.
        """
        shown, top, left = self.shown_pixels(picture, region, changes)
        height, width = int(region.height), int(region.width)
        if shown.shape[:2] == (height, width):
            return shown
        whole = np.zeros((height, width, picture.shape[2]), dtype=np.uint8)
        if changes.border is not None:
            whole[:] = changes.border
        whole[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
        return whole

    def shown_pixels(
        self, picture: Image | Levels, region: CropRegion, changes: PictureChanges = UNCHANGED
    ) -> tuple[Image, int, int]:
        """The picture's own pixels in the region [h, w, C], and the row and column of the region that they begin in."""
        height, width, channels = picture.shape
        top, bottom, left, right = self.shown(region, (height, width))
        if bottom == top:
            return np.empty((0, 0, channels), dtype=np.uint8), 0, 0
        pixels = picture.levels[..., None] if isinstance(picture, Levels) else picture
        first, last = (width - right, width - left) if changes.mirrored else (left, right)
        shown = pixels[top:bottom, first:last]
        shown = np.asarray(cv2.flip(shown, 1), dtype=np.uint8).reshape(shown.shape) if changes.mirrored else shown
        shown = picture.coloured(shown) if isinstance(picture, Levels) else shown
        shown = shown if changes.edit is None else changes.edit(shown)
        return shown, top - int(region.top), left - int(region.left)

    def crop_pixels(
        self,
        frames: Sequence[Frame],
        regions: Sequence[CropRegion],
        size: int,
        borders: Tensor | None,
        device: torch.device,
    ) -> Tensor:
        if device.type != "cuda":
            return super().crop_pixels(frames, regions, size, borders, device)
        resized = resize_cuts(self.cuts(frames, regions, borders), size, device)  # [frames x pictures, 3, size, size]
        return resized.unflatten(0, (len(frames), -1)).flatten(1, 2)

    def cuts(self, frames: Sequence[Frame], regions: Sequence[CropRegion], borders: Tensor | None = None) -> list[Cut]:
        """Input of `resize_cuts`, the pictures of one frame after those of the frame before.

        Args:
            frames, regions, borders: See `crop_pixels`.
        """
        count, cuts = 1 if frames[0].second is None else 2, []
        for i, (frame, region) in enumerate(zip(frames, regions, strict=True)):
            for j, picture in enumerate(pictures_of(frame, count)):
                border = None if borders is None else borders[i, 3 * j : 3 * j + 3].numpy()
                cuts.append(Cut(*self.shown_pixels(picture, region), int(region.height), border))
        return cuts

    def shown(self, region: CropRegion, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Rows and columns of the image that are in the crop: top, bottom, left, right (ends exclusive).

        An empty rectangle if nothing is.
        """
        height, width = size_hw
        top, bottom = max(0, int(region.top)), min(int(region.top + region.height), height - self.edge)
        left, right = max(0, int(region.left)), min(int(region.left + region.width), width - self.edge)
        return (0, 0, 0, 0) if bottom <= top or right <= left else (top, bottom, left, right)

    def shows_image(self, region: CropRegion, size_hw: tuple[int, int]) -> bool:
        return self.shown(region, size_hw) != (0, 0, 0, 0)

    def padding_mask(self, region: CropRegion, size_hw: tuple[int, int], size: int) -> Mask:
        top, bottom, left, right = self.shown(region, size_hw)
        lines = []
        # a two-dimensional bilinear mask is nonzero exactly where one of its axes is
        for start, stop, first, side in (
            (top, bottom, region.top, region.height),
            (left, right, region.left, region.width),
        ):
            line = np.ones((int(side), 1), dtype=np.float64)
            line[max(start - int(first), 0) : max(stop - int(first), 0)] = 0.0
            lines.append(cv2.resize(line, (1, size)).reshape(size).astype(bool))
        return np.asarray(lines[0][:, None] | lines[1][None, :])


@CROP_STYLES.register("area")
class AreaStyle(WholePixelStyle):
    """A square whose side is ``ceil(sqrt(w * h) * factor)``, its corner rounded half to even, on black.

    The image's last column and row count as beyond it: published trackers were trained like that. (OSTrack, ECCV 2022)
    """

    edge = 1

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        x, y, w, h = box_xywh
        side = math.ceil(math.sqrt(w * h) * factor)
        left, top = round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5)
        return CropRegion(left, top, side, side, (x + w / 2, y + h / 2), (side, side))


@CROP_STYLES.register("context")
class ContextStyle(WholePixelStyle):
    """A square with a margin of the mean side on the image's mean colour (SiamFC; TransT, CVPR 2021).

    Its side is ``ceil(sqrt((w + (factor - 1) m) * (h + (factor - 1) m)))`` with ``m = (w + h) / 2``, its corner is
    rounded half up.
    """

    geometric_jitter = False

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        x, y, w, h = box_xywh
        return self.around((x + w / 2, y + h / 2), math.ceil(context_side(w, h, factor)))

    def around(self, centre_xy: tuple[float, float], exact: float) -> CropRegion:
        """The square around a centre, with the side that boxes are converted by."""
        side = round(exact)
        left, top = (math.floor(centre - (side + 1) / 2 + 0.5) for centre in centre_xy)
        return CropRegion(left, top, side, side, centre_xy, (exact, exact))

    def border(self, frame: Frame, edits: tuple[Edit | None, Edit | None] = (None, None)) -> Colours | None:
        """The mean colour, truncated to whole numbers."""
        return mean_colour(frame, edits).astype(np.uint8)


@CROP_STYLES.register("affine")
class AffineStyle(CropStyle):
    """A square with a margin of the mean side, placed between pixels by an affine warp, on ImageNet's mean colour.

    Its side is that of "context". Pixel (0, 0) of the crop shows the rectangle's corner, labels are pairs of inclusive
    corners that end at the crop's border. (MAT, CVPR 2023; GDSTrack, IJCAI 2025)

    Args:
        truncates: Corners of labels lose their fraction of a pixel: published training data of whole-number boxes.
    """

    geometric_jitter = False

    def __init__(self, truncates: bool = False) -> None:
        self.truncates = truncates

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        x, y, w, h = box_xywh
        side = math.ceil(context_side(w, h, factor))
        return self.around((x + w / 2, y + h / 2), (side, side))

    def around(self, centre_xy: tuple[float, float], sides_wh: tuple[float, float]) -> CropRegion:
        """The rectangle of these sides around a centre."""
        (cx, cy), (width, height) = centre_xy, sides_wh
        return CropRegion(cx - width / 2, cy - height / 2, width, height, centre_xy, sides_wh)

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        return warp(image, region, (size, size), MEAN_COLOUR if border is None else border, between_centres=False)

    def to_crop(self, box_xywh: Sequence[float], region: CropRegion, size: int) -> NDArray[np.float64]:
        x, y, w, h = box_xywh
        scale = size / np.array([region.width, region.height] * 2)
        corners = (np.array([x, y, x + w - 1, y + h - 1]) - [region.left, region.top] * 2) * scale
        first, last = np.clip(np.trunc(corners) if self.truncates else corners, 0, size - 1).reshape(2, 2)
        return np.concatenate([first, last - first + 1])


@CROP_STYLES.register("affine_stretched")
class StretchedAffineStyle(AffineStyle):
    """As "affine", but `factor` times the box's width and height, each stretched to the side of the crop (MAT)."""

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        x, y, w, h = box_xywh
        return self.around((x + w / 2, y + h / 2), (factor * w, factor * h))


@CROP_STYLES.register("pysot")
class PySOTStyle(ContextStyle):
    """As `ContextStyle`, with a side that is rounded where pixels are cut and left as it is where boxes are converted.

    Training crops are warped; see `WarpedStyle`. (SiamRPN++, CVPR 2019, and its descendants)

    Args:
        context_amount: See `ContextAmount`; of training crops too.
    """

    def __init__(self, context_amount: ContextAmount = 0.5) -> None:
        self.template_factor = 1 + 2 * context_amount

    def in_training(self) -> CropStyle:
        return WarpedStyle(self.template_factor)

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        x, y, w, h = box_xywh
        return self.around((x + w / 2, y + h / 2), context_side(w, h, self.template_factor) * factor / 2)

    def crop_mask(self, mask: Mask, region: CropRegion, size: int) -> Mask:
        """The pixels of a crop into which any of a mask is mixed.

        Args:
            mask: [H, W] bool.
            region: The rectangle of the crop.
            size: Side of the crop in pixels.

        Returns:
            [size, size] bool.
        """
        cut = self.cut(mask.astype(np.uint8)[..., None], region).astype(np.float32)
        return np.asarray(cv2.resize(cut, (size, size)) > 0)


@CROP_STYLES.register("pysot_511")
class PreparedStyle(PySOTStyle):
    """As `PySOTStyle`, trained with crops of 511 pixels that PySOT's scripts have cut, whose context amount is 0.5."""

    def __init__(self) -> None:
        super().__init__()

    def in_training(self) -> CropStyle:
        return WarpedStyle(self.template_factor, prepared=True)


class WarpedStyle(CropStyle):
    """Training crops of PySOT by one affine warp: what its crops of 511 pixels and their augmentation are in a row.

    A square around the target shows four times the context of the template (511 pixels for a template of 127). The crop
    is its middle, scaled by 1 +- SCALE_JITTER along both axes and shifted by up to CENTER_JITTER pixels, inside it.
    Corners of rectangles are centres of pixels. The colour beyond the image is its mean.

    Attributes:
        template_factor: Of `context_side`, for templates.
        prepared: Frames are such squares already.
    """

    jitter_numbers = 0, 4
    flip_gap = 1

    def __init__(self, template_factor: float = 2.0, prepared: bool = False) -> None:
        self.template_factor, self.prepared = template_factor, prepared

    def training_region(
        self, box_xywh: Float32s, normal: Float32s, uniform: Float32s, region: Region, size_hw: tuple[int, int]
    ) -> CropRegion:
        self.region(box_xywh.tolist(), region.factor, region.size, size_hw)  # a box that cannot be cropped is an error
        x, y, w, h = box_xywh.astype(np.float64).tolist()
        rx, ry, sx, sy = (2 * uniform.astype(np.float64) - 1).tolist()
        template = round(2 * region.size / region.factor)
        side, last = region.size - 1, 4 * template + 2  # of the crop and of the square, between centres of pixels
        bias = math.exp(region.scale_bias)
        scales = [min(bias * (1 + r * region.scale_jitter), (last + 1) / side) for r in (rx, ry)]
        reach = [max(0.0, (last - side * scale) / 2) for scale in scales]
        shifts = [min(max(r * region.center_jitter, -far), far) for r, far in zip((sx, sy), reach, strict=True)]
        pixel = context_side(w, h, self.template_factor) / template
        per = 1.0 if self.prepared else pixel * (last + 1) / last
        centre = x + w / 2, y + h / 2
        middle = (last / 2, last / 2) if self.prepared else centre
        width, height = (side * scale * per for scale in scales)
        left, top = (m + (s - side * scale / 2) * per for m, s, scale in zip(middle, shifts, scales, strict=True))
        moved = centre[0] + shifts[0] * pixel, centre[1] + shifts[1] * pixel
        sides = region.size * scales[0] * pixel, region.size * scales[1] * pixel
        return CropRegion(left, top, width, height, moved, sides)

    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        """The square around a box without any jitter."""
        x, y, w, h = box_xywh
        side = context_side(w, h, self.template_factor) * factor / 2
        centre = x + w / 2, y + h / 2
        return CropRegion(centre[0] - side / 2, centre[1] - side / 2, side, side, centre, (side, side))

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        return warp(image, region, (size, size), np.zeros(1) if border is None else border)

    def border(self, frame: Frame, edits: tuple[Edit | None, Edit | None] = (None, None)) -> Colours | None:
        """The mean colour."""
        return mean_colour(frame, edits)


def warp(
    image: Pixels, region: CropRegion, size_wh: tuple[int, int], border: Iterable[float], between_centres: bool = True
) -> Pixels:
    """A rectangle resampled bilinearly; its corners are centres of pixels.

    Args:
        image: [H, W, C].
        region: The rectangle.
        size_wh: Width and height of the result.
        border: [C] colour beyond the image.
        between_centres: The rectangle ends at the centre of the result's last pixel, or else a pixel further.

    Returns:
        [height, width, C] of the image's dtype.
    """
    ax, ay = (size_wh[0] - between_centres) / region.width, (size_wh[1] - between_centres) / region.height
    matrix = np.array([[ax, 0, -ax * region.left], [0, ay, -ay * region.top]])
    colour = [float(c) for c in border]
    return warp_affine(image, matrix, size_wh, colour).reshape(size_wh[1], size_wh[0], image.shape[2])


def context_side(width: float, height: float, factor: float = 2.0) -> float:
    """Mean side of a box to which `factor` - 1 times its mean side is added; 2: a template's context (SiamFC)."""
    margin = (factor - 1) * (width + height) / 2
    return math.sqrt((width + margin) * (height + margin))


def mean_colour(frame: Frame, edits: tuple[Edit | None, Edit | None]) -> NDArray[np.float64]:
    """[C] mean of each channel of a frame's pictures, edited as they will be."""
    means: list[float] = []
    for picture, edit in zip((frame.rgb, frame.aux), edits, strict=True):
        if picture is not None:
            image = picture if edit is None else edit(picture)
            means += [total / (image.shape[0] * image.shape[1]) for total in cv2.sumElems(image)[:3]]
    return np.array(means)
