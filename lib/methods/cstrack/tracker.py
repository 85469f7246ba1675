"""CSTrack at test time: a second template that is renewed, and in stage 2 a memory of the target's tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lib.data import doubled, soft_masks_of_targets
from lib.device import to_device
from lib.methods.cstrack.config import TemplateUpdate
from lib.methods.cstrack.network import CSTrack
from lib.track import (
    CropSettings,
    Frames,
    OneStreamState,
    OneStreamTracker,
    Policy,
    Prediction,
    SearchRegion,
    TemplateRegion,
    TrackerOutput,
    update_rows,
)


@dataclass(kw_only=True)
class CSTrackState(OneStreamState):
    """State of B targets.

    Attributes:
        template: [B, 2, 2 * Nz, C] typed tokens of both modalities: those of the first template, then the second's.
        foreground_mask: [B, Nz] share of the first template's cells that the target covers.
        steps: [B] int64 on the CPU, frames since the first.
        memory: [B, T, K, C], zeros before the second frame; None in stage 1.
    """

    foreground_mask: Tensor
    steps: Tensor
    memory: Tensor | None = None


@dataclass(kw_only=True)
class CSTrackRegion(SearchRegion):
    """Search regions of B targets.

    Attributes:
        steps, memory: As in `CSTrackState`; the output of a network of stage 2 depends on them.
    """

    steps: Tensor
    memory: Tensor | None = None


class CSTrackTracker(OneStreamTracker):
    """Tracking with a second template, and in stage 2 a memory (CSTrack, sec. 3).

    The confidence is the windowed maximum. Each row has its own frame count and renews its template on its own.
    Roll-outs of sequence-level training keep the first template unless they run `update`.

    Attributes:
        update_rule: When the second template is renewed.
        template_cell: Side of a cell of the template's grid, in pixels of the crop.
    """

    network: CSTrack
    reads_aux = True
    tracker_keys = (*OneStreamTracker.tracker_keys, "update.interval", "update.threshold")

    def __init__(self, network: CSTrack, settings: CropSettings, update_rule: TemplateUpdate) -> None:
        super().__init__(network, settings, network.backbone.grid_search)
        self.update_rule, self.template_cell = update_rule, network.backbone.stride

    def input_frames(self, frames: Frames) -> Frames:
        """A frame without second picture shows its first one twice, as in training."""
        return [doubled(frame) for frame in frames]

    def procedure(self) -> dict[str, Any]:
        """Crops, and when the second template is renewed."""
        return {**super().procedure(), "update": asdict(self.update_rule)}

    def encode_template(self, region: TemplateRegion) -> tuple[Tensor, Tensor]:
        """Typed tokens of two equal templates, and the foreground of the first."""
        foreground_mask = self._foreground_mask(region)
        return self.network.encode_template(self.normalise(region.crops), foreground_mask), foreground_mask

    def _foreground_mask(self, region: TemplateRegion) -> Tensor:
        """[B, Nz] share of each template cell that the target covers; the target is in the middle of its crop."""
        size = self.settings.template_size
        pixels = region.boxes_xywh[:, 2:] * size
        mask = soft_masks_of_targets(pixels, pixels.new_ones(len(pixels)), size, self.template_cell)
        return to_device(mask, self.device)

    def init_state(self, region: TemplateRegion, encoded: Any, boxes_xywh: Tensor) -> CSTrackState:
        (tokens, foreground_mask), size, count = encoded, self.network.memory, len(boxes_xywh)
        memory = None if size is None else tokens.new_zeros(count, size.length, size.tokens, tokens.shape[-1])
        steps = torch.zeros(count, dtype=torch.int64)
        return CSTrackState(
            boxes_xywh, tokens, None, region.padding, foreground_mask=foreground_mask, steps=steps, memory=memory
        )

    def crop_search(self, state: CSTrackState, frames: Frames) -> CSTrackRegion:
        region = super().crop_search(state, frames)
        return CSTrackRegion(**vars(region), steps=state.steps, memory=state.memory)

    def forward(self, state: CSTrackState, region: CSTrackRegion, rows: Tensor | None = None) -> TrackerOutput:
        at_start = region.steps == 0
        first = to_device(at_start, self.device) if region.memory is not None and bool(at_start.any()) else None
        result = self.network.locate(state.template_of(rows), self.normalise(region.crops), region.memory, first)
        return replace(self.output(result.candidates, state, region, rows), memory=result.memory)

    def postprocess(
        self, state: CSTrackState, region: CSTrackRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[CSTrackState, Prediction]:
        after, prediction = super().postprocess(state, region, output, policy)
        return replace(after, steps=after.steps + 1, memory=output.memory), prediction

    def update(
        self, state: CSTrackState, frames: Frames, region: CSTrackRegion, output: TrackerOutput, prediction: Prediction
    ) -> CSTrackState:
        """Cut a new second template, where the target was just found, in the rows that are due."""
        state, rule = super().update(state, frames, region, output, prediction), self.update_rule
        if not rule.interval:
            return state

        def renewed(part: CSTrackState, rows: list[int]) -> CSTrackState:
            region = self.crop_template([frames[i] for i in rows], part.boxes_xywh)
            new = self.normalise(region.crops), self._foreground_mask(region)
            return replace(part, template=self.network.update_template(part.template, part.foreground_mask, *new))

        due = (state.steps % rule.interval == 0) & (prediction.scores > rule.threshold)
        return update_rows(state, due, renewed)
