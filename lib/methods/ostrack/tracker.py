"""OSTrack at test time: template fixed on the first frame, no update, no thresholds."""

from __future__ import annotations

from torch import Tensor

from lib.methods.ostrack.network import OSTrack
from lib.models.heads import BoxMaps
from lib.track import CropSettings, OneStreamState, OneStreamTracker


class OSTrackTracker(OneStreamTracker):
    """The template's tokens and, for GT_BOX elimination, its mask are computed once."""

    network: OSTrack

    def __init__(self, network: OSTrack, settings: CropSettings) -> None:
        super().__init__(network, settings, network.backbone.grid_search)

    def encode_template(self, crops: Tensor, boxes_xywh: Tensor) -> tuple[Tensor, Tensor | None]:
        mask = self.network.template_mask(boxes_xywh)
        return self.network.encode_template(crops), None if mask is None else mask.to(self.device)

    def locate(self, state: OneStreamState, crops: Tensor) -> BoxMaps:
        return self.network.locate(state.template, crops, state.template_mask).maps
