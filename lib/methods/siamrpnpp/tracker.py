"""SiamRPN++ at test time (SiamRPN, CVPR 2018, sec. 4.2): penalties on changes of size, a window, smoothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lib.data import clip_centres
from lib.device import to_device
from lib.methods.siamrpnpp.config import SiamRPNTest
from lib.methods.siamrpnpp.network import SiamRPN
from lib.models.heads import Candidates
from lib.track import (
    CropSettings,
    Frames,
    OneStreamState,
    OneStreamTracker,
    Policy,
    Prediction,
    SearchRegion,
    TrackerOutput,
    hanning2d,
    mix_window,
)

SETTINGS = ("penalty_k", "window_influence", "size_lr")
"""Keys of TEST that choose and smooth boxes."""


@dataclass
class SizedRegion(SearchRegion):
    """A search region, and the size of the target that the penalty compares with.

    Attributes:
        target_wh: [B, 2] of the last box in units of the crop's side, on the tracker's device.
    """

    target_wh: Tensor


class SiamRPNTracker(OneStreamTracker):
    """The kernels of the template are computed once and are rows of the state (`OneStreamState.template`).

    A box keeps its centre in the picture and at least `margin` pixels of width and height. The confidence is the chosen
    anchor's score, without the window.

    Attributes:
        test: Penalty, window and smoothing.
        penalised_confidence: The penalty is part of the confidence.
    """

    network: SiamRPN
    windowed_confidence = False
    penalised_confidence = False
    row_keys: tuple[str, ...] = ("search_factor", *SETTINGS)

    def __init__(self, network: SiamRPN, settings: CropSettings, test: SiamRPNTest) -> None:
        super().__init__(network, settings, network.grid)
        self.cell = network.backbone.stride / settings.search_size
        self.test = test
        self.values |= {key: getattr(test, key) for key in SETTINGS}
        shapes = len(network.anchors) // network.grid**2
        self.window = hanning2d(network.grid).flatten().repeat(shapes).to(self.device)

    def procedure(self) -> dict[str, Any]:
        """Crops, window, penalty and smoothing, by which boxes are chosen and followed."""
        chosen = {key: getattr(self.test, key) for key in SETTINGS}
        return {**super().procedure(), **chosen, "smallest_side": self.margin}

    def crop_search(self, state: OneStreamState, frames: Frames) -> SizedRegion:
        region = super().crop_search(state, frames)
        sizes = to_device(state.boxes_xywh[:, 2:] / region.sides, self.device)
        return SizedRegion(**vars(region), target_wh=sizes)

    def penalties(self, boxes: Tensor, region: SizedRegion, penalty_k: float | Tensor | None = None) -> Tensor:
        """Factors in 0..1 for changes of size and of shape against the last box.

        Args:
            boxes: [M, N, 4] cx, cy, w, h in units of the crop's side.
            region: Of M search regions.
            penalty_k: Their strength, [M, 1] where rows differ; None: that of TEST.

        Returns:
            [M, N], without gradients.
        """
        sizes = torch.cat([boxes.detach()[..., 2:], region.target_wh.to(boxes)[:, None]], dim=1)
        padded = torch.add(sizes, sizes.sum(dim=-1, keepdim=True), alpha=0.5)  # half the mean side around them
        measures = torch.stack([padded.prod(dim=-1).sqrt(), sizes[..., 0] / sizes[..., 1]])
        ratios = measures[..., :-1] / measures[..., -1:]
        changes = torch.maximum(ratios, ratios.reciprocal()).prod(dim=0)
        strength = self.values["penalty_k"] if penalty_k is None else penalty_k
        return torch.exp((1 - changes) * (strength.to(sizes) if isinstance(strength, Tensor) else strength))

    def output(
        self, candidates: Candidates, state: OneStreamState, region: SizedRegion, rows: Tensor | None = None
    ) -> TrackerOutput:
        """As `OneStreamTracker.output`, with the map ``penalties`` [M, N]."""
        penalty_k = self.setting("penalty_k", state, rows)
        penalties = self.penalties(candidates.boxes, region, penalty_k)
        return super().output(candidates.with_maps(penalties=penalties), state, region, rows)

    def apply_window(
        self, candidates: Candidates, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None
    ) -> Tensor:
        influence = self.setting("window_influence", state, rows)
        return mix_window(candidates.scores * candidates.maps["penalties"], self.window, influence)

    def postprocess(
        self, state: OneStreamState, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[OneStreamState, Prediction]:
        """The chosen anchor's centre, and a size between its own and the last one."""
        local, scores, share = self.select_anchor(state, region, output, policy)
        boxes = self.crop_style.to_image(local, region.centres, region.sides)
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        sizes = state.boxes_xywh[:, 2:] * (1 - share) + boxes[:, 2:] * share
        sizes = self.damp_sizes(state.boxes_xywh[:, 2:], sizes, scores)
        boxes = clip_centres(torch.cat([centres - sizes / 2, sizes], dim=1), region.sizes_hw, self.margin)
        return replace(state, boxes_xywh=boxes), Prediction(boxes, scores, output.windowed_scores)

    def select_anchor(
        self, state: OneStreamState, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The chosen anchors.

        Args:
            state, region, output, policy: See `postprocess`.

        Returns:
            Boxes [B, 4] cx, cy, w, h in units of the crop's side (float64), confidences [B] (float32) and the shares
            [B, 1] of the new sizes (float64), on the CPU.
        """
        candidates, index = output.candidates, output.choose(policy)
        box, score = candidates.boxes_at(index), candidates.scores.gather(1, index[:, None])
        penalty = candidates.maps["penalties"].gather(1, index[:, None])
        packed = torch.cat([self.refined(candidates, box), score, penalty], dim=1).cpu().double()
        size_lr = torch.tensor(self.row_values("size_lr", state), dtype=torch.float64)[:, None]
        share = packed[:, 4:5] * packed[:, 5:] * size_lr
        confidences = packed[:, 4] * packed[:, 5] if self.penalised_confidence else packed[:, 4]
        return packed[:, :4], confidences.float(), share

    def refined(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        """The chosen anchors' boxes as a later head of the network has them.

        Args:
            candidates: Of B search regions.
            boxes: [B, 4] cx, cy, w, h in units of the crop's side.
        """
        return boxes
