"""OSTrack at test time: template fixed on the first frame, no update, no thresholds."""

from __future__ import annotations

from torch import Tensor

from lib.methods.ostrack.network import OSTrack
from lib.track import CropSettings, OneStreamTracker, TemplateRegion


class OSTrackTracker(OneStreamTracker):
    """Tracking by OSTrack or a network built on it (OSTrack, sec. 3).

    The template's tokens and, for elimination by the target's box (GT_BOX), its mask are computed once. A network of
    two streams reads frames of two pictures. The confidence is the windowed maximum.
    """

    network: OSTrack

    def __init__(self, network: OSTrack, settings: CropSettings) -> None:
        super().__init__(network, settings, network.backbone.grid_search)
        self.reads_aux = network.streams > 1

    def encode_template(self, region: TemplateRegion) -> tuple[Tensor, Tensor | None]:
        mask = self.network.template_mask(region.boxes_xywh)
        tokens, _ = super().encode_template(region)
        return tokens, None if mask is None else mask.to(self.device)
