"""TransT at test time (Chen et al., CVPR 2021, sec. 3.4): a window, and nothing else after the network."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lib.data import clip_centres
from lib.methods.transt.network import TransT
from lib.models.heads import Candidates
from lib.track import CropSettings, OneStreamState, OneStreamTracker, SearchRegion, hanning2d, mix_window


class TransTTracker(OneStreamTracker):
    """The template's tokens are computed once, up to its first cross-attention with the search region.

    The windowed score is ``(1 - influence) * score + influence * window``. The confidence is the chosen cell's score,
    without the window. `margin` is the smallest side of a box in pixels.
    """

    network: TransT
    windowed_confidence = False
    row_keys = ("search_factor", "window_influence")

    def __init__(self, network: TransT, settings: CropSettings, influence: float = 0.49) -> None:
        super().__init__(network, settings, network.grid_search)
        self.values["window_influence"] = influence
        self.window = hanning2d(network.grid_search).flatten().to(self.device)

    def procedure(self) -> dict[str, Any]:
        """Crops, and the window by which the cell is chosen."""
        influence = self.values["window_influence"]
        window = {"type": "hanning with zeros", "influence": influence, "smallest_side": self.margin}
        return {**super().procedure(), "window": window}

    def apply_window(
        self, candidates: Candidates, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None
    ) -> Tensor:
        return mix_window(candidates.scores, self.window, self.setting("window_influence", state, rows))

    def clip_box(self, boxes_xywh: Tensor, sizes_hw: Tensor) -> Tensor:
        return clip_centres(boxes_xywh, sizes_hw, self.margin)
