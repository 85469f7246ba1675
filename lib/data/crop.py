"""Square crops round a box, resized: the geometry that training and tracking share, in two styles.

area (OSTrack, ECCV 2022): the side is ``ceil(sqrt(w * h) * factor)`` image pixels, the corner is rounded half to even,
what lies outside the image is black - and so is the image's last column and row whenever a crop reaches them:
published trackers were trained like that.

context (SiamFC, TransT, CVPR 2021): width and height grow by ``factor - 1`` times their mean before the root is taken,
``ceil(sqrt((w + (factor - 1) m) * (h + (factor - 1) m)))`` with ``m = (w + h) / 2``, the corner is rounded half up,
what lies outside the image has the image's mean colour.

The image itself is neither copied nor padded; only the region under the crop is touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data.types import Frame, Image, Levels, Mask

CropStyle = Literal["area", "context"]
Edit = Callable[[Image], Image]
"""A pixel-wise change of colours."""
Colours = NDArray[np.uint8]
"""[C] what is shown outside the image, one value per channel of all pictures of a frame."""

MAX_CROP_SIDE = 20_000
"""Image pixels; larger crops come from degenerate boxes only (a 4K frame filled by the target needs 14400)."""


class CropError(ValueError):
    """A box that no crop can be taken round."""


class TooSmallBoxError(CropError):
    """A box so small that its crop has no pixel."""


class TooLargeBoxError(CropError):
    """A box so large that its crop would exceed `MAX_CROP_SIDE`."""


@dataclass(frozen=True, slots=True)
class Crop:
    """image: S x S x C uint8. resize_factor: crop pixels per image pixel. crop_size: the side in image pixels.

    mask: [S, S] bool, True on padding (and where resizing mixes padding in); None unless it was asked for.
    """

    image: Image
    resize_factor: float
    crop_size: int
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class CropRegion:
    """A square of `side` image pixels with its top-left corner at `left`, `top`; it may leave the image.

    edge: how many of the image's last rows and columns count as outside.
    """

    left: int
    top: int
    side: int
    edge: int = 1

    def inner(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Rows and columns of the image that show in the crop: top, bottom, left, right (ends exclusive).

        An empty rectangle when nothing shows.
        """
        top, bottom = max(0, self.top), min(self.top + self.side, height - self.edge)
        left, right = max(0, self.left), min(self.left + self.side, width - self.edge)
        return (0, 0, 0, 0) if bottom <= top or right <= left else (top, bottom, left, right)

    def leaves(self, height: int, width: int) -> bool:
        """Whether some of the crop is outside the image."""
        top, bottom, left, right = self.inner(height, width)
        return (bottom - top, right - left) != (self.side, self.side)


