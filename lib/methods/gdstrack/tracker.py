"""GDSTrack at test time: the box of the surer of two heads, and noise that belongs to a sequence and a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lib.data import Frame
from lib.methods.gdstrack.network import GDSTrack
from lib.track import (
    CropSettings,
    OneStreamState,
    OneStreamTracker,
    Policy,
    Prediction,
    SearchRegion,
    TemplateRegion,
    TrackerOutput,
    checked_boxes,
    row_keys,
    row_noise,
)

Noise = Callable[[Tensor, Tensor, Sequence[int]], Tensor]
"""Keys [B] and steps [B] of rows, shape of one row -> normal random numbers [B, *shape]; see `row_noise`."""


@dataclass(kw_only=True)
class GDSTrackState(OneStreamState):
    """State of B targets.

    Attributes:
        boxes_xywh: [B, 4] float64, around which the next search region is cut: half a pixel further to the left and the
            top than the target, and from the second frame on a pixel larger, as published.
        positions: [B, 2] float64, x, y of the targets' centres in image pixels.
        start_sizes: [B, 2] float64, width and height of the first box, a pixel less, in image pixels.
        keys: [B] int64, see `row_keys`.
        steps: [B] int64, frames since the first.
    """

    positions: Tensor
    start_sizes: Tensor
    keys: Tensor
    steps: Tensor


@dataclass(kw_only=True)
class GDSTrackTemplate(TemplateRegion):
    """Templates of B targets. keys: [B] int64, see `row_keys`."""

    keys: Tensor


@dataclass(kw_only=True)
class GDSTrackRegion(SearchRegion):
    """Search regions of B targets. keys, steps: [B] int64, of the noise."""

    keys: Tensor
    steps: Tensor


class GDSTrackTracker(OneStreamTracker):
    """Tracking without window, template update or threshold (GDSTrack, sec. 3.5).

    The published tracker keeps boxes whose corners changed places, and cuts the next search region around them. Here
    such a region has the size of the one before; outputs and centres are the published ones.

    Attributes:
        noise: What the diffusion starts from; may be set to give other numbers.
    """

    network: GDSTrack
    reads_aux = True
    noise: Noise

    def __init__(self, network: GDSTrack, settings: CropSettings, seed: int) -> None:
        super().__init__(network, settings, network.backbone.grid_search)
        self.seed = seed
        self.noise = partial(row_noise, seed, normal=True)

    def procedure(self) -> dict[str, Any]:
        """Crops, and the seed of the noise."""
        return {**super().procedure(), "noise": {"type": "normal", "seed": self.seed}}

    def crop_template(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> GDSTrackTemplate:
        boxes = checked_boxes(frames, boxes_xywh)
        region = super().crop_template(frames, shifted(boxes))
        return GDSTrackTemplate(**vars(region), keys=row_keys(frames, boxes))

    def init_state(
        self, region: TemplateRegion, encoded: tuple[Tensor, Tensor | None], boxes_xywh: Tensor
    ) -> GDSTrackState:
        assert isinstance(region, GDSTrackTemplate)
        corners, sizes = boxes_xywh.split(2, dim=1)
        return GDSTrackState(
            shifted(boxes_xywh),
            *encoded,
            region.padding,
            positions=corners + sizes / 2,
            start_sizes=sizes - 1,
            keys=region.keys,
            steps=torch.zeros_like(region.keys),
        )

    def crop_search(self, state: OneStreamState, frames: Sequence[Frame]) -> GDSTrackRegion:
        assert isinstance(state, GDSTrackState)
        return GDSTrackRegion(**vars(super().crop_search(state, frames)), keys=state.keys, steps=state.steps + 1)

    def forward(self, state: OneStreamState, region: SearchRegion, rows: Tensor | None = None) -> TrackerOutput:
        assert isinstance(region, GDSTrackRegion)
        template, _ = state.template_of(rows)
        shape, noise = self.network.noise_shape, ()
        if shape:
            noise = (self.noise(region.keys, region.steps, shape).to(self.device, torch.float32),)
        found = self.network.locate(template, self.normalise(region.crops), *noise)
        return self.output(found.candidates, state, region, rows)

    def postprocess(
        self, state: OneStreamState, region: SearchRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[GDSTrackState, Prediction]:
        assert isinstance(state, GDSTrackState)
        local, scores = self.select_box(state, region, output, policy)
        positions = state.positions + (local[:, :2] - 0.5) * region.sides
        sizes = local[:, 2:] * region.sides
        after, boxes = self.moved(state, positions, sizes, region.sizes_hw)
        return replace(after, steps=state.steps + 1), Prediction(boxes, scores)

    def moved(
        self, state: GDSTrackState, positions: Tensor, sizes: Tensor, sizes_hw: Tensor
    ) -> tuple[GDSTrackState, Tensor]:
        """The state with new boxes, and the boxes inside their images.

        A box that covers its whole image becomes one of the first size in the image's middle; the next position is
        still counted from where it was.

        Args:
            state: Before.
            positions, sizes: [B, 2] float64, centres, and widths and heights, in image pixels.
            sizes_hw: [B, 2] of the images.
        """
        last = torch.cat([positions - sizes / 2, sizes], dim=1)
        boxes = self.clip_box(last, sizes_hw)
        extent = sizes_hw.flip(1)
        whole = (boxes == torch.cat([torch.zeros_like(extent), extent], dim=1)).all(dim=1, keepdim=True)
        middle = torch.cat([(extent - state.start_sizes) / 2, state.start_sizes], dim=1)
        last, boxes = torch.where(whole, middle, last), torch.where(whole, middle, boxes)
        sizes = last[:, 2:]
        usable = (sizes.isfinite() & (sizes > 0)).all(dim=1, keepdim=True)
        wanted = torch.where(usable, sizes + 1, state.boxes_xywh[:, 2:])
        around = torch.cat([torch.where(whole, extent / 2, positions) - wanted / 2, wanted], dim=1)
        return replace(state, boxes_xywh=around, positions=positions), boxes


def shifted(boxes_xywh: Tensor) -> Tensor:
    """Boxes [B, 4] whose middle is that of their pixels' corners: half a pixel further to the left and the top."""
    return boxes_xywh - boxes_xywh.new_tensor([0.5, 0.5, 0.0, 0.0])
