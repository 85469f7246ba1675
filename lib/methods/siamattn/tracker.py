"""SiamAttn at test time (CVPR 2020, sec. 3.4): the chosen anchor is refined; a mask on request."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data import Mask, PySOTStyle
from lib.device import to_device
from lib.methods.siamattn.config import SiamAttnTest
from lib.methods.siamattn.network import BOX_FEATURES, HAS_MASKS, TRUE_MASKS, Regions, SiamAttn
from lib.methods.siamrpnpp.tracker import SiamRPNTracker, SizedRegion
from lib.models.heads import Candidates, changed_boxes
from lib.track import (
    CropSettings,
    OneStreamState,
    Policy,
    Prediction,
    SearchRegion,
    TrackerOutput,
    paste_mask,
    with_regions,
)

SMALLEST = 10.0
"""Least side of a box to refine, in pixels of the search region."""


@dataclass
class MaskedRegion(SizedRegion):
    """A search region with the target's mask.

    Attributes:
        masks: [B, S, S] bool, on the tracker's device.
        has_masks: [B] bool, the mask is known.
    """

    masks: Tensor
    has_masks: Tensor


class SiamAttnTracker(SiamRPNTracker):
    """As `SiamRPNTracker`; the chosen anchor's box is refined before it is smoothed.

    Masks are drawn in the smoothed box, only where polygons or masks are requested. A polygon is the smallest rectangle
    of any direction around the largest part of the mask, or the box where there is no part of more than 100 pixels.

    Attributes:
        whole_sides: Refined boxes are placed in crops whose sides are rounded to whole pixels, as published; an
            exploring tracker places them between pixels.
    """

    network: SiamAttn
    test: SiamAttnTest
    gives_regions = frozenset({"polygon", "mask"})
    frame_calls = ("locate", "refine")
    whole_sides = True
    row_keys = (*SiamRPNTracker.row_keys, "mask_threshold")

    def __init__(self, network: SiamAttn, settings: CropSettings, test: SiamAttnTest) -> None:
        super().__init__(network, settings, test)
        self.values["mask_threshold"] = test.mask_threshold
        self.penalised_confidence = test.penalised_confidence

    def explorer(self) -> SiamAttnTracker:
        twin = copy.copy(self)
        twin.whole_sides = False
        return twin

    def procedure(self) -> dict[str, Any]:
        """As `SiamRPNTracker.procedure`, and how masks are made of logits."""
        chosen = {"mask_threshold": self.test.mask_threshold, "mask_centred": self.test.mask_centred}
        chosen["penalised_confidence"] = self.penalised_confidence
        return {**super().procedure(), **chosen, "smallest_refined_side": SMALLEST}

    def forward(self, state: OneStreamState, region: SizedRegion, rows: Tensor | None = None) -> TrackerOutput:
        """Features of masks are computed where they are requested, or learned from; true masks join the maps."""
        masks = bool(self.regions) or torch.is_grad_enabled()
        candidates = self.network.locate(state.template_of(rows), self.normalise(region.crops), masks).candidates
        if isinstance(region, MaskedRegion):
            candidates = candidates.with_maps(**{TRUE_MASKS: region.masks, HAS_MASKS: region.has_masks})
        return self.output(candidates, state, region, rows)

    def with_masks(self, region: SizedRegion, masks: Sequence[Mask | None]) -> MaskedRegion:
        style, side = self.crop_style, self.settings.search_size
        if not isinstance(style, PySOTStyle):
            raise ValueError("masks of SiamAttn's roll-outs need DATA.CROP_STYLE: pysot or pysot_511")
        cropped = torch.zeros(len(masks), side, side, dtype=torch.bool)
        places = zip(region.centres.tolist(), region.sides[:, 0].tolist(), masks, cropped, strict=True)
        for (x, y), exact, mask, out in places:
            if mask is not None:
                out.copy_(torch.from_numpy(style.crop_mask(mask, style.around((x, y), exact), side)))
        known = torch.tensor([mask is not None for mask in masks])
        cropped, known = to_device(cropped, self.device), to_device(known, self.device)
        return MaskedRegion(**vars(region), masks=cropped, has_masks=known)

    def refined(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        side = self.settings.search_size
        pixels = boxes * side
        centres, sizes = pixels[:, :2].clamp(0, side), pixels[:, 2:].clamp(SMALLEST, side)
        rois = torch.cat([centres - sizes / 2 + 0.5, centres + sizes / 2 - 0.5], dim=1)
        changes = self.network.refine(candidates.maps[BOX_FEATURES], rois)
        return changed_boxes(torch.cat([centres, sizes], dim=1), changes) / side

    def select_anchor(
        self, state: OneStreamState, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        local, scores, share = super().select_anchor(state, region, output, policy)
        if self.whole_sides:
            moved = (region.sides - region.sides.round()) / 2 / region.sides
            local = torch.cat([local[:, :2] + moved, local[:, 2:]], dim=1)
        return local, scores, share

    def postprocess(
        self, state: OneStreamState, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[OneStreamState, Prediction]:
        state, prediction = super().postprocess(state, region, output, policy)
        if not self.regions:
            return state, prediction
        return state, with_regions(prediction, self.masks(state, region, output.candidates), self.regions)

    def masks(self, state: OneStreamState, region: SearchRegion, candidates: Candidates) -> list[NDArray[np.bool_]]:
        """Masks of targets in whole frames.

        Args:
            state: Of B targets, with the boxes in which the masks are drawn.
            region: Of B search regions.
            candidates: Of them, with features of masks.

        Returns:
            [H, W] each.
        """
        side, whole, boxes_xywh = self.settings.search_size, region.sides.round(), state.boxes_xywh
        corner, per = region.centres - whole / 2, side / region.sides
        low = (boxes_xywh[:, :2] - corner) * per
        rois = torch.cat([low, low + boxes_xywh[:, 2:] * per], dim=1)
        rows = torch.arange(len(rois), device=self.device)
        logits = self.network.draw(candidates, Regions(rows, rois.to(self.device, torch.float32))).float()
        if self.test.mask_centred:
            logits = logits - logits.mean(dim=(1, 2), keepdim=True)
        drawn = logits.sigmoid().cpu().numpy()
        back = whole / side
        places = torch.cat([corner + low * back, boxes_xywh[:, 2:] * per * back], dim=1)
        sizes = cast("list[tuple[int, int]]", region.sizes_hw.long().tolist())
        thresholds = self.row_values("mask_threshold", state)
        return [
            paste_mask(probability, place, size, published=True) > threshold
            for probability, place, size, threshold in zip(drawn, places.tolist(), sizes, thresholds, strict=True)
        ]
