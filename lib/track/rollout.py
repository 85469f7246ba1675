"""Roll-outs: a tracker follows the targets of many clips twice, greedily and exploring, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from lib.data import FrameSet, TooLargeBoxError, TooSmallBoxError, iou_xywh
from lib.track.state import Frames, S, update_rows
from lib.track.tracker import Policy, R, StagedTracker, T, checked_boxes

UNUSABLE = (TooSmallBoxError, TooLargeBoxError)
"""Errors of crops after which a roll-out continues; NaN is a fault of the network and ends the training."""


@dataclass(frozen=True)
class Rollout(Generic[T, R]):
    """Decisions and boxes of an exploring and a greedy tracker in S clips of up to K tracked frames.

    Attributes:
        template: S template regions.
        start_xywh: [S, 4] float64, boxes that tracking started from, image pixels.
        regions: K times S search regions of the exploring trackers.
        choices: [K, S] int64, or [K, S, C] for C choices per frame, of the exploring trackers, on their device.
        boxes_xywh: [2, K, S, 4] float64 in image pixels, of the greedy and of the exploring trackers.
        truth_xywh: [K, S, 4] float64, NaN or zeros where the target is absent.
        real: [K, S] bool, False for copies that fill up a shorter clip.
    """

    template: T
    start_xywh: Tensor
    regions: list[R]
    choices: Tensor
    boxes_xywh: Tensor
    truth_xywh: Tensor
    real: Tensor

    def overlaps(self) -> Tensor:
        """Intersection over union with the truth.

        Returns:
            [2, K, S] of the greedy and of the exploring trackers, 0 where the target is absent and in copies.
        """
        truth = self.truth_xywh.expand_as(self.boxes_xywh)
        return iou_xywh(self.boxes_xywh, truth).nan_to_num(0.0) * self.real

    def advantage(self) -> Tensor:
        """The reward of each clip (SLT, sec. 3.2).

        Returns:
            [S] difference of mean overlaps over the clip's real frames, exploring minus greedy.
        """
        greedy, exploring = self.overlaps().sum(dim=1) / self.real.sum(dim=0)
        return exploring - greedy


@torch.no_grad()
def roll_out(
    tracker: StagedTracker[S, T, R], clips: Sequence[FrameSet], explore: Policy, update: bool = False
) -> Rollout[T, R]:
    """Follow each clip's target from its first search frame on; that frame gives the box, the template frame the crop.

    Templates are encoded once for both halves of the batch. Clips may differ in length; one that has ended repeats its
    last frame until all have. A row whose box is too large or too small to be cropped around is cropped where it was
    in the frame before.

    Args:
        tracker: Its first S rows are greedy, the other S exploring.
        clips: S clips.
        explore: Policy of the exploring rows.
        update: Run the tracker's `update` after every frame.

    Raises:
        ValueError: For a head that leaves no choice, a clip with a single real frame, or one that begins without a box.
    """
    count, length = len(clips), max(len(c.search) for c in clips)
    lengths = [min(c.real_length, len(c.search)) for c in clips]
    if min(lengths) < 2:
        name = clips[lengths.index(min(lengths))].name
        raise ValueError(f"{name} has a single frame: there is nothing to track in it")
    indices = [[min(t, len(c.search) - 1) for t in range(length)] for c in clips]
    boxes_of_clips = [torch.from_numpy(c.search_boxes[index]) for c, index in zip(clips, indices, strict=True)]
    truth = torch.stack(boxes_of_clips, dim=1).double()
    real = torch.tensor([[t < n for n in lengths] for t in range(1, length)])
    template_boxes = torch.stack([torch.from_numpy(c.template_boxes[0]) for c in clips])
    template = tracker.crop_template([c.template[0] for c in clips], template_boxes)
    start = checked_boxes([c.search[0] for c in clips], truth[0])
    state = tracker.init_state(template, tracker.encode_template(template), start).select([*range(count)] * 2)
    masked = any(c.search_masks is not None for c in clips)
    regions: list[R] = []
    choices: list[Tensor] = []
    boxes: list[Tensor] = []

    def greedy_and_exploring(logits: Tensor) -> Tensor:
        choices.append(explore(logits[count:]))
        return torch.cat([torch.full_like(choices[-1], -1), choices[-1]])

    before = state
    for t in range(1, length):
        frames = [c.search[index[t]] for c, index in zip(clips, indices, strict=True)] * 2
        state, region = _crop_search(tracker, state, before, frames)
        before = state
        output = tracker.forward(state, region)
        if output.policy_logits is None:
            raise ValueError("the network's head gives one box and no choice: there is nothing to explore")
        state, prediction = tracker.postprocess(state, region, output, greedy_and_exploring)
        if update:
            state = tracker.update(state, frames, region, output, prediction)
        explored = region.select(range(count, 2 * count))
        if masked:
            pairs = zip(clips, indices, strict=True)
            masks = [None if c.search_masks is None else c.search_masks[index[t]] for c, index in pairs]
            explored = tracker.with_masks(explored, masks)
        regions.append(explored)
        boxes.append(prediction.boxes_xywh)
    tracked = torch.stack(boxes).unflatten(1, (2, count)).transpose(0, 1)
    return Rollout(template, start, regions, torch.stack(choices), tracked, truth[1:], real)


def _crop_search(tracker: StagedTracker[S, T, R], state: S, before: S, frames: Frames) -> tuple[S, R]:
    """Search regions; rows whose box is unusable have the state before, from which they were cropped last."""
    try:
        return state, tracker.crop_search(state, frames)
    except UNUSABLE:
        lost = torch.zeros(len(frames), dtype=torch.bool)
        for row, frame in enumerate(frames):
            try:
                tracker.crop_search(state.select([row]), [frame])
            except UNUSABLE:
                lost[row] = True
        state = update_rows(state, lost, lambda _, rows: before.select(rows))
        return state, tracker.crop_search(state, frames)
