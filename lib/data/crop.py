"""Crops around a box, in training and in tracking: a registry of crop styles (`DATA.CROP_STYLE`).

A style is one class that decides everything about a crop: its rectangle in the image, resampling, the colour beyond the
image's border, jitter of boxes, and the conversion of boxes between image and crop. Frames are neither copied
nor padded; only the pixels under the crop are touched.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.config import Region
from lib.data.boxes import Float32s, jitter_box
from lib.data.types import Frame, Image, Levels, Mask
from lib.registry import Registry

Pixels = NDArray[Any]
"""[S, S, C] uint8 or float32, 0..255."""
Edit = Callable[[Image], Image]
"""A pixel-wise change of colours."""
Colours = NDArray[Any]
"""[C] the colour beyond the image, one value per channel of all pictures of a frame."""

MAX_CROP_SIDE = 20_000
"""Image pixels; larger crops come from degenerate boxes only (a 4K frame filled by the target needs 14400)."""
MEAN_COLOUR = (123.675, 116.28, 103.53)
"""R, G, B: the mean of ImageNet in grey levels."""


class CropError(ValueError):
    """A box that cannot be cropped."""


class TooSmallBoxError(CropError):
    """A box so small that its crop has no pixel."""


class TooLargeBoxError(CropError):
    """A box so large that its crop would exceed `MAX_CROP_SIDE`."""


@dataclass(frozen=True, slots=True)
class CropRegion:
    """The rectangle of an image that a crop shows; it may leave the image.

    Attributes:
        left, top, width, height: Image pixels; whole numbers in styles that cut whole pixels.
        centre_xy, sides_wh: What boxes in the crop are relative to, in image pixels. They differ from the rectangle by
            what a style rounds when it cuts, and leaves out of account when it converts boxes.
        step: Of styles that cut every n-th pixel, n.
    """

    left: float
    top: float
    width: float
    height: float
    centre_xy: tuple[float, float]
    sides_wh: tuple[float, float]
    step: int = 1

    def leaves(self, size_hw: tuple[int, int]) -> bool:
        """True if some of the crop is beyond the image.

        Args:
            size_hw: Height and width of the image.
        """
        inside = self.left >= 0 and self.top >= 0 and self.left + self.width <= size_hw[1]
        return not (inside and self.top + self.height <= size_hw[0])


@dataclass(frozen=True, slots=True)
class PictureChanges:
    """Changes of a picture before it is cropped.

    Attributes:
        mirrored: Exchange left and right of the picture.
        edit: Change of the picture's colours.
        border: [C] colour beyond the picture; None: as the style has it.
    """

    mirrored: bool = False
    edit: Edit | None = None
    border: Colours | None = None


@dataclass(frozen=True, slots=True)
class Crops:
    """One crop per frame, as a tracker needs them.

    Attributes:
        pixels: [B, C, S, S] of the style's dtype, on the CPU; C = 6 with auxiliary pictures.
        boxes_xywh: [B, 4] float64, the given boxes in units of the crop's side.
        centres, sides: [B, 2] float64, `CropRegion.centre_xy` and `CropRegion.sides_wh`.
    """

    pixels: Tensor
    boxes_xywh: Tensor
    centres: Tensor
    sides: Tensor


class CropStyle(ABC):
    """One way to cut crops. A style needs `place` and `resample`; everything else has a default."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)
    geometric_jitter = True
    """The centre's jitter is in units of the geometric mean of the box's sides, or else of the arithmetic one."""
    flip_gap = 0
    """Pixels by which the box of a flipped crop is short of its mirror image."""
    jitter_numbers = 2, 2
    """Normal and uniform random numbers that a training crop takes."""

    def in_training(self) -> CropStyle:
        """The style of training crops, where it differs from that of tracking."""
        return self

    @abstractmethod
    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
        """The rectangle around a box of positive size.

        Args:
            box_xywh, factor, size, size_hw: See `region`.

        Returns:
            The rectangle, of any size: `region` checks it.
        """

    @abstractmethod
    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        """The crop of a whole picture.

        Args:
            image: [H, W, C] uint8.
            region: The rectangle.
            size: Side of the crop in pixels.
            border: [C] colour beyond the image; None: as the style has it.

        Returns:
            [size, size, C] of `dtype`.
        """

    def border(self, frame: Frame, edits: tuple[Edit | None, Edit | None] = (None, None)) -> Colours | None:
        """The colour beyond the pictures of a frame.

        Args:
            frame: The frame.
            edits: Changes of its RGB and auxiliary picture before they are cropped.

        Returns:
            [C] with C = 3 or 6; None where `resample` knows it.
        """
        return None

    def jitter(self, box_xywh: Float32s, normal: Float32s, uniform: Float32s, region: Region) -> Float32s:
        """The box that a training crop is cut around.

        Args:
            box_xywh: [4] the target, image pixels.
            normal, uniform: [2] each, random numbers as in `jitter_box`.
            region: DATA.TEMPLATE or DATA.SEARCH.

        Returns:
            [4] x, y, w, h in image pixels.
        """
        spread, reach = region.scale_jitter, region.center_jitter
        return jitter_box(box_xywh, normal, uniform, spread, reach, self.geometric_jitter)

    def training_region(
        self, box_xywh: Float32s, normal: Float32s, uniform: Float32s, region: Region, size_hw: tuple[int, int]
    ) -> CropRegion:
        """The rectangle of a training crop.

        Args:
            box_xywh: [4] the target, image pixels.
            normal, uniform: Random numbers, as many as `jitter_numbers` says.
            region: DATA.TEMPLATE or DATA.SEARCH.
            size_hw: Height and width of the image.

        Raises:
            CropError: As `region`.
        """
        jittered = self.jitter(box_xywh, normal, uniform, region)
        return self.region(jittered.tolist(), region.factor, region.size, size_hw)

    def region(self, box_xywh: Sequence[float], factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
        """The rectangle to crop around a box.

        Args:
            box_xywh: Image pixels.
            factor: Context: the crop's extent in units of the box's.
            size: Side of the crop in pixels.
            size_hw: Height and width of the image.

        Raises:
            TooSmallBoxError, TooLargeBoxError: For unusable sizes.
            CropError: For a box with NaN or infinity.
        """
        x, y, w, h = (float(v) for v in box_xywh)
        if not all(map(math.isfinite, (x, y, w, h))):
            raise CropError(f"box {[x, y, w, h]} has a coordinate that is not a finite number")
        try:
            region = self.place((x, y, w, h), factor, size, size_hw) if w > 0 and h > 0 else None
        except OverflowError:
            raise TooLargeBoxError(f"box {[x, y, w, h]} is too large to be cropped") from None
        if region is None or min(region.width, region.height) <= 0:
            raise TooSmallBoxError(f"box {[x, y, w, h]} is too small to crop around it (factor {factor:g})")
        if max(region.width, region.height) > MAX_CROP_SIDE:
            raise TooLargeBoxError(f"the crop around box {[x, y, w, h]} would be more than {MAX_CROP_SIDE} pixels wide")
        return region

    def shows_image(self, region: CropRegion, size_hw: tuple[int, int]) -> bool:
        """True if any pixel of the image is in the crop.

        Args:
            region: The rectangle of the crop.
            size_hw: Height and width of the image.
        """
        height, width = size_hw
        columns = region.left < width and region.left + region.width > 0
        return columns and region.top < height and region.top + region.height > 0

    def crop(
        self, picture: Image | Levels, region: CropRegion, size: int, changes: PictureChanges = PictureChanges()
    ) -> Pixels:
        """The crop of a picture that is first mirrored and edited, [size, size, C].

        Args:
            picture: [H, W, C].
            region: In the coordinates of the mirrored picture, if it is mirrored.
            size: Side of the crop in pixels.
            changes: Of the picture.
        """
        image = picture.picture() if isinstance(picture, Levels) else picture
        image = image if changes.edit is None else changes.edit(image)
        image = np.ascontiguousarray(image[:, ::-1]) if changes.mirrored else image
        return self.resample(image, region, size, changes.border)

    def padding_mask(self, region: CropRegion, size_hw: tuple[int, int], size: int) -> Mask:
        """The crop pixels that are beyond the image, or a mixture with what is.

        Args:
            region: The rectangle of the crop.
            size_hw: Height and width of the image.
            size: Side of the crop in pixels.

        Returns:
            [size, size] bool.
        """
        inside = np.full((*size_hw, 1), 255, dtype=np.uint8)
        return np.asarray(self.resample(inside, region, size, np.zeros(1, dtype=np.uint8))[..., 0] < 254.5)

    def to_crop(self, box_xywh: Sequence[float], region: CropRegion, size: int) -> NDArray[np.float64]:
        """A box of the image as a training label.

        Args:
            box_xywh: [4] image pixels.
            region: The rectangle of the crop.
            size: Side of the crop in pixels.

        Returns:
            [4] x, y, w, h in crop pixels; the crop's middle is (size - 1) / 2.
        """
        x, y, w, h = box_xywh
        (cx, cy), (side_x, side_y) = region.centre_xy, region.sides_wh
        middle, per_x, per_y = (size - 1) / 2, size / side_x, size / side_y
        width, height = w * per_x, h * per_y
        left = middle + ((x + w / 2) - cx) * per_x - width / 2
        top = middle + ((y + h / 2) - cy) * per_y - height / 2
        return np.array([left, top, width, height])

    def to_image(self, boxes_cxcywh: Tensor, centres: Tensor, sides: Tensor) -> Tensor:
        """Predicted boxes as x, y, w, h in image pixels; the crop's centre is 0.5. All float64.

        Published trackers do not subtract the half pixel that training labels have (`to_crop`).

        Args:
            boxes_cxcywh: [B, 4] in units of the crop's side.
            centres, sides: [B, 2], see `Crops`.
        """
        extent = boxes_cxcywh[:, 2:] * sides
        return torch.cat([centres + boxes_cxcywh[:, :2] * sides - sides / 2 - extent / 2, extent], dim=1)

    def crop_frame(
        self,
        frame: Frame,
        region: CropRegion,
        planes: Pixels,
        mirrored: bool = False,
        edits: tuple[Edit | None, Edit | None] = (None, None),
        finish: Callable[[Pixels, int], Pixels] | None = None,
        border: Colours | None = None,
        alike: bool = True,
    ) -> None:
        """Write the crops of both pictures of a frame into `planes` [C, S, S], C = 3 or 6.

        Args:
            frame: RGB alone or with an auxiliary picture.
            region: See `crop`.
            planes: Output, of `dtype`.
            mirrored: See `crop`.
            edits: For RGB and for the auxiliary picture.
            finish: Change of each finished crop [S, S, 3]; also told 0 for RGB and 1 for the auxiliary picture.
            border: See `border`.
            alike: `finish` changes both pictures in the same way.

        Raises:
            ValueError: The pictures of the frame do not fit.
        """
        pictures = [frame.rgb] if frame.second is None else [frame.rgb, frame.second]
        if len(planes) != 3 * len(pictures):
            raise ValueError("frames with and without an auxiliary picture are mixed in one batch")
        for i, picture in enumerate(pictures):
            if picture.shape != (*frame.size_hw, 3):
                raise ValueError(f"expected pictures of shape {(*frame.size_hw, 3)} in a frame, found {picture.shape}")
            if i and alike and picture is frame.rgb and edits[i] is edits[0]:
                planes[3:] = planes[:3]
                continue
            colour = None if border is None else border[3 * i : 3 * i + 3]
            crop = self.crop(picture, region, planes.shape[1], PictureChanges(mirrored, edits[i], colour))
            crop = crop if finish is None else finish(crop, i)
            if crop.dtype != planes.dtype:
                raise ValueError(f"{type(self).__name__} gave a crop of {crop.dtype}, not of {planes.dtype}")
            cv2.split(crop, [planes[3 * i], planes[3 * i + 1], planes[3 * i + 2]])

    def crop_frames(
        self, frames: Sequence[Frame], boxes_xywh: Tensor, factor: float, size: int, borders: Tensor | None = None
    ) -> Crops:
        """One crop per frame, for tracking.

        Args:
            frames: B frames.
            boxes_xywh: [B, 4] image pixels.
            factor: See `region`.
            size: Side of the crops in pixels.
            borders: [B, C] colours of `borders`, or None.

        Raises:
            CropError: As `region`.
            ValueError: RGB and RGB-X frames are mixed.
        """
        channels = 6 if frames and frames[0].second is not None else 3
        pixels = np.empty((len(frames), channels, size, size), dtype=self.dtype)
        geometry = np.empty((len(frames), 8))
        for i, (frame, box) in enumerate(zip(frames, boxes_xywh.tolist(), strict=True)):
            region = self.region(box, factor, size, frame.size_hw)
            self.crop_frame(frame, region, pixels[i], border=None if borders is None else borders[i].numpy())
            geometry[i] = *(self.to_crop(box, region, size) / size), *region.centre_xy, *region.sides_wh
        boxes, centres, sides = torch.from_numpy(geometry).split([4, 2, 2], dim=1)
        return Crops(torch.from_numpy(pixels), boxes, centres, sides)

    def borders(self, frames: Sequence[Frame]) -> Tensor | None:
        """The colours beyond frames; a tracker keeps those of the first frame.

        Args:
            frames: B frames.

        Returns:
            [B, C], or None where `resample` knows them.
        """
        colours = [self.border(frame) for frame in frames]
        known = [c for c in colours if c is not None]
        return torch.from_numpy(np.stack(known)) if known else None


CROP_STYLES: Registry[Callable[[], CropStyle]] = Registry("crop style")
"""`DATA.CROP_STYLE` -> class."""


class WholePixelStyle(CropStyle):
    """A square of whole pixels, cut and resized bilinearly in uint8. A border that is not given is black.

    Attributes:
        edge: Number of the image's last rows and columns that count as beyond it.
    """

    edge = 0

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        return self.crop(image, region, size, PictureChanges(border=border))

    def crop(
        self, picture: Image | Levels, region: CropRegion, size: int, changes: PictureChanges = PictureChanges()
    ) -> Pixels:
        cut = self.cut(picture, region, changes)
        return cv2.resize(cut, (size, size)).reshape(size, size, cut.shape[2]).astype(np.uint8, copy=False)

    def cut(self, picture: Image | Levels, region: CropRegion, changes: PictureChanges = PictureChanges()) -> Image:
        """The pixels of the region before resizing.

        Args:
            picture, region, changes: See `crop`.

        Returns:
            [region.height, region.width, C]; a view where the crop is inside the image.
        """
        height, width, channels = picture.shape
        top, bottom, left, right = self.shown(region, (height, width))
        pixels = picture.levels[..., None] if isinstance(picture, Levels) else picture
        first, last = (width - right, width - left) if changes.mirrored else (left, right)
        shown = pixels[top:bottom, first:last]
        if shown.size:
            shown = np.asarray(cv2.flip(shown, 1), dtype=np.uint8).reshape(shown.shape) if changes.mirrored else shown
            shown = picture.coloured(shown) if isinstance(picture, Levels) else shown
            shown = shown if changes.edit is None else changes.edit(shown)
            if shown.shape[:2] == (region.height, region.width):
                return shown
        whole = np.zeros((int(region.height), int(region.width), channels), dtype=np.uint8)
        if changes.border is not None:
            whole[:] = changes.border
        if shown.size:
            first_row, first_column = top - int(region.top), left - int(region.left)
            whole[first_row : first_row + bottom - top, first_column : first_column + right - left] = shown
        return whole

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

    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
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

    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
        x, y, w, h = box_xywh
        margin = (factor - 1) * (w + h) / 2
        side = math.ceil(math.sqrt((w + margin) * (h + margin)))
        left, top = (math.floor(centre - (side + 1) / 2 + 0.5) for centre in (x + w / 2, y + h / 2))
        return CropRegion(left, top, side, side, (x + w / 2, y + h / 2), (side, side))

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

    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
        x, y, w, h = box_xywh
        margin = (factor - 1) * (w + h) / 2
        side = math.ceil(math.sqrt((w + margin) * (h + margin)))
        return self.around((x + w / 2, y + h / 2), (side, side))

    def around(self, centre_xy: tuple[float, float], sides_wh: tuple[float, float]) -> CropRegion:
        """The rectangle of these sides around a centre."""
        (cx, cy), (width, height) = centre_xy, sides_wh
        return CropRegion(cx - width / 2, cy - height / 2, width, height, centre_xy, sides_wh)

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        across, down = size / region.width, size / region.height
        warp = np.array([[across, 0, -across * region.left], [0, down, -down * region.top]])
        beyond = [float(level) for level in (MEAN_COLOUR if border is None else border)]
        crop = cv2.warpAffine(image, warp, (size, size), borderMode=cv2.BORDER_CONSTANT, borderValue=beyond)
        return np.asarray(crop).reshape(size, size, image.shape[2])

    def to_crop(self, box_xywh: Sequence[float], region: CropRegion, size: int) -> NDArray[np.float64]:
        x, y, w, h = box_xywh
        scale = size / np.array([region.width, region.height] * 2)
        corners = (np.array([x, y, x + w - 1, y + h - 1]) - [region.left, region.top] * 2) * scale
        first, last = np.clip(np.trunc(corners) if self.truncates else corners, 0, size - 1).reshape(2, 2)
        return np.concatenate([first, last - first + 1])


@CROP_STYLES.register("affine_truncated")
class TruncatedAffineStyle(AffineStyle):
    """As "affine", with labels in whole pixels."""

    def __init__(self) -> None:
        super().__init__(truncates=True)


@CROP_STYLES.register("affine_stretched")
class StretchedAffineStyle(AffineStyle):
    """As "affine", but `factor` times the box's width and height, each stretched to the side of the crop (MAT)."""

    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
        x, y, w, h = box_xywh
        return self.around((x + w / 2, y + h / 2), (factor * w, factor * h))


@CROP_STYLES.register("pysot")
class PySOTStyle(ContextStyle):
    """As `ContextStyle`, with a side that is rounded where pixels are cut and left as it is where boxes are converted.

    Training crops are warped; see `WarpedStyle`. (SiamRPN++, CVPR 2019, and its descendants)
    """

    def in_training(self) -> CropStyle:
        return WarpedStyle()

    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
        x, y, w, h = box_xywh
        return self.around((x + w / 2, y + h / 2), context_side(w, h) * factor / 2)

    def around(self, centre_xy: tuple[float, float], exact: float) -> CropRegion:
        """The square around a centre, with the side that boxes are converted by."""
        side = round(exact)
        left, top = (math.floor(centre - (side + 1) / 2 + 0.5) for centre in centre_xy)
        return CropRegion(left, top, side, side, centre_xy, (exact, exact))

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
    """As `PySOTStyle`, trained with crops of 511 pixels that PySOT's scripts have cut."""

    def in_training(self) -> CropStyle:
        return WarpedStyle(prepared=True)


class WarpedStyle(CropStyle):
    """Training crops of PySOT by one affine warp: what its crops of 511 pixels and their augmentation are in a row.

    A square around the target shows four times the context of the template (511 pixels for a template of 127). The crop
    is its middle, scaled by 1 +- SCALE_JITTER along both axes and shifted by up to CENTER_JITTER pixels, inside it.
    Corners of rectangles are centres of pixels. The colour beyond the image is its mean.

    Attributes:
        prepared: Frames are such squares already.
    """

    jitter_numbers = 0, 4
    flip_gap = 1

    def __init__(self, prepared: bool = False) -> None:
        self.prepared = prepared

    def training_region(
        self, box_xywh: Float32s, normal: Float32s, uniform: Float32s, region: Region, size_hw: tuple[int, int]
    ) -> CropRegion:
        self.region(box_xywh.tolist(), region.factor, region.size, size_hw)  # a box that cannot be cropped is an error
        x, y, w, h = box_xywh.astype(np.float64).tolist()
        rx, ry, sx, sy = (2 * uniform.astype(np.float64) - 1).tolist()
        template = round(2 * region.size / region.factor)
        side, last = region.size - 1, 4 * template + 2  # of the crop and of the square, between centres of pixels
        scales = [min(1 + r * region.scale_jitter, (last + 1) / side) for r in (rx, ry)]
        reach = [max(0.0, (last - side * scale) / 2) for scale in scales]
        shifts = [min(max(r * region.center_jitter, -far), far) for r, far in zip((sx, sy), reach, strict=True)]
        pixel = context_side(w, h) / template
        per = 1.0 if self.prepared else pixel * (last + 1) / last
        centre = x + w / 2, y + h / 2
        middle = (last / 2, last / 2) if self.prepared else centre
        left, top = (
            m + (shift - side * scale / 2) * per for m, shift, scale in zip(middle, shifts, scales, strict=True)
        )
        moved = [c + shift * pixel for c, shift in zip(centre, shifts, strict=True)]
        sides = [region.size * scale * pixel for scale in scales]
        return CropRegion(
            left, top, side * scales[0] * per, side * scales[1] * per, (moved[0], moved[1]), (sides[0], sides[1])
        )

    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
        """The square around a box without any jitter."""
        x, y, w, h = box_xywh
        side = context_side(w, h) * factor / 2
        centre = x + w / 2, y + h / 2
        return CropRegion(centre[0] - side / 2, centre[1] - side / 2, side, side, centre, (side, side))

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        return warp(image, region, (size, size), np.zeros(1) if border is None else border)

    def border(self, frame: Frame, edits: tuple[Edit | None, Edit | None] = (None, None)) -> Colours | None:
        """The mean colour."""
        return mean_colour(frame, edits)


def warp(image: Pixels, region: CropRegion, size_wh: tuple[int, int], border: Colours) -> Pixels:
    """A rectangle resampled bilinearly; its corners are centres of pixels.

    Args:
        image: [H, W, C].
        region: The rectangle.
        size_wh: Width and height of the result.
        border: [C] colour beyond the image.

    Returns:
        [height, width, C] of the image's dtype.
    """
    ax, ay = (size_wh[0] - 1) / region.width, (size_wh[1] - 1) / region.height
    matrix = np.array([[ax, 0, -ax * region.left], [0, ay, -ay * region.top]])
    colour = [float(c) for c in border]
    warped = cv2.warpAffine(image, matrix, size_wh, borderMode=cv2.BORDER_CONSTANT, borderValue=colour)
    return np.asarray(warped).reshape(size_wh[1], size_wh[0], image.shape[2])


def context_side(width: float, height: float) -> float:
    """Mean side of a box with half its mean side around it: the context of a template (SiamFC)."""
    margin = (width + height) / 2
    return math.sqrt((width + margin) * (height + margin))


def mean_colour(frame: Frame, edits: tuple[Edit | None, Edit | None]) -> NDArray[np.float64]:
    """[C] mean of each channel of a frame's pictures, edited as they will be."""
    pictures = [frame.rgb] if frame.second is None else [frame.rgb, frame.second]
    means: list[float] = []
    for picture, edit in zip(pictures, edits, strict=False):
        image = picture.picture() if isinstance(picture, Levels) else picture
        image = image if edit is None else edit(image)
        means += [total / (image.shape[0] * image.shape[1]) for total in cv2.sumElems(image)[:3]]
    return np.array(means)
