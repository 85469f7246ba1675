"""Samples of masked appearance transfer: a stretched template, a search region, and the template that lies in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lib.config import Data
from lib.data import CROP_STYLES, Draws, FrameSet, Processing, Sample, mirror_box_in_crop, plan_crop


class TransferProcessing(Processing):
    """Adds a second template to every sample: the target as it looks in the search region (MAT, CVPR 2023, sec. 3.1).

    It is cut from the finished search region, whose changes of colours it has therefore; a mirrored search region is
    mirrored after it was cut. Templates are stretched to squares.
    """

    def __init__(self, data: Data, training: bool = True) -> None:
        super().__init__(data, training)
        self.styles["template"] = CROP_STYLES["affine_stretched"]()

    def apply(self, frames: FrameSet, draws: Draws) -> Sample:
        sample = super().apply(frames, draws)
        plan = plan_crop(frames.search[0], "search", self.augmentations, draws.changes, draws.search[0].changes)
        template, unit = self.data.template, self.data.search.size - (self.data.box_unit != "size")
        search, box = sample.search[0].transpose(1, 2, 0), sample.search_boxes[0]
        if plan.flipped:
            search, box = search[:, ::-1], mirror_box_in_crop(box)
        style, box = self.styles["template"], box.astype(np.float64) * unit
        region = style.region(box.tolist(), template.factor, template.size, search.shape[:2])
        crop = style.crop(np.ascontiguousarray(search), region, template.size)
        crop = (crop[:, ::-1] if plan.flipped else crop).transpose(2, 0, 1)
        both, boxes = np.stack([sample.template[0], crop]), sample.template_boxes.repeat(2, axis=0)
        colours = np.concatenate([sample.template_colour, sample.search_colour])
        return replace(sample, template=both, template_boxes=boxes, template_colour=colours)
