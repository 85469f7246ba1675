"""One template, one search region, a Hann window: all of it is in the shared base."""

from __future__ import annotations

from torch import Tensor

from lib.models.heads import BoxMaps
from lib.track import OneStreamState, OneStreamTracker


class ToyTracker(OneStreamTracker):
    def encode_template(self, crops: Tensor, boxes_xywh: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.network.encode_template(crops), None

    def locate(self, state: OneStreamState, crops: Tensor) -> BoxMaps:
        return self.network.locate(state.template, crops)
