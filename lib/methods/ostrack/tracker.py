"""OSTrack at test time: template fixed on the first frame, no update, no thresholds."""

from __future__ import annotations

from torch import Tensor

from lib.methods.ostrack.network import OSTrack
from lib.track import CropSettings, OneStreamState, OneStreamTracker, SearchRegion, TemplateRegion, TrackerOutput


class OSTrackTracker(OneStreamTracker):
    """The template's tokens and, for GT_BOX elimination, its mask are computed once."""

    network: OSTrack

    def __init__(self, network: OSTrack, settings: CropSettings) -> None:
        super().__init__(network, settings, network.backbone.grid_search)

    def encode_template(self, region: TemplateRegion) -> tuple[Tensor, Tensor | None]:
        mask = self.network.template_mask(region.boxes_xywh)
        tokens = self.network.encode_template(self.normalise(region.crops))
        return tokens, None if mask is None else mask.to(self.device)

    def forward(self, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None) -> TrackerOutput:
        template, mask = state.template_of(rows)
        found = self.network.locate(template, self.normalise(region.crops), mask)
        return self.output(found.candidates, state, region, rows)
