"""From frames and boxes to one training sample: jitter, crop, labels, validity (OSTrack, ECCV 2022).

Pictures stay as they were cropped; their change of colours travels as numbers and is applied on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lib.config import Data, Region
from lib.data.augment import CropDraw, Draws, build_augmentations, mirror_box, mirror_box_in_crop, plan_crop
from lib.data.boxes import Float32s
from lib.data.crop import CROP_STYLES, CropError, CropPlan, CropRegion, PictureChanges, Pixels
from lib.data.types import Boxes, Frame, FrameSet, InvalidSampleError, Mask, Masks, Sample

STRIDE = 16
"""Image pixels per token, at which a crop must still show some of the image (DATA.REJECT_ALL_PADDING)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Content of one crop.

    Attributes:
        plan: The changes of the crop.
        region: In the (mirrored, if the sample is) image.
        box_xywh: [4] float32, the target in the finished crop, in units of its side.
        padding: [S, S] padding in the finished crop, or None if validity does not need it.
    """

    plan: CropPlan
    region: CropRegion
    box_xywh: Float32s
    padding: Mask | None


class Processing:
    """Makes samples of frame sets, as DATA says. Holds no state, so that any number of threads may share it.

    DATA.BOX_UNIT: boxes are divided by the crop's side (`size`, OSTrack) or a pixel less (`size_minus_one`, CSTrack).
    DATA.REJECT_ALL_PADDING: a sample whose crop shows nothing but padding, at pixel or token resolution, is invalid;
    otherwise only crops beyond the image are. DATA.MASKS: `Sample.extras` carries the target's masks.
    """

    def __init__(self, data: Data, training: bool = True) -> None:
        self.data, self.training = data, training
        style = data.crop_style.build(CROP_STYLES).in_training()
        self.styles = {"template": style, "search": style}
        self.augmentations = build_augmentations(data.augment)

    def __call__(self, frames: FrameSet, rng: np.random.Generator) -> Sample:
        """Draw the random numbers of a sample and apply them.

        Args:
            frames: Whole frames and the target's boxes.
            rng: Source of all random numbers.

        Raises:
            InvalidSampleError: See `place`.
        """
        return self.apply(frames, self.draw(rng, len(frames.template), len(frames.search)))

    def draw(self, rng: np.random.Generator, templates: int, searches: int) -> Draws:
        """Draw all random numbers of one sample.

        Order: the transforms drawn per sample; then, for the templates and after them for the search frames, the jitter
        of each frame (two normal numbers, two uniform ones, or what the crop style takes), then the transforms drawn
        per crop of each frame, which validation has not.

        Args:
            rng: Their source.
            templates, searches: Number of crops.
        """
        sample_changes = tuple(a.draw(rng) for a in self.augmentations if not a.per_crop)
        per_crop = [a for a in self.augmentations if a.per_crop and self.training]
        normal, uniform = self.styles["search"].jitter_numbers
        kinds = []
        for count in (templates, searches):
            jitters = [
                (rng.standard_normal(normal).astype(np.float32), rng.random(uniform).astype(np.float32))
                for _ in range(count)
            ]
            kinds.append(tuple(CropDraw(*jitter, tuple(a.draw(rng) for a in per_crop)) for jitter in jitters))
        return Draws(sample_changes, *kinds)

    def apply(self, frames: FrameSet, draws: Draws) -> Sample:
        """Make the sample for given random numbers.

        Args:
            frames: Whole frames and the target's boxes.
            draws: What `draw` gave.

        Raises:
            InvalidSampleError: See `place`.
        """
        d = self.data
        template, in_template = self._crop_all("template", frames.template, frames.template_boxes, d.template, draws)
        search, in_search = self._crop_all("search", frames.search, frames.search_boxes, d.search, draws)
        extras: dict[str, NDArray[np.generic]] = {}
        if d.masks:
            extras["template_masks"] = self._crop_masks(in_template, frames.template_masks, d.template.size)
            extras["search_masks"] = self._crop_masks(in_search, frames.search_masks, d.search.size)
            extras["has_masks"] = np.array(frames.search_masks is not None)
        return Sample(
            template=template,
            search=search,
            template_boxes=np.stack([place.box_xywh for place in in_template]),
            search_boxes=np.stack([place.box_xywh for place in in_search]),
            template_colour=np.stack([place.plan.colour for place in in_template]),
            search_colour=np.stack([place.plan.colour for place in in_search]),
            modality=frames.modality,
            dataset=frames.dataset,
            sequence=frames.sequence,
            frame_ids=frames.frame_ids,
            name=frames.name,
            negative=bool(frames.negative_sequence),
            extras=extras,
        )

    def place(
        self, size_hw: tuple[int, int], box_xywh: Boxes, region: Region, draw: CropDraw, plan: CropPlan
    ) -> Placement:
        """Place the crop of one frame before a pixel is touched.

        Args:
            size_hw: Height and width of the frame.
            box_xywh: [4] the target, image pixels of the frame as it is read.
            region: DATA.TEMPLATE or DATA.SEARCH.
            draw: Random numbers of the crop.
            plan: Changes of the crop.

        Raises:
            InvalidSampleError: The box cannot be cropped, or the crop shows nothing of the image.
        """
        target, style = np.asarray(box_xywh, dtype=np.float32), self.styles[plan.kind]
        if plan.mirrored:
            target = mirror_box(target, size_hw[1])
        try:
            cut = style.training_region(target, draw.normal, draw.uniform, region, size_hw)
        except CropError as error:
            raise InvalidSampleError(str(error)) from None
        if not style.shows_image(cut, size_hw):
            raise InvalidSampleError("the crop lies outside the image")
        unit = region.size if self.data.box_unit == "size" else region.size - 1
        box = (style.to_crop(target.tolist(), cut, region.size) / unit).astype(np.float32)
        padding = None
        if self.data.reject_all_padding:
            padding = style.padding_mask(cut, size_hw, region.size)
            padding = padding[:, ::-1] if plan.flipped else padding
            cells = np.arange(region.size // STRIDE) * region.size // max(1, region.size // STRIDE)
            if padding[np.ix_(cells, cells)].all():
                raise InvalidSampleError("the crop shows nothing but padding")
        if plan.flipped:
            box = mirror_box_in_crop(box, 1 - style.flip_gap / unit)
        return Placement(plan, cut, box, padding)

    def _crop_all(
        self, kind: Literal["template", "search"], frames: tuple[Frame, ...], boxes: Boxes, region: Region, draws: Draws
    ) -> tuple[Pixels, list[Placement]]:
        """The crops [N, C, S, S] of one kind, and what they hold; all are placed before a pixel is touched."""
        places = []
        for frame, box, draw in zip(frames, boxes, getattr(draws, kind), strict=True):
            plan = plan_crop(frame, kind, self.augmentations, draws.changes, draw.changes)
            places.append(self.place(frame.size_hw, box, region, draw, plan))
        channels, style = 3 if frames[0].second is None else 6, self.styles[kind]
        crops = np.empty((len(frames), channels, region.size, region.size), dtype=style.dtype)
        for frame, planes, place in zip(frames, crops, places, strict=True):
            plan, cut = place.plan, place.region
            inner = frame.size_hw[0] - 1, frame.size_hw[1] - 1  # a warp mixes the border into the last pixels
            border = style.border(frame, plan.edits) if cut.leaves(inner) else None
            style.crop_frame(frame, cut, planes, plan, border)
        return crops, places

    def _crop_masks(self, places: list[Placement], masks: Masks | None, size: int) -> NDArray[np.uint8]:
        """[N, S, S] 0..255, the share of each pixel that the target covers, resampled as pictures are; 0 beyond."""
        out = np.zeros((len(places), size, size), dtype=np.uint8)
        for i, mask in enumerate(masks or ()):
            if mask is None:
                continue
            plan = places[i].plan
            picture = mask.astype(np.uint8)[..., None] * np.uint8(255)
            changes = PictureChanges(plan.mirrored, border=np.zeros(1, dtype=np.uint8))
            crop = self.styles[plan.kind].crop(picture, places[i].region, size, changes)
            crop = np.clip(np.rint(crop[..., 0]), 0, 255).astype(np.uint8)
            out[i] = crop[:, ::-1] if plan.flipped else crop
        return out
