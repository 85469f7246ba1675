"""Roll-outs: a tracker follows the targets of many clips twice, greedily and exploring, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from lib.data import FrameSet, iou_xywh
from lib.track.exploring import S, StagedTracker, T, V, windowed_scores_of
from lib.track.protocol import Policy, greedy


@dataclass(frozen=True)
class Rollout(Generic[T, V]):
    """What came of S clips of K tracked frames.

    target: S rows. views: K times S rows, what the exploring trackers saw. cells: [K, S] int64, what they took, on the
    tracker's device. boxes_xywh: [2, K, S, 4] float64 in image pixels, of the greedy and of the exploring trackers.
    truth_xywh: [K, S, 4] float64, NaN or zeros where the target is absent.
    """

    target: T
    views: list[V]
    cells: Tensor
    boxes_xywh: Tensor
    truth_xywh: Tensor

    def overlaps(self) -> Tensor:
        """[2, K, S] intersection over union with the truth, 0 where the target is absent."""
        truth = self.truth_xywh.expand_as(self.boxes_xywh)
        return iou_xywh(self.boxes_xywh, truth).nan_to_num(0.0)

    def advantage(self) -> Tensor:
        """[S] how much better the exploring tracker did than the greedy one: difference of their mean overlaps."""
        greedy_mean, exploring_mean = self.overlaps().mean(dim=1)
        return exploring_mean - greedy_mean


@torch.no_grad()
def roll_out(tracker: StagedTracker[S, T, V], clips: Sequence[FrameSet], explore: Policy) -> Rollout[T, V]:
    """Follow each clip's target from its first search frame on; that frame gives the box, the template the looks.

    explore: how the second half of the batch chooses its cells. Templates are encoded once for both halves.
    Raises ValueError for clips of different lengths, and for a head that leaves no choice.
    """
    count, length = len(clips), len(clips[0].search)
    if any(len(c.search) != length for c in clips):
        raise ValueError(f"clips of one batch have one length, not {sorted({len(c.search) for c in clips})}")
    truth = torch.stack([torch.from_numpy(c.search_boxes) for c in clips], dim=1)
    target = tracker.crop_template(
        [c.template[0] for c in clips], torch.stack([torch.from_numpy(c.template_boxes[0]) for c in clips])
    )
    state = tracker.init_state(target, truth[0].clone()).select([*range(count)] * 2)
    chooser = _Chooser(explore, count)
    views, boxes = [], []
    for t in range(1, length):
        view = tracker.crop_search(state, [c.search[t] for c in clips] * 2)
        output = tracker.forward(state, view)
        windowed_scores_of(output)
        state, prediction = tracker.postprocess(state, view, output, chooser)
        views.append(view.select(range(count, 2 * count)))
        boxes.append(prediction.boxes_xywh)
    found = torch.stack(boxes).unflatten(1, (2, count)).transpose(0, 1)
    return Rollout(target, views, torch.stack(chooser.taken), found, truth[1:])


class _Chooser:
    """The policy of both halves; keeps what the second one took."""

    def __init__(self, explore: Policy, count: int) -> None:
        self.explore, self.count = explore, count
        self.taken: list[Tensor] = []

    def __call__(self, response: Tensor) -> Tensor:
        self.taken.append(self.explore(response[self.count :]))
        return torch.cat([greedy(response[: self.count]), self.taken[-1]])
