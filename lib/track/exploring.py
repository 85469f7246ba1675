"""The stages of a tracker's step, so that a network can learn from the tracker's own decisions.

`crop_search` cuts the search regions, `forward` runs the network on them, `postprocess` chooses a candidate and moves
on. Only `forward` and `init_state` are differentiable. A roll-out keeps the search regions; sequence-level training
runs `forward` on them again, with gradients.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from lib.data import Frame
from lib.track.protocol import Policy, Prediction, State, Tracker, greedy


@dataclass
class TemplateRegion(State):
    """What the network sees of the targets, once; methods add rows of what else they derive from the first frame.

    crops: [B, C, T, T] uint8, on the tracker's device. boxes_xywh: [B, 4] float64, the targets in units of the crop's
    side.
    """

    crops: Tensor
    boxes_xywh: Tensor


@dataclass
class SearchRegion(State):
    """What the network sees of one frame of each sequence; methods add rows of what else their decision depends on.

    crops: [B, C, S, S] uint8, on the tracker's device. centres: [B, 2] x, y of the crops' centres and sides: [B, 2]
    their widths and heights, both image pixels; sizes_hw: [B, 2] of the frames; float64 on the CPU.
    """

    crops: Tensor
    centres: Tensor
    sides: Tensor
    sizes_hw: Tensor

    def place(self, boxes_xywh: Tensor) -> Tensor:
        """Boxes [B, 4] x, y, w, h in image pixels -> in units of the crops' sides, as the tracker reads them there."""
        corners = (boxes_xywh[:, :2] - self.centres) / self.sides + 0.5
        return torch.cat([corners, boxes_xywh[:, 2:] / self.sides], dim=1)


S = TypeVar("S", bound=State)
T = TypeVar("T", bound=TemplateRegion)
V = TypeVar("V", bound=SearchRegion)


@dataclass(frozen=True, slots=True)
class TrackerOutput:
    """Network output for one search region per row.

    windowed_scores: [B, N] in 0..1, window applied; None where the head gives one box and leaves no choice.
    scores: [B, N] in 0..1, before the window. candidates: of the head, for `postprocess` and the method's losses.
    memory: what is to be remembered of this frame, by trackers that remember.
    """

    windowed_scores: Tensor | None
    scores: Tensor
    candidates: Any
    memory: Tensor | None = None


def windowed_scores_of(output: TrackerOutput) -> Tensor:
    """The response. Raises ValueError where there is none."""
    if output.windowed_scores is None:
        raise ValueError("the network's head gives one box, not one per cell: there is nothing to explore")
    return output.windowed_scores


class StagedTracker(Tracker[S], Generic[S, T, V]):
    """A tracker whose steps are taken apart; `init` and `step` put them together again."""

    @abstractmethod
    def crop_template(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> T:
        """The templates. boxes_xywh: [B, 4] image pixels. Raises ValueError as `init`."""

    @abstractmethod
    def init_state(self, target: T, boxes_xywh: Tensor) -> S:
        """The state after `init`; what it has of the network can be differentiated.

        boxes_xywh: [B, 4] float64 on the CPU, where the targets are, in image pixels; not necessarily in the frames
        that the templates were cut from.
        """

    @abstractmethod
    def crop_search(self, state: S, frames: Sequence[Frame]) -> V:
        """The search regions of the next frames."""

    @abstractmethod
    def forward(self, state: S, view: V) -> TrackerOutput:
        """The network's opinion; can be differentiated."""

    @abstractmethod
    def postprocess(self, state: S, view: V, output: TrackerOutput, policy: Policy = greedy) -> tuple[S, Prediction]:
        """Take a cell and go on from there."""

    @torch.no_grad()
    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> S:
        target = self.crop_template(frames, boxes_xywh)
        return self.init_state(target, boxes_xywh.detach().to("cpu", torch.float64, copy=True))

    @torch.no_grad()
    def step(self, state: S, frames: Sequence[Frame], policy: Policy = greedy) -> tuple[S, Prediction]:
        view = self.crop_search(state, frames)
        return self.postprocess(state, view, self.forward(state, view), policy)
