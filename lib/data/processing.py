"""From full frames and boxes to one training sample: jitter, crop, labels, validity (OSTrack, ECCV 2022).

Pictures stay uint8; brightness travels as a number and is applied when the crops are normalised on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from lib.config import Data, Region
from lib.data.augment import (
    CropDraw,
    Draws,
    Float32s,
    becomes_grey,
    draw_sample,
    grey_picture,
    mirror_box,
    mirror_box_in_crop,
)
from lib.data.crop import CROP_STYLES, CropError, CropRegion, CropStyle, Edit, Pixels
from lib.data.types import Boxes, Frame, FrameSet, Image, InvalidSampleError, Mask, Sample

STRIDE = 16
"""Image pixels per token, at which a crop must still show some of the image."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a crop is taken and what it will show.

    region: in the (mirrored, where the sample is mirrored) image. box_xywh: [4] float32, the target in the finished
    crop, in units of its side. mask: [S, S] padding in the finished crop, or None where validity does not need it.
    """

    region: CropRegion
    box_xywh: Float32s
    mask: Mask | None


@dataclass(frozen=True)
class Processing:
    """Makes samples. The same object serves any number of threads; it holds rules only.

    box_unit: boxes are divided by the crop's `size` (OSTrack) or by `size_minus_one` (CSTrack).
    reject_all_padding: a sample whose crop shows nothing but padding, at pixel or token resolution, is invalid; where
    it is off only crops beyond the image are. crop_style: see `lib.data.crop`; jitter follows it.
    """

    data: Data
    training: bool = True
    style: CropStyle = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "style", CROP_STYLES[self.data.crop_style]())

    def __call__(self, clip: FrameSet, rng: np.random.Generator) -> Sample:
        """Draw the random numbers and apply them. Raises InvalidSampleError."""
        return self.apply(clip, self.draw(rng, len(clip.template), len(clip.search)))

    def draw(self, rng: np.random.Generator, templates: int, searches: int) -> Draws:
        """The random numbers of one sample; see `draw_sample` for their order."""
        return draw_sample(rng, templates, searches, self.data.augment, self.training)

    def apply(self, clip: FrameSet, draws: Draws) -> Sample:
        """The sample for given random numbers. Raises InvalidSampleError."""
        template = self._crops(clip.template, clip.template_boxes, self.data.template, draws.template, draws)
        search = self._crops(clip.search, clip.search_boxes, self.data.search, draws.search, draws)
        return Sample(
            template=template[0],
            search=search[0],
            template_boxes=template[1],
            search_boxes=search[1],
            template_gain=np.array([d.gain for d in draws.template], dtype=np.float32),
            search_gain=np.array([d.gain for d in draws.search], dtype=np.float32),
            modality=clip.modality,
            dataset=clip.dataset,
            sequence=clip.sequence,
            frame_ids=clip.frame_ids,
        )

    def place(
        self, size_hw: tuple[int, int], box_xywh: Boxes, rule: Region, draw: CropDraw, mirrored: bool
    ) -> Placement:
        """Where the crop of one frame goes, before a pixel is touched. Raises InvalidSampleError."""
        target = np.asarray(box_xywh, dtype=np.float32)
        if mirrored:
            target = mirror_box(target, size_hw[1])
        jittered = self.style.jitter(target, draw.normal, draw.uniform, rule)
        try:
            region = self.style.region(jittered.tolist(), rule.factor, rule.size, size_hw)
        except CropError as error:
            raise InvalidSampleError(str(error)) from None
        if not self.style.shows_image(region, size_hw):
            raise InvalidSampleError("the crop lies beside the image")
        unit = rule.size if self.data.box_unit == "size" else rule.size - 1
        placed = self.style.to_crop(target.tolist(), region, rule.size) / unit
        mask = self._valid_mask(region, size_hw, rule.size, draw.flipped) if self.data.reject_all_padding else None
        box = placed.astype(np.float32)
        return Placement(region, mirror_box_in_crop(box) if draw.flipped else box, mask)

    def _valid_mask(self, region: CropRegion, size_hw: tuple[int, int], size: int, flipped: bool) -> Mask:
        mask = self.style.padding_mask(region, size_hw, size)
        if flipped:
            mask = mask[:, ::-1]
        cells = np.arange(size // STRIDE) * size // max(1, size // STRIDE)
        if mask.all() or mask[np.ix_(cells, cells)].all():
            raise InvalidSampleError("the crop shows nothing but padding")
        return mask

    def _crops(
        self, frames: tuple[Frame, ...], boxes: Boxes, rule: Region, crop_draws: tuple[CropDraw, ...], draws: Draws
    ) -> tuple[Image, Float32s]:
        """Crops [N, C, S, S] and boxes [N, 4] of one kind."""
        places = [
            self.place(frame.size_hw, box, rule, draw, draws.mirrored)
            for frame, box, draw in zip(frames, boxes, crop_draws, strict=True)
        ]
        channels = 3 if frames[0].second is None else 6
        crops = np.empty((len(frames), channels, rule.size, rule.size), dtype=self.style.dtype)
        for planes, frame, place, draw in zip(crops, frames, places, crop_draws, strict=True):
            edits = self._edits(frame) if draws.grey else (None, None)
            border = self.style.border(frame, edits) if place.region.leaves(frame.size_hw) else None
            finish = _flip if draw.flipped else None
            self.style.crop_frame(frame, place.region, planes, draws.mirrored, edits, finish, border)
        return crops, np.stack([place.box_xywh for place in places])

    def _edits(self, frame: Frame) -> tuple[Edit | None, Edit | None]:
        rgb, aux = becomes_grey(frame, self.data.augment.grey_rule)
        return grey_picture if rgb else None, grey_picture if aux else None


def _flip(crop: Pixels) -> Pixels:
    return np.asarray(cv2.flip(crop, 1))
