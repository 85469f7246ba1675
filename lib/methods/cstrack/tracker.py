"""CSTrack at test time: a second template that is renewed, and in stage 2 a memory of the target's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lib.data import Frame, doubled, soft_masks_of_targets
from lib.methods.cstrack.config import TemplateUpdate
from lib.methods.cstrack.network import CSTrack, Found
from lib.models.heads import BoxMaps
from lib.track import (
    CropSettings,
    OneStreamState,
    OneStreamTemplate,
    OneStreamTracker,
    Policy,
    Prediction,
    SearchRegion,
    TrackerOutput,
    greedy,
)


@dataclass
class CSTrackState(OneStreamState):
    """template: [B, 2, 2 * Nz, C] typed tokens of both modalities: those of the first template, then the second's.

    foreground_mask: [B, Nz], share of each cell of the first template that the target covers. steps: [B] int64 on the
    CPU, frames since the first.
    memory: [B, T, K, C], zeros before the second frame; None in stage 1.
    """

    foreground_mask: Tensor | None = None
    steps: Tensor | None = None
    memory: Tensor | None = None


@dataclass
class CSTrackRegion(SearchRegion):
    """steps, memory: as in `CSTrackState`; what a network of stage 2 makes of a frame depends on them."""

    steps: Tensor | None = None
    memory: Tensor | None = None


class CSTrackTracker(OneStreamTracker):
    """The confidence is the windowed maximum. Rows are at frames of their own, and update at times of their own.

    Roll-outs of sequence-level training keep the first template, since they leave `renewed` aside.
    """

    network: CSTrack
    reads_aux = True

    def __init__(self, network: CSTrack, settings: CropSettings, update: TemplateUpdate) -> None:
        super().__init__(network, settings, network.backbone.grid_search)
        self.update, self.cell = update, network.backbone.stride

    def _seen(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """A frame without second picture shows its first one twice, as in training."""
        return [doubled(frame) for frame in frames]

    def procedure(self) -> dict[str, Any]:
        """Crops, and when the second template is renewed."""
        return {**super().procedure(), "update": asdict(self.update)}

    def encode_template(self, crops: Tensor, boxes_xywh: Tensor) -> tuple[Tensor, Tensor]:
        """Typed tokens of two equal templates, and the target's foreground mask in their cells."""
        foreground_mask = self._foreground_mask(boxes_xywh)
        return self.network.encode_template(crops, foreground_mask), foreground_mask

    def _foreground_mask(self, boxes_xywh: Tensor) -> Tensor:
        size = self.settings.template_size
        pixels = boxes_xywh[:, 2:] * size
        return soft_masks_of_targets(pixels, pixels.new_ones(len(pixels)), size, self.cell).to(self.device)

    def init_state(self, target: OneStreamTemplate, boxes_xywh: Tensor) -> CSTrackState:
        tokens, foreground_mask = self.encode_template(self.normalise(target.crops), target.boxes_xywh)
        size, count = self.network.memory, len(boxes_xywh)
        memory = None if size is None else tokens.new_zeros(count, size.length, size.tokens, tokens.shape[-1])
        steps = torch.zeros(count, dtype=torch.int64)
        return CSTrackState(boxes_xywh, tokens, None, target.padding, foreground_mask, steps, memory)

    def crop_search(self, state: OneStreamState, frames: Sequence[Frame]) -> CSTrackRegion:
        assert isinstance(state, CSTrackState)
        view = super().crop_search(state, frames)
        return CSTrackRegion(view.crops, view.centres, view.sides, view.sizes_hw, state.steps, state.memory)

    def forward(self, state: OneStreamState, view: SearchRegion) -> TrackerOutput:
        assert isinstance(view, CSTrackRegion)
        found = self._find(state.template, self.normalise(view.crops), view.steps, view.memory)
        return self.output_of(found.maps, found.memory)

    def _find(self, template: Tensor, crops: Tensor, steps: Tensor | None, memory: Tensor | None) -> Found:
        if memory is None or steps is None:
            return self.network.locate(template, crops)
        first = steps == 0
        return self.network.locate(template, crops, memory, first.to(self.device) if bool(first.any()) else None)

    def locate(self, state: OneStreamState, crops: Tensor) -> BoxMaps:
        assert isinstance(state, CSTrackState)
        return self._find(state.template, crops, state.steps, state.memory).maps

    def postprocess(
        self, state: OneStreamState, view: SearchRegion, output: TrackerOutput, policy: Policy = greedy
    ) -> tuple[CSTrackState, Prediction]:
        assert isinstance(state, CSTrackState)
        assert state.steps is not None
        after, prediction = super().postprocess(state, view, output, policy)
        assert isinstance(after, CSTrackState)
        return replace(after, steps=state.steps + 1, memory=output.memory), prediction

    def step(
        self, state: OneStreamState, frames: Sequence[Frame], policy: Policy = greedy
    ) -> tuple[CSTrackState, Prediction]:
        after, prediction = super().step(state, frames, policy)
        assert isinstance(after, CSTrackState)
        return self.renewed(after, frames, prediction), prediction

    @torch.no_grad()
    def renewed(self, state: CSTrackState, frames: Sequence[Frame], prediction: Prediction) -> CSTrackState:
        """The state with a new second template in the rows that are due, cut where the target was just found."""
        assert state.steps is not None
        assert state.foreground_mask is not None
        if not self.update.interval:
            return state
        due = (state.steps % self.update.interval == 0) & (prediction.scores > self.update.threshold)
        rows = due.nonzero().squeeze(1).tolist()
        if not rows:
            return state
        target = self.crop_template([frames[i] for i in rows], state.boxes_xywh[rows])
        template, crops = state.template.clone(), self.normalise(target.crops)
        masks = state.foreground_mask[rows], self._foreground_mask(target.boxes_xywh)
        template[rows] = self.network.update_template(template[rows], masks[0], crops, masks[1])
        return replace(state, template=template)
