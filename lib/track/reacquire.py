"""Search for a lost target: tiles of the frame are rows of one batch, the template decides, the confidence accepts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lib.data import Frame
from lib.track.confidence import LOST, TRACKED, Calibration, ConfidenceState, confidence_init, measured_step
from lib.track.state import State, update_rows
from lib.track.tracker import Prediction, StagedTracker, WrappedTracker


@dataclass
class ReacquireState(State):
    """State of B targets.

    Attributes:
        confident: Of tracker and confidence.
        lost: [B] int64 on the CPU, frames in a row in which the target was lost.
        sure_xywh: [B, 4] float64 on the CPU, image pixels: the last box that was tracked with confidence.
        scores, raw_scores, boxes_xywh: [B], [B] and [B, 4] of the frame, on the CPU.
    """

    confident: ConfidenceState
    lost: Tensor
    sure_xywh: Tensor
    scores: Tensor
    raw_scores: Tensor
    boxes_xywh: Tensor


class ReacquiringTracker(WrappedTracker[ReacquireState]):
    """A tracker with calibrated scores that looks for its target in the whole frame once it has lost it.

    A target counts as lost after `patience` frames with an expected overlap below 0.2. From then on `tiles` places
    around the last sure box are searched in every frame, the nearest ones first, the others in the frames after, until
    the whole frame has been seen and the round begins again. The tracker looks again, from up close, at the box with
    the highest score; where the overlap that it expects there is at least 0.5, it goes on from there. Polygons and
    masks of a frame in which the target is found again are not there.

    Attributes:
        tracker, calibration: See `ConfidenceTracker`.
        patience: Frames in a row.
        tiles: Places per target and frame, at most.
    """

    tracker: Any
    patience = 3
    tiles = 24

    def __init__(self, tracker: StagedTracker[Any, Any, Any], calibration: Calibration) -> None:
        super().__init__(tracker)
        self.calibration = calibration
        self.gives_regions = frozenset()

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> ReacquireState:
        confident = confidence_init(self.tracker, frames, boxes_xywh)
        boxes = boxes_xywh.detach().cpu().double().clone()
        lost, ones = torch.zeros(len(frames), dtype=torch.int64), torch.ones(len(frames))
        return ReacquireState(confident, lost, boxes, ones, ones, boxes)

    def with_settings(self, state: ReacquireState, settings: Mapping[str, float]) -> ReacquireState:
        inner = self.tracker.with_settings(state.confident.tracker, settings)
        return replace(state, confident=replace(state.confident, tracker=inner))

    @torch.no_grad()
    def step(self, state: ReacquireState, frames: Sequence[Frame]) -> tuple[ReacquireState, Prediction]:
        confident, prediction, features = measured_step(self.tracker, state.confident, frames)
        scores, boxes = self.calibration(features), prediction.boxes_xywh
        lost = torch.where(scores < LOST, state.lost + 1, 0)
        after = ReacquireState(confident, lost, state.sure_xywh, scores, prediction.scores, boxes)
        after = update_rows(
            after, lost >= self.patience, lambda part, rows: self._search(part, [frames[i] for i in rows])
        )
        sure = torch.where((after.scores >= TRACKED)[:, None], after.boxes_xywh, after.sure_xywh)
        given = Prediction(after.boxes_xywh, after.scores, raw_scores=after.raw_scores)
        return replace(after, sure_xywh=sure), given

    def _search(self, state: ReacquireState, frames: Sequence[Frame]) -> ReacquireState:
        """Look for lost targets in tiles; rows where one is found go on from there."""
        places = [
            tile_boxes(box, self.tracker.settings.search_factor, frame.size_hw, turn - self.patience, self.tiles)
            for box, frame, turn in zip(state.sure_xywh, frames, state.lost.tolist(), strict=True)
        ]
        rows = [i for i, boxes in enumerate(places) for _ in boxes]
        moved = self.tracker.move_to(state.confident.tracker.select(rows), torch.cat(places))
        region = self.tracker.crop_search(moved, [frames[i] for i in rows])
        found = self.tracker.forward(moved, region).candidates
        best = found.scores.max(dim=1)
        boxes = region.to_image(found.boxes_at(best.indices).double().cpu())
        sized = (boxes[:, 2:] > 1).all(dim=1, keepdim=True)
        boxes = torch.where(sized, boxes, torch.cat(places))
        peaks = best.values.cpu().split([len(p) for p in places])
        first = [sum(len(p) for p in places[:i]) + int(peak.argmax()) for i, peak in enumerate(peaks)]
        looked = replace(state.confident, tracker=self.tracker.move_to(state.confident.tracker, boxes[first]))
        confident, prediction, features = measured_step(self.tracker, looked, frames)
        scores = self.calibration(features)
        accepted = scores >= TRACKED
        # Where nothing was found the tracker stays where it is, in the size that was right last.
        middles = state.boxes_xywh[:, :2] + (state.boxes_xywh[:, 2:] - state.sure_xywh[:, 2:]) / 2
        stays = self.tracker.move_to(state.confident.tracker, torch.cat([middles, state.sure_xywh[:, 2:]], dim=1))
        held = replace(state, confident=replace(state.confident, tracker=stays))
        taken = replace(
            state,
            confident=confident,
            lost=torch.zeros_like(state.lost),
            scores=scores,
            raw_scores=prediction.scores,
            boxes_xywh=prediction.boxes_xywh,
        )
        return update_rows(held, accepted, lambda part, rows: taken.select(rows))


def tile_boxes(box_xywh: Tensor, factor: float, size_hw: tuple[int, int], turn: int, most: int) -> Tensor:
    """Boxes around which search regions cover a part of the frame, each half over the next.

    Args:
        box_xywh: [4] float64, image pixels; the boxes have its size, and the nearest to it come first.
        factor: Side of a search region over the square root of the box's area.
        size_hw: Height and width of the frame.
        turn: Number of the search since the target was lost, from 0; the parts take turns.
        most: Boxes, at most.

    Returns:
        [T, 4] float64.
    """
    step = max(1.0, factor * float(box_xywh[2:].prod().sqrt()) / 2)
    height, width = size_hw
    x, y = (
        (torch.arange(n := max(1, math.ceil(end / step)), dtype=torch.float64) + 0.5) * end / n
        for end in (width, height)
    )
    centres = torch.cartesian_prod(x, y)
    order = (centres - box_xywh[:2] - box_xywh[2:] / 2).norm(dim=1).argsort(stable=True)
    parts = order.split(most)
    chosen = centres[parts[turn % len(parts)]]
    return torch.cat([chosen - box_xywh[2:] / 2, box_xywh[2:].expand_as(chosen)], dim=1)
