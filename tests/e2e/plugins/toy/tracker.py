"""One template, one search region, a Hann window: all of it is in the shared base."""

from __future__ import annotations

from torch import Tensor

from lib.track import OneStreamState, OneStreamTracker, SearchRegion, TemplateRegion, TrackerOutput


class ToyTracker(OneStreamTracker):
    def encode_template(self, region: TemplateRegion) -> tuple[Tensor, Tensor | None]:
        return self.network.encode_template(self.normalise(region.crops)), None

    def forward(self, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None) -> TrackerOutput:
        template, _ = state.template_of(rows)
        candidates = self.network.locate(template, self.normalise(region.crops))
        return self.output(candidates, state, region, rows)
