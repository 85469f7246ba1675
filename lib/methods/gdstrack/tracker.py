"""GDSTrack at test time: the more confident of two heads' boxes, and noise that depends on sequence and frame alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lib.device import to_device
from lib.methods.gdstrack.network import GDSTrack
from lib.track import (
    CropSettings,
    Frames,
    Noise,
    OneStreamState,
    OneStreamTracker,
    Policy,
    Prediction,
    SearchRegion,
    TemplateRegion,
    TrackerOutput,
    checked_boxes,
    row_noise,
    sequence_keys,
)


@dataclass(kw_only=True)
class GDSTrackState(OneStreamState):
    """State of B targets.

    Attributes:
        boxes_xywh: [B, 4] float64, image pixels: the first corners, and the way from there to the second ones, which
            may be beyond the image, or have changed places with the first.
        positions: [B, 2] float64, x, y of the centres that the next boxes are counted from.
        start_sizes: [B, 2] float64, the way from corner to corner of the first box.
        crop_sizes: [B, 2] float64, sizes of the boxes that the last search regions were cut around.
        keys: [B] int64, see `sequence_keys`.
        steps: [B] int64, frames since the first.
    """

    positions: Tensor
    start_sizes: Tensor
    crop_sizes: Tensor
    keys: Tensor
    steps: Tensor

    def crop_boxes(self) -> Tensor:
        """[B, 4] x, y, w, h to cut the next search regions around: from corner to corner, both included.

        The published tracker also crops around boxes whose corners changed places. Here such a crop keeps the last
        size that was.
        """
        corners, sizes = self.boxes_xywh.split(2, dim=1)
        usable = (sizes.isfinite() & (sizes > 0)).all(dim=1, keepdim=True)
        wanted = torch.where(usable, sizes + 1, self.crop_sizes)
        return torch.cat([corners + sizes / 2 - wanted / 2, wanted], dim=1)


@dataclass(kw_only=True)
class GDSTrackTemplate(TemplateRegion):
    """Templates of B targets. keys: [B] int64, see `sequence_keys`."""

    keys: Tensor


@dataclass(kw_only=True)
class GDSTrackRegion(SearchRegion):
    """Search regions of B targets. keys, steps: [B] int64, of the noise."""

    keys: Tensor
    steps: Tensor


class GDSTrackTracker(OneStreamTracker):
    """Tracking without window, template update or threshold (GDSTrack, sec. 3.5).

    Attributes:
        noise: Normal numbers that the diffusion starts from; may be set from outside.
    """

    network: GDSTrack
    reads_aux = needs_aux = True
    noise: Noise

    def __init__(self, network: GDSTrack, settings: CropSettings, seed: int) -> None:
        super().__init__(network, settings, network.backbone.grid_search)
        self.seed = seed
        self.noise = partial(row_noise, seed, normal=True)

    def procedure(self) -> dict[str, Any]:
        """Crops, and the seed of the noise."""
        return {**super().procedure(), "noise": {"type": "normal", "seed": self.seed}}

    def crop_template(self, frames: Frames, boxes_xywh: Tensor) -> GDSTrackTemplate:
        boxes = checked_boxes(frames, boxes_xywh)
        # The middle between the corners of a box, of which the second is its last pixel.
        region = super().crop_template(frames, boxes - boxes.new_tensor([0.5, 0.5, 0.0, 0.0]))
        return GDSTrackTemplate(**vars(region), keys=sequence_keys(frames, boxes))

    def init_state(
        self, region: GDSTrackTemplate, encoded: tuple[Tensor, Tensor | None], boxes_xywh: Tensor
    ) -> GDSTrackState:
        corners, sizes = boxes_xywh.split(2, dim=1)
        return GDSTrackState(
            torch.cat([corners, sizes - 1], dim=1),
            *encoded,
            region.padding,
            positions=corners + sizes / 2,
            start_sizes=sizes - 1,
            crop_sizes=sizes,
            keys=region.keys,
            steps=torch.zeros_like(region.keys),
        )

    def move_to(self, state: GDSTrackState, boxes_xywh: Tensor) -> GDSTrackState:
        corners, sizes = boxes_xywh.split(2, dim=1)
        moved = torch.cat([corners, sizes - 1], dim=1)
        return replace(state, boxes_xywh=moved, positions=corners + sizes / 2, crop_sizes=sizes)

    def crop_search(self, state: GDSTrackState, frames: Frames) -> GDSTrackRegion:
        region = super().crop_search(replace(state, boxes_xywh=state.crop_boxes()), frames)
        return GDSTrackRegion(**vars(region), keys=state.keys, steps=state.steps + 1)

    def forward(self, state: GDSTrackState, region: GDSTrackRegion, rows: Tensor | None = None) -> TrackerOutput:
        inputs, shape = [state.template_of(rows), self.normalise(region.crops)], self.network.noise_shape
        if shape:
            inputs.append(to_device(self.noise(region.keys, region.steps, shape).float(), self.device))
        result = self.network.locate(*inputs)
        return self.output(result.candidates, state, region, rows)

    def postprocess(
        self, state: GDSTrackState, region: GDSTrackRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[GDSTrackState, Prediction]:
        local, scores = self.select_box(state, region, output, policy)
        damped = self.damp_sizes(state.boxes_xywh[:, 2:] / region.sides, local[:, 2:], scores)
        local = torch.cat([local[:, :2], damped], dim=1)
        after, boxes = self.move(state, local, region.sides, region.sizes_hw)
        return after, Prediction(boxes, scores)

    def move(
        self, state: GDSTrackState, local: Tensor, sides: Tensor, sizes_hw: Tensor
    ) -> tuple[GDSTrackState, Tensor]:
        """The next state, and the boxes inside their images.

        A box that covers its whole image becomes one of the first size in the image's middle; the next one is still
        counted from where it was, as published.

        Args:
            state: Before.
            local: [B, 4] float64, cx, cy, w, h in units of the crop's side.
            sides: [B, 2] of the crops, image pixels.
            sizes_hw: [B, 2] of the images.
        """
        positions, sizes = state.positions + (local[:, :2] - 0.5) * sides, local[:, 2:] * sides
        last = torch.cat([positions - sizes / 2, sizes], dim=1)
        boxes, extent = self.clip_box(last, sizes_hw), sizes_hw.flip(1)
        whole = (boxes == torch.cat([torch.zeros_like(extent), extent], dim=1)).all(dim=1, keepdim=True)
        middle = torch.cat([(extent - state.start_sizes) / 2, state.start_sizes], dim=1)
        after = replace(
            state,
            boxes_xywh=torch.where(whole, middle, last),
            positions=positions,
            crop_sizes=state.crop_boxes()[:, 2:],
            steps=state.steps + 1,
        )
        return after, torch.where(whole, middle, boxes)
