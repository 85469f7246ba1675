"""Search for a lost target in the whole frame: tiles are rows of one batch, and a find is confirmed by some frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lib.track.confidence import LOST, TRACKED, Calibration, ConfidenceState, confidence_init, measured_step
from lib.track.state import Frames, State, update_rows
from lib.track.tracker import Prediction, StagedTracker, WrappedTracker


@dataclass
class ReacquireState(State):
    """State of B targets: a track, and a rival at another place that may be the target's.

    Attributes:
        track, rival: States of the tracker and its confidence.
        lost: [B] int64 on the CPU, frames in a row in which the target was lost.
        trial: [B] int64 on the CPU, frames in a row in which the rival was good enough; 0 if it is given up.
        watch: [B] int64 on the CPU, frames left in which the place before a change is followed as the rival.
        evidence: [B, 2] float64 on the CPU, sums over the frames of the trial: the rival's expected overlaps and its
            highest scores.
        sure_xywh: [B, 4] float64 on the CPU, image pixels: the last box that was tracked with confidence.
        sure_memory: [B, 6] as in `ConfidenceState`, of that frame.
        scores, raw_scores, boxes_xywh: [B], [B] and [B, 4] of the frame, on the CPU.
    """

    track: ConfidenceState
    rival: ConfidenceState
    lost: Tensor
    trial: Tensor
    watch: Tensor
    evidence: Tensor
    sure_xywh: Tensor
    sure_memory: Tensor
    scores: Tensor
    raw_scores: Tensor
    boxes_xywh: Tensor


class ReacquiringTracker(WrappedTracker[ReacquireState]):
    """A tracker with calibrated scores that searches the whole frame for a target that it has lost.

    1. A target is lost after `patience` frames with an expected overlap below 0.2. Its track waits where it is.
    2. In every further frame at most `tiles` places are searched, the nearest to the last sure box first, the others in
       the frames after, until the whole frame has been seen and the round begins again.
    3. The tracker makes a step at the `looks` best candidates. The one with the highest expected overlap becomes the
       rival, a second track that is followed alongside.
    4. After `confirm` frames track and rival change places, if in each of them the means so far were good enough: an
       expected overlap of at least 0.5 (in the last frame too), and a highest score of no less than the usual one.
    5. For `probation` frames after a change the old place is the rival. A target most often comes back where it left,
       so there the expected overlap alone counts.

    Predictions have boxes, no polygons or masks.

    Attributes:
        tracker, calibration: See `ConfidenceTracker`.
        patience: Frames in a row.
        tiles, looks: Places and candidates per target and frame, at most.
        confirm: Frames, that of the search among them.
        probation: Frames.
    """

    tracker: Any
    patience = 3
    tiles = 24
    looks = 4
    confirm = 4
    probation = 50

    def __init__(self, tracker: StagedTracker, calibration: Calibration) -> None:
        super().__init__(tracker)
        self.calibration = calibration
        self.gives_regions = frozenset()

    @torch.no_grad()
    def init(self, frames: Frames, boxes_xywh: Tensor) -> ReacquireState:
        track = confidence_init(self.tracker, frames, boxes_xywh)
        boxes = boxes_xywh.detach().cpu().double().clone()
        none, ones = torch.zeros(len(frames), dtype=torch.int64), torch.ones(len(frames))
        return ReacquireState(
            track=track,
            rival=track,
            lost=none,
            trial=none,
            watch=none,
            evidence=torch.zeros(len(frames), 2, dtype=torch.float64),
            sure_xywh=boxes,
            sure_memory=track.memory,
            scores=ones,
            raw_scores=ones,
            boxes_xywh=boxes,
        )

    def with_settings(self, state: ReacquireState, settings: Mapping[str, float]) -> ReacquireState:
        track = replace(state.track, tracker=self.tracker.with_settings(state.track.tracker, settings))
        rival = replace(state.rival, tracker=self.tracker.with_settings(state.rival.tracker, settings))
        return replace(state, track=track, rival=rival)

    @torch.no_grad()
    def step(self, state: ReacquireState, frames: Frames) -> tuple[ReacquireState, Prediction]:
        track, prediction, features = measured_step(self.tracker, state.track, frames)
        scores, boxes = self.calibration(features), prediction.boxes_xywh
        lost = torch.where(scores < LOST, state.lost + 1, 0)
        searched = lost >= self.patience
        watch = torch.where(searched, 0, (state.watch - 1).clamp(min=0))
        # Trials are not carried from the rival of a watch to that of a search, nor the other way round.
        trial = torch.where(torch.where(searched, state.watch == 0, watch > 0), state.trial, 0)
        after = replace(
            state,
            track=track,
            lost=lost,
            trial=trial,
            watch=watch,
            scores=scores,
            raw_scores=prediction.scores,
            boxes_xywh=boxes,
        )
        after = update_rows(after, searched, lambda part, rows: self._search(part, [frames[i] for i in rows]))
        due = searched | (watch > 0)
        after = update_rows(after, due, lambda part, rows: self._compare(part, [frames[i] for i in rows]))
        sure = (after.scores >= TRACKED)[:, None]
        sure_xywh = torch.where(sure, after.boxes_xywh, after.sure_xywh)
        sure_memory = torch.where(sure, after.track.memory, after.sure_memory)
        after = replace(after, sure_xywh=sure_xywh, sure_memory=sure_memory)
        return after, Prediction(after.boxes_xywh, after.scores, raw_scores=after.raw_scores)

    def _search(self, state: ReacquireState, frames: Frames) -> ReacquireState:
        """Hold lost tracks at their place, in the last sure size, and find a rival where there is none."""
        middles = state.boxes_xywh[:, :2] + (state.boxes_xywh[:, 2:] - state.sure_xywh[:, 2:]) / 2
        waiting = self.tracker.move_to(state.track.tracker, torch.cat([middles, state.sure_xywh[:, 2:]], dim=1))
        state = replace(state, track=replace(state.track, tracker=waiting))
        return update_rows(state, state.trial == 0, lambda part, rows: self._propose(part, [frames[i] for i in rows]))

    def _propose(self, state: ReacquireState, frames: Frames) -> ReacquireState:
        """Make the most promising place in this frame's tiles the rival."""
        inner, sure = state.track.tracker, state.sure_xywh
        # The best candidate of every tile.
        tiles = [
            tile_boxes(box, self.tracker.settings.search_factor, frame.size_hw, lost - self.patience, self.tiles)
            for box, frame, lost in zip(sure, frames, state.lost.tolist(), strict=True)
        ]
        counts = [len(boxes) for boxes in tiles]
        rows = [i for i, count in enumerate(counts) for _ in range(count)]
        moved = self.tracker.move_to(inner.select(rows), torch.cat(tiles))
        region = self.tracker.crop_search(moved, [frames[i] for i in rows])
        candidates = self.tracker.forward(moved, region).candidates
        best = candidates.scores.max(dim=1)
        packed = torch.cat([candidates.boxes_at(best.indices), best.values[:, None]], dim=1).cpu().double()
        boxes = region.to_image(packed[:, :4])
        peaks = torch.where((boxes[:, 2:] > 1).all(dim=1), packed[:, 4], 0.0)
        boxes = torch.where(peaks[:, None] > 0, boxes, torch.cat(tiles))
        # A step of the tracker around the best of these, which gives their expected overlaps.
        best_tiles = [part.topk(min(self.looks, len(part))).indices for part in peaks.split(counts)]
        rows = [i for i, part in enumerate(best_tiles) for _ in part]
        places = torch.cat([part[index] for part, index in zip(boxes.split(counts), best_tiles, strict=True)])
        placed = self.tracker.move_to(inner.select(rows), places)
        looked = ConfidenceState(placed, state.sure_memory[rows], state.track.colours[rows])
        _, _, features = measured_step(self.tracker, looked, [frames[i] for i in rows])
        expected = self.calibration(features).split([len(part) for part in best_tiles])
        chosen = [sum(map(len, best_tiles[:i])) + int(part.argmax()) for i, part in enumerate(expected)]
        return replace(state, rival=looked.select(chosen))

    def _compare(self, state: ReacquireState, frames: Frames) -> ReacquireState:
        """Follow the rival for a frame; one that has passed its trial changes places with the track."""
        rival, prediction, features = measured_step(self.tracker, state.rival, frames)
        scores, peaks = self.calibration(features), features[:, 0].sigmoid()
        sums = torch.stack([scores.double(), peaks], dim=1)
        evidence, trial = torch.where(state.trial[:, None] > 0, state.evidence, 0.0) + sums, state.trial + 1
        expected, peak = (evidence / trial[:, None]).unbind(dim=1)
        usual = state.sure_memory[:, 0].sigmoid()
        passed = (expected >= TRACKED) & ((peak >= usual) | (state.watch > 0))
        trial = torch.where(passed, trial, 0)
        state = replace(state, rival=rival, trial=trial, evidence=evidence)
        none = torch.zeros_like(trial)
        changed = replace(
            state,
            track=rival,
            rival=state.track,
            lost=none,
            trial=none,
            watch=none + self.probation,
            scores=scores,
            raw_scores=prediction.scores,
            boxes_xywh=prediction.boxes_xywh,
        )
        due = (trial >= self.confirm) & (scores >= TRACKED)
        return update_rows(state, due, lambda part, rows: changed.select(rows))


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
    counts = [(end, max(1, math.ceil(end / step))) for end in reversed(size_hw)]
    x, y = ((torch.arange(n, dtype=torch.float64) + 0.5) * end / n for end, n in counts)
    centres = torch.cartesian_prod(x, y)
    order = (centres - box_xywh[:2] - box_xywh[2:] / 2).norm(dim=1).argsort(stable=True)
    parts = order.split(most)
    chosen = centres[parts[turn % len(parts)]]
    return torch.cat([chosen - box_xywh[2:] / 2, box_xywh[2:].expand_as(chosen)], dim=1)
