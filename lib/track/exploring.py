"""What a tracker offers beyond `step`, so that a network can learn from the tracker's own decisions.

A step is taken apart: `look` cuts what the network sees, `judge` runs the network and says how good every cell is,
`decide` takes a cell and moves on. Only `judge` and `begin` can be differentiated; where crops are cut, and what a
decision leads to, is given. A roll-out keeps what was looked at; the same `judge` is asked again with gradients.
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
class TargetView(State):
    """What the network sees of the targets, once; methods add rows of what else they derive from the first frame.

    crops: [B, C, T, T] uint8, on the tracker's device. boxes_xywh: [B, 4] float64, the targets in units of the crop's
    side.
    """

    crops: Tensor
    boxes_xywh: Tensor


@dataclass
class View(State):
    """What the network sees of one frame of each sequence; methods add rows of what else their decision depends on.

    crops: [B, C, S, S] uint8, on the tracker's device. centres: [B, 2] x, y of the crops' centres and sides: [B] of
    their sides, both image pixels; sizes_hw: [B, 2] of the frames; float64 on the CPU.
    """

    crops: Tensor
    centres: Tensor
    sides: Tensor
    sizes_hw: Tensor

    def place(self, boxes_xywh: Tensor) -> Tensor:
        """Boxes [B, 4] x, y, w, h in image pixels -> in units of the crops' sides, as the tracker reads them there."""
        side = self.sides[:, None]
        return torch.cat([(boxes_xywh[:, :2] - self.centres) / side + 0.5, boxes_xywh[:, 2:] / side], dim=1)


S = TypeVar("S", bound=State)
T = TypeVar("T", bound=TargetView)
V = TypeVar("V", bound=View)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the network made of a view.

    response: [B, N] in 0..1, window applied, of every cell; None where the head gives one box and leaves no choice.
    scores: [B, N] in 0..1, before the window. output: what the network gave, for `decide` and the method's losses.
    memory: what is to be remembered of this frame, by trackers that remember.
    """

    response: Tensor | None
    scores: Tensor
    output: Any
    memory: Tensor | None = None


def response_of(judgement: Judgement) -> Tensor:
    """The response. Raises ValueError where there is none."""
    if judgement.response is None:
        raise ValueError("the network's head gives one box, not one per cell: there is nothing to explore")
    return judgement.response


class ExploringTracker(Tracker[S], Generic[S, T, V]):
    """A tracker whose steps are taken apart; `init` and `step` put them together again."""

    @abstractmethod
    def look_at_target(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> T:
        """The templates. boxes_xywh: [B, 4] image pixels. Raises ValueError as `init`."""

    @abstractmethod
    def begin(self, target: T, boxes_xywh: Tensor) -> S:
        """The state after `init`; what it has of the network can be differentiated.

        boxes_xywh: [B, 4] float64 on the CPU, where the targets are, in image pixels; not necessarily in the frames
        that the templates were cut from.
        """

    @abstractmethod
    def look(self, state: S, frames: Sequence[Frame]) -> V:
        """The search regions of the next frames."""

    @abstractmethod
    def judge(self, state: S, view: V) -> Judgement:
        """The network's opinion; can be differentiated."""

    @abstractmethod
    def decide(self, state: S, view: V, judgement: Judgement, policy: Policy = greedy) -> tuple[S, Prediction]:
        """Take a cell and go on from there."""

    @torch.inference_mode()
    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> S:
        target = self.look_at_target(frames, boxes_xywh)
        return self.begin(target, boxes_xywh.detach().to("cpu", torch.float64, copy=True))

    @torch.inference_mode()
    def step(self, state: S, frames: Sequence[Frame], policy: Policy = greedy) -> tuple[S, Prediction]:
        view = self.look(state, frames)
        return self.decide(state, view, self.judge(state, view), policy)
