"""CSTrack at test time: a second template that is renewed, and in stage 2 a memory of the target's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.data import Frame, doubled, soft_masks_of_targets
from lib.methods.cstrack.config import TemplateUpdate
from lib.methods.cstrack.network import CSTrack, Found
from lib.models.engines import TORCH, EngineError
from lib.models.heads import BoxMaps
from lib.track import (
    PLAIN,
    CropSettings,
    Inference,
    OneStreamState,
    OneStreamTemplate,
    OneStreamTracker,
    Policy,
    Prediction,
    SearchRegion,
    Tracker,
    TrackerOutput,
    greedy,
)


@dataclass
class CSTrackState(OneStreamState):
    """template: [B, 2, 2 * Nz, C] typed tokens of both modalities: those of the first template, then the second's.

    shares: [B, Nz] of the target in the first template's cells. steps: [B] int64 on the CPU, frames since the first.
    memory: [B, T, K, C], zeros before the second frame; None in stage 1.
    """

    shares: Tensor | None = None
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

    def prepare(self, how: Inference = PLAIN) -> bool:
        return super().prepare(how) if how.engine == TORCH else Tracker.prepare(self, how)

    def export(self, folder: Path, how: Inference, file_format: str = "onnx") -> dict[str, Any]:
        raise EngineError("CSTrack cannot be exported: its frames depend on memory and templates that change")

    def encode_template(self, crops: Tensor, boxes_xywh: Tensor) -> tuple[Tensor, Tensor]:
        """Typed tokens of two equal templates, and the target's shares in their cells."""
        tokens, shares = self.network.embed_template(crops), self._shares(boxes_xywh)
        kinds = [shares[:, None], torch.stack([shares, shares], dim=1)]
        return torch.cat([self.network.type_template(tokens, kind) for kind in kinds], dim=2), shares

    def _shares(self, boxes_xywh: Tensor) -> Tensor:
        size = self.settings.template_size
        pixels = boxes_xywh[:, 2:] * size
        return soft_masks_of_targets(pixels, pixels.new_ones(len(pixels)), size, self.cell).to(self.device)

    def init_state(self, target: OneStreamTemplate, boxes_xywh: Tensor) -> CSTrackState:
        tokens, shares = self.encode_template(self.normalise(target.crops), target.boxes_xywh)
        size, count = self.network.memory, len(boxes_xywh)
        memory = None if size is None else tokens.new_zeros(count, size.length, size.tokens, tokens.shape[-1])
        steps = torch.zeros(count, dtype=torch.int64)
        return CSTrackState(boxes_xywh, tokens, None, target.padding, shares, steps, memory)

    def crop_search(self, state: OneStreamState, frames: Sequence[Frame]) -> CSTrackRegion:
        assert isinstance(state, CSTrackState)
        view = super().crop_search(state, frames)
        return CSTrackRegion(view.crops, view.centres, view.sides, view.sizes_hw, state.steps, state.memory)

    def forward(self, state: OneStreamState, view: SearchRegion) -> TrackerOutput:
        assert isinstance(view, CSTrackRegion)
        found = self._find(state.template, self.normalise(view.crops), view)
        return self.output_of(found.maps, found.memory)

    def _find(self, template: Tensor, crops: Tensor, view: CSTrackRegion) -> Found:
        if view.memory is None or view.steps is None:
            return self.network.locate(template, crops)
        first = view.steps == 0
        if bool(first.all()):
            return self.network.locate(template, crops)
        return self.network.locate(template, crops, view.memory, first.to(self.device) if bool(first.any()) else None)

    def locate(self, state: OneStreamState, crops: Tensor) -> BoxMaps:
        """As if this were the first frame after the template's."""
        return self.network.locate(state.template, crops).maps

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
        assert state.shares is not None
        if not self.update.interval:
            return state
        due = (state.steps % self.update.interval == 0) & (prediction.scores > self.update.threshold)
        rows = due.nonzero().squeeze(1).tolist()
        if not rows:
            return state
        target = self.crop_template([frames[i] for i in rows], state.boxes_xywh[rows])
        tokens, shares = self.network.embed_template(self.normalise(target.crops)), self._shares(target.boxes_xywh)
        both = torch.stack([state.shares[rows], shares], dim=1)
        template = state.template.clone()
        template[rows, :, shares.shape[1] :] = self.network.type_template(tokens, both)
        return replace(state, template=template)
