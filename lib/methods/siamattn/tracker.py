"""SiamAttn at test time (CVPR 2020, sec. 3.4): the chosen anchor is refined; a mask on request."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data import Mask, PySOTStyle
from lib.methods.siamattn.config import SiamAttnTest
from lib.methods.siamattn.network import HAS_MASKS, TRUE_MASKS, Regions, SiamAttn
from lib.methods.siamrpnpp.tracker import SiamRPNTracker, SizedRegion
from lib.models.heads import MASK_SIDE, Candidates, changed_boxes
from lib.track import OneStreamState, Policy, Prediction, SearchRegion, TrackerOutput

SMALLEST = 10.0
"""Least side of a box to refine, in pixels of the search region."""
LEAST_AREA = 100.0
"""Image pixels that a contour has to enclose to become a polygon."""


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
    whole_sides = True

    def explorer(self) -> SiamAttnTracker:
        twin = copy.copy(self)
        twin.whole_sides = False
        return twin

    def procedure(self) -> dict[str, Any]:
        """As of `SiamRPNTracker`, and how masks are made of logits."""
        chosen = {"mask_threshold": self.test.mask_threshold, "mask_centred": self.test.mask_centred}
        return {**super().procedure(), **chosen, "smallest_refined_side": SMALLEST}

    def forward(self, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None) -> TrackerOutput:
        """Features of masks are computed where they are requested, or learned from; true masks join the maps."""
        template, _ = state.template_of(rows)
        masks = bool(self.regions) or torch.is_grad_enabled()
        locate = self.network.locate_with_masks if masks else self.network.locate
        found = locate(template, self.normalise(region.crops))
        if isinstance(region, MaskedRegion):
            found = replace(found, maps={**found.maps, TRUE_MASKS: region.masks, HAS_MASKS: region.has_masks})
        return self.output(found, state, region, rows)

    def with_masks(self, region: SearchRegion, masks: Sequence[Mask | None]) -> SearchRegion:
        style, side = self.crop_style, self.settings.search_size
        if not isinstance(style, PySOTStyle):
            raise ValueError("masks of SiamAttn's roll-outs need DATA.CROP_STYLE: pysot or pysot_511")
        assert isinstance(region, SizedRegion)
        cropped = torch.zeros(len(masks), side, side, dtype=torch.bool)
        places = zip(region.centres.tolist(), region.sides[:, 0].tolist(), masks, cropped, strict=True)
        for (x, y), exact, mask, out in places:
            if mask is not None:
                out.copy_(torch.from_numpy(style.crop_mask(mask, style.around((x, y), exact), side)))
        known = torch.tensor([mask is not None for mask in masks])
        own = {f.name: getattr(region, f.name) for f in fields(region)}
        return MaskedRegion(**own, masks=cropped.to(self.device), has_masks=known.to(self.device))

    def refined(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        side = self.settings.search_size
        pixels = boxes * side
        centres, sizes = pixels[:, :2].clamp(0, side), pixels[:, 2:].clamp(SMALLEST, side)
        rois = torch.cat([centres - sizes / 2 + 0.5, centres + sizes / 2 - 0.5], dim=1)
        regions = Regions(torch.arange(len(boxes), device=boxes.device), rois)
        return changed_boxes(torch.cat([centres, sizes], dim=1), self.network.refine(candidates, regions)) / side

    def select_anchor(
        self, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        local, scores, share = super().select_anchor(region, output, policy)
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
        masks = self.masks(prediction.boxes_xywh, region, output.candidates)
        polygons = None
        if "polygon" in self.regions:
            pairs = zip(masks, prediction.boxes_xywh.numpy(), strict=True)
            polygons = torch.from_numpy(np.stack([polygon_of(mask, box) for mask, box in pairs]))
        kept = masks if "mask" in self.regions else None
        return state, replace(prediction, polygons=polygons, masks=kept)

    def masks(self, boxes_xywh: Tensor, region: SearchRegion, candidates: Candidates) -> list[NDArray[np.bool_]]:
        """Masks of targets in whole frames.

        Args:
            boxes_xywh: [B, 4] boxes in image pixels, in which the masks are drawn.
            region: Of B search regions.
            candidates: Of them, with features of masks.

        Returns:
            [H, W] each.
        """
        side, whole = self.settings.search_size, region.sides.round()
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
        return [
            pasted(probability, place, size) > self.test.mask_threshold
            for probability, place, size in zip(drawn, places.tolist(), sizes, strict=True)
        ]


def pasted(
    probability: NDArray[np.float32], place_xywh: Sequence[float], size_hw: Sequence[int]
) -> NDArray[np.float32]:
    """A mask over a box as a mask of the image.

    Args:
        probability: [64, 64] over the box.
        place_xywh: The box in image pixels.
        size_hw: Height and width of the image.

    Returns:
        [H, W], 0 beyond the box.
    """
    (x, y, w, h), (height, width) = place_xywh, size_hw
    across, down = (width - 1) / width * w / MASK_SIDE, (height - 1) / height * h / MASK_SIDE
    matrix = np.array([[across, 0, across * x * MASK_SIDE / w], [0, down, down * y * MASK_SIDE / h]])
    border: dict[str, Any] = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": 0}
    return np.asarray(cv2.warpAffine(probability, matrix, (width, height), flags=cv2.INTER_LINEAR, **border))


def polygon_of(mask: NDArray[np.bool_], box_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rectangle around the largest part of a mask.

    Args:
        mask: [H, W].
        box_xywh: [4] in image pixels; stands in for a mask without a large part.

    Returns:
        [4, 2] corners x, y in image pixels.
    """
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    largest = max(contours, key=cv2.contourArea, default=None)
    if largest is None or len(largest) < 3 or cv2.contourArea(largest) <= LEAST_AREA:
        x, y, w, h = box_xywh
        return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    return np.asarray(cv2.boxPoints(cv2.minAreaRect(largest)), dtype=np.float64)
