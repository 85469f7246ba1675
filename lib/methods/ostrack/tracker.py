"""OSTrack at test time: template fixed on the first frame, no update, no thresholds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data import xywh_to_xyxy
from lib.methods.ostrack.config import OSTrackConfig
from lib.methods.ostrack.network import OSTrack
from lib.models.heads import FEATURE
from lib.track import (
    CropSettings,
    OneStreamState,
    OneStreamTracker,
    Policy,
    Prediction,
    SearchRegion,
    TemplateRegion,
    TrackerOutput,
    paste_mask,
    with_regions,
)


class OSTrackTracker(OneStreamTracker):
    """Tracking by OSTrack or a network built on it (OSTrack, sec. 3).

    The template's tokens and, for elimination by the target's box (GT_BOX), its mask are computed once. A network of
    two streams reads frames of two pictures. The confidence is the windowed maximum. A network with a mask head draws
    masks where polygons or masks are requested; boxes are the same with and without.

    Args:
        network: Loaded.
        settings: Of the crops.
        mask_threshold: Probability from which a pixel belongs to the target.
    """

    network: OSTrack

    def __init__(self, network: OSTrack, settings: CropSettings, mask_threshold: float = 0.5) -> None:
        super().__init__(network, settings, network.backbone.grid_search)
        self.reads_aux = self.needs_aux = network.streams > 1
        # A mask head reads normalised pixels also where normalisation has become part of the network.
        self.mask_pixels, self.mask_threshold = self.normalise, mask_threshold
        if network.mask_head is not None:
            self.gives_regions = frozenset({"polygon", "mask"})

    @classmethod
    def from_config(cls, config: OSTrackConfig, network: OSTrack) -> OSTrackTracker:
        """The tracker of an experiment."""
        return cls(network, CropSettings.from_config(config), config.mask.threshold if config.mask else 0.5)

    def encode_template(self, region: TemplateRegion) -> tuple[Tensor, Tensor | None]:
        mask = self.network.template_mask(region.boxes_xywh)
        tokens, _ = super().encode_template(region)
        return tokens, None if mask is None else mask.to(self.device)

    def postprocess(
        self, state: OneStreamState, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[OneStreamState, Prediction]:
        after, prediction = super().postprocess(state, region, output, policy)
        if not self.regions:
            return after, prediction
        masks = self.masks(state, region, output.candidates.maps[FEATURE], prediction.boxes_xywh)
        return after, with_regions(prediction, masks, self.regions)

    def masks(
        self, state: OneStreamState, region: SearchRegion, features: Tensor, boxes_xywh: Tensor
    ) -> list[NDArray[np.bool_]]:
        """Masks of targets in whole frames.

        Args:
            state: Of B targets, before this frame.
            region: Their search regions.
            features: [B, C, g, g], of which boxes were made.
            boxes_xywh: [B, 4] the tracked boxes in image pixels.

        Returns:
            [H, W] each.
        """
        assert self.network.mask_head is not None
        local = xywh_to_xyxy(region.to_crop(boxes_xywh)).to(self.device, torch.float32)
        logits = self.network.mask_head(features, local, self.mask_pixels(region.crops))
        side, masks = self.settings.search_size, []
        factors = self.row_values("search_factor", state)
        boxes, sizes = state.boxes_xywh.tolist(), region.sizes_hw
        drawn = logits.float().sigmoid().cpu().numpy()
        for probability, box, size, factor in zip(drawn, boxes, sizes, factors, strict=True):
            height, width = (int(n) for n in size.tolist())
            # The rectangle that was cut, whose corner a style may have rounded.
            cut = self.crop_style.region(box, factor, side, (height, width))
            place = cut.left, cut.top, cut.width, cut.height
            masks.append(paste_mask(probability, place, (height, width)) > self.mask_threshold)
        return masks