def crop_region(box_xywh: Sequence[float], factor: float, style: CropStyle = "area") -> CropRegion:
    """The square round a box (image pixels) that is to be cropped.

    Raises TooSmallBoxError, TooLargeBoxError, or CropError for a box with NaN or infinity.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    if not all(map(math.isfinite, (x, y, w, h))):
        raise CropError(f"box {[x, y, w, h]} has a coordinate that is not a finite number")
    wanted = _wanted_side(w, h, factor, style) if w > 0 and h > 0 else 0.0
    if wanted <= 0:
        raise TooSmallBoxError(f"box {[x, y, w, h]} is too small to crop round it (factor {factor:g})")
    if wanted > MAX_CROP_SIDE:
        raise TooLargeBoxError(f"the crop round box {[x, y, w, h]} would be more than {MAX_CROP_SIDE} pixels wide")
    side = math.ceil(wanted)
    if style == "area":
        return CropRegion(round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side)
    half = (side + 1) / 2
    return CropRegion(math.floor(x + w / 2 - half + 0.5), math.floor(y + h / 2 - half + 0.5), side, edge=0)


def _wanted_side(w: float, h: float, factor: float, style: CropStyle) -> float:
    if style == "area":
        return math.sqrt(w * h) * factor
    around = (factor - 1) * (w + h) / 2
    return math.sqrt((w + around) * (h + around))


def mean_colours(frame: Frame, edits: tuple[Edit | None, Edit | None] = (None, None)) -> Colours:
    """[C] the mean colour of each (edited) picture of a frame, cut to whole numbers; C = 3 or 6."""
    pictures = [frame.rgb] if frame.second is None else [frame.rgb, frame.second]
    means: list[float] = []
    for picture, edit in zip(pictures, edits, strict=False):
        shown = picture.picture() if isinstance(picture, Levels) else picture
        shown = shown if edit is None else edit(shown)
        means += [total / (shown.shape[0] * shown.shape[1]) for total in cv2.sumElems(shown)[:3]]
    return np.array(means).astype(np.uint8)


def cut(
    image: Image | Levels,
    region: CropRegion,
    mirrored: bool = False,
    edit: Edit | None = None,
    padding: Colours | None = None,
) -> Image:
    """The region's pixels, side x side x C; a view where the crop is inside the image.

    mirrored: cut from the left-right mirrored image (`region` is then in its coordinates). edit: done on what shows
    only. padding: [C] colour outside the image, black where None.
    """
    height, width = image.shape[:2]
    top, bottom, left, right = region.inner(height, width)
    pixels = image.levels[..., None] if isinstance(image, Levels) else image
    shown = pixels[top:bottom, width - right : width - left] if mirrored else pixels[top:bottom, left:right]
    if shown.size:
        shown = np.asarray(cv2.flip(shown, 1), dtype=np.uint8).reshape(shown.shape) if mirrored else shown
        shown = image.coloured(shown) if isinstance(image, Levels) else shown
        shown = shown if edit is None else edit(shown)
        if shown.shape[:2] == (region.side, region.side):
            return shown
    whole = np.zeros((region.side, region.side, image.shape[2]), dtype=np.uint8)
    if padding is not None:
        whole[:] = padding
    if shown.size:
        whole[top - region.top : bottom - region.top, left - region.left : right - region.left] = shown
    return whole


def resize(image: Image, size: int) -> Image:
    """Bilinear, uint8, to size x size; the channels are resized by threes, which OpenCV does several times faster."""
    channels = image.shape[2]
    if channels <= 4:
        return cv2.resize(image, (size, size)).reshape(size, size, channels).astype(np.uint8, copy=False)
    parts = [np.ascontiguousarray(image[..., i : i + 3]) for i in range(0, channels, 3)]
    return np.concatenate([resize(p, size) for p in parts], axis=2)


def padding_mask(region: CropRegion, height: int, width: int, size: int) -> Mask:
    """[size, size] bool: True where a crop pixel is padding, or a mixture with it after bilinear resizing."""
    top, bottom, left, right = region.inner(height, width)
    rows = _padding_line(top - region.top, bottom - region.top, region.side, size)
    columns = _padding_line(left - region.left, right - region.left, region.side, size)
    return rows[:, None] | columns[None, :]


def _padding_line(start: int, stop: int, side: int, size: int) -> Mask:
    """[size] bool for one axis. A two-dimensional bilinear mask is nonzero exactly where one of its axes is."""
    line = np.ones((side, 1), dtype=np.float64)
    line[max(start, 0) : max(stop, 0)] = 0.0
    return cv2.resize(line, (1, size)).reshape(size).astype(bool)


def sample_target(
    image: Image, box_xywh: Sequence[float], factor: float, output_size: int, with_mask: bool = False
) -> Crop:
    """The crop of `image` [H, W, C] round a box in image pixels, resized to output_size x output_size.

    A box far outside the image gives black. Raises TooSmallBoxError, TooLargeBoxError, CropError.
    """
    region = crop_region(box_xywh, factor)
    mask = padding_mask(region, image.shape[0], image.shape[1], output_size) if with_mask else None
    return Crop(resize(cut(image, region), output_size), output_size / region.side, region.side, mask)


def write_planes(image: Image | cv2.typing.MatLike, planes: NDArray[np.uint8]) -> None:
    """S x S x 3 picture into contiguous [3, S, S] planes."""
    cv2.split(image, [planes[0], planes[1], planes[2]])


def crop_frame(
    frame: Frame,
    region: CropRegion,
    planes: NDArray[np.uint8],
    mirrored: bool = False,
    edits: tuple[Edit | None, Edit | None] = (None, None),
    flipped: bool = False,
    padding: Colours | None = None,
) -> None:
    """Crop both pictures of a frame and resize them into `planes` [C, S, S], C = 3 or 6.

    mirrored, edits (for RGB and for aux), padding: see `cut`. flipped: the finished crop is turned left to right.
    Raises ValueError when the frame's pictures do not fit.
    """
    pictures = [frame.rgb] if frame.second is None else [frame.rgb, frame.second]
    if len(planes) != 3 * len(pictures):
        raise ValueError("frames with and without an auxiliary picture are mixed in one batch")
    for i, picture in enumerate(pictures):
        if picture.shape != (*frame.size_hw, 3):
            raise ValueError(f"expected pictures of shape {(*frame.size_hw, 3)} in a frame, found {picture.shape}")
        if i and picture is frame.rgb and edits[i] is edits[0]:
            planes[3:] = planes[:3]
            continue
        colour = None if padding is None else padding[3 * i : 3 * i + 3]
        crop = resize(cut(picture, region, mirrored, edits[i], colour), planes.shape[1])
        write_planes(cv2.flip(crop, 1) if flipped else crop, planes[3 * i : 3 * i + 3])


def crop_batch(
    frames: Sequence[Frame],
    boxes_xywh: Tensor,
    factor: float,
    output_size: int,
    style: CropStyle = "area",
    padding: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One crop per frame: uint8 [B, C, S, S] (C = 6 with aux pictures) and resize factors [B] float64, on the CPU.

    boxes_xywh: [B, 4] image pixels. padding: [B, C] uint8 colours outside the images, black where None. Raises as
    `sample_target` does; ValueError when RGB and RGB+X frames are mixed.
    """
    if len(frames) != len(boxes_xywh):
        raise ValueError(f"{len(frames)} frames, but {len(boxes_xywh)} boxes")
    channels = 6 if frames and frames[0].second is not None else 3
    crops = torch.empty((len(frames), channels, output_size, output_size), dtype=torch.uint8)
    factors = torch.empty(len(frames), dtype=torch.float64)
    planes = crops.numpy()
    for i, (frame, box) in enumerate(zip(frames, boxes_xywh.tolist(), strict=True)):
        region = crop_region(box, factor, style)
        crop_frame(frame, region, planes[i], padding=None if padding is None else padding[i].numpy())
        factors[i] = output_size / region.side
    return crops, factors
