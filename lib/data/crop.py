"""Crops around a box, in training and in tracking: the contract of crop styles (`DATA.CROP_STYLE`).

A style is one class that decides everything about a crop: its rectangle in the image, resampling, the colour beyond the
image's border, jitter of boxes, and the conversion of boxes between image and crop. Frames are neither copied
nor padded; only the pixels under the crop are touched.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.config import Region
from lib.data.boxes import Float32s, jitter_box
from lib.data.types import Box, Frame, Image, Levels, Mask
from lib.device import to_device
from lib.registry import Registry

Pixels = NDArray[Any]
"""[S, S, C] uint8 or float32, 0..255."""
Edit = Callable[[Image], Image]
"""A pixel-wise change of colours."""
Colours = NDArray[Any]
"""[C] the colour beyond the image, one value per channel of all pictures of a frame."""

CPU = torch.device("cpu")
PICTURES = ("rgb", "aux")
MAX_CROP_SIDE = 20_000
"""Image pixels; larger crops come from degenerate boxes only (a 4K frame filled by the target needs 14400)."""


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


UNCHANGED = PictureChanges()


@dataclass
class CropPlan:
    """Plan of one crop; transforms change it in their order.

    Attributes:
        frame: The frame that is cropped.
        kind: Template or search region.
        edits: Changes of the colours of its RGB and auxiliary picture before the crop is cut.
        mirrored: Exchange left and right of the whole frame before the crop is cut.
        flipped: Exchange left and right of the finished crop.
        colour: [3, 4] R, G, B of the crop and 1 -> new R, G, B, in grey levels 0..255.
        filters: Changes of the finished crop [S, S, 3], such as blur, each with the pictures that it changes.
    """

    frame: Frame
    kind: Literal["template", "search"]
    edits: tuple[Edit | None, Edit | None] = (None, None)
    mirrored: bool = False
    flipped: bool = False
    colour: Float32s = field(default_factory=lambda: np.eye(3, 4, dtype=np.float32))
    filters: list[tuple[Callable[[Pixels], Pixels], tuple[str, ...]]] = field(default_factory=list)

    @property
    def alike(self) -> bool:
        """True if both pictures of the frame are changed in the same way."""
        return all(pictures == PICTURES for _change, pictures in self.filters)

    def recolour(self, change: NDArray[Any]) -> None:
        """Apply a change of colours after those before.

        Args:
            change: [3, 4] affine, R, G, B and 1 -> new R, G, B in grey levels.
        """
        matrix = np.asarray(change, dtype=np.float32)
        self.colour = matrix[:, :3] @ self.colour
        self.colour[:, 3] += matrix[:, 3]

    def finish(self, crop: Pixels, picture: int = 0) -> Pixels:
        """Filter and flip a finished crop.

        Args:
            crop: [S, S, 3].
            picture: 0 for that of the RGB picture, 1 for that of the auxiliary one.
        """
        for change, pictures in self.filters:
            crop = change(crop) if PICTURES[picture] in pictures else crop
        return np.asarray(cv2.flip(crop, 1)) if self.flipped else crop


@dataclass(frozen=True, slots=True)
class Crops:
    """One crop per frame, as a tracker needs them.

    Attributes:
        pixels: [B, C, S, S] of the style's dtype; C = 6 with auxiliary pictures.
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
    def place(self, box_xywh: Box, factor: float, size: int, size_hw: tuple[int, int]) -> CropRegion:
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
        return jitter_box(box_xywh, normal, uniform, spread, reach, self.geometric_jitter, region.scale_bias)

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
        self, picture: Image | Levels, region: CropRegion, size: int, changes: PictureChanges = UNCHANGED
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
        shown = self.resample(inside, region, size, np.zeros(1, dtype=np.uint8))
        return np.asarray(shown.reshape(size, size) < 254.5)  # OpenCV drops a single channel

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
        self, frame: Frame, region: CropRegion, out: Pixels, plan: CropPlan | None = None, border: Colours | None = None
    ) -> None:
        """Write the crops of both pictures of a frame into `out` [C, S, S], C = 3 or 6.

        Args:
            frame: RGB alone or with an auxiliary picture.
            region: See `crop`.
            out: Output, of `dtype`.
            plan: Changes of the crop; None for none.
            border: See `border`.

        Raises:
            ValueError: The pictures of the frame do not fit.
        """
        plan = plan or CropPlan(frame, "search")
        for i, picture in enumerate(pictures_of(frame, len(out) // 3)):
            if i and plan.alike and picture is frame.rgb and plan.edits[i] is plan.edits[0]:
                out[3:] = out[:3]
                continue
            colour = None if border is None else border[3 * i : 3 * i + 3]
            changes = PictureChanges(plan.mirrored, plan.edits[i], colour)
            crop = plan.finish(self.crop(picture, region, out.shape[1], changes), i)
            if crop.dtype != out.dtype:
                raise ValueError(f"{type(self).__name__} gave a crop of {crop.dtype}, not of {out.dtype}")
            cv2.split(crop, [out[3 * i], out[3 * i + 1], out[3 * i + 2]])

    def crop_frames(
        self,
        frames: Sequence[Frame],
        boxes_xywh: Tensor,
        factor: float | Sequence[float],
        size: int,
        borders: Tensor | None = None,
        device: torch.device = CPU,
    ) -> Crops:
        """One crop per frame, for tracking.

        Args:
            frames: B frames.
            boxes_xywh: [B, 4] image pixels.
            factor: See `region`; one for all frames, or B.
            size: Side of the crops in pixels.
            borders: [B, C] colours of `borders`, or None.
            device: Of the crops' pixels.

        Raises:
            CropError: As `region`.
            ValueError: RGB and RGB-X frames are mixed.
        """
        geometry, regions = np.empty((len(frames), 8)), []
        factors = factor if isinstance(factor, Sequence) else [factor] * len(frames)
        for i, (frame, box, of_frame) in enumerate(zip(frames, boxes_xywh.tolist(), factors, strict=True)):
            region = self.region(box, of_frame, size, frame.size_hw)
            geometry[i] = *(self.to_crop(box, region, size) / size), *region.centre_xy, *region.sides_wh
            regions.append(region)
        boxes, centres, sides = torch.from_numpy(geometry).split([4, 2, 2], dim=1)
        return Crops(self.crop_pixels(frames, regions, size, borders, device), boxes, centres, sides)

    def crop_pixels(
        self,
        frames: Sequence[Frame],
        regions: Sequence[CropRegion],
        size: int,
        borders: Tensor | None,
        device: torch.device,
    ) -> Tensor:
        """The pixels of `crop_frames`; cut on the CPU unless a style can do it on the device.

        Args:
            frames, size, borders, device: See `crop_frames`.
            regions: Of the crops.
        """
        channels = 6 if frames and frames[0].second is not None else 3
        pixels = np.empty((len(frames), channels, size, size), dtype=self.dtype)
        for i, (frame, region) in enumerate(zip(frames, regions, strict=True)):
            self.crop_frame(frame, region, pixels[i], border=None if borders is None else borders[i].numpy())
        return to_device(torch.from_numpy(pixels), device)

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


CROP_STYLES: Registry[Callable[..., CropStyle]] = Registry("crop style")
"""`DATA.CROP_STYLE` -> class, whose arguments are further keys of the node."""


def pictures_of(frame: Frame, count: int) -> list[Image | Levels]:
    """The pictures of a frame that is cropped.

    Args:
        frame: The frame.
        count: Number of pictures that every frame of the batch has.

    Raises:
        ValueError: It has another number of pictures, or they differ in size.
    """
    pictures: list[Image | Levels] = [frame.rgb] if frame.second is None else [frame.rgb, frame.second]
    if len(pictures) != count:
        raise ValueError("frames with and without an auxiliary picture are mixed in one batch")
    for picture in pictures:
        if picture.shape != (*frame.size_hw, 3):
            raise ValueError(f"expected pictures of shape {(*frame.size_hw, 3)} in a frame, found {picture.shape}")
    return pictures
