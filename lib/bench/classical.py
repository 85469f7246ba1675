"""Baselines without learning: a box that never moves, and two classical trackers built on OpenCV.

`classical` is median flow on OpenCV's pyramidal optical flow: deterministic, and a row's result does not depend on
its batch. `mil` is the one tracker that OpenCV 5 ships which needs no model file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.data import Frame
from lib.registry import Registry
from lib.track import Prediction, State, Tracker, checked_boxes

REFERENCES: Registry[type[Tracker]] = Registry("reference tracker")

Points = NDArray[np.float32]


@dataclass
class BoxState(State):
    """State of a tracker that needs its boxes alone.

    Attributes:
        boxes_xywh: [B, 4] float64, image pixels.
    """

    boxes_xywh: Tensor


@REFERENCES.register("static")
class StaticTracker(Tracker):
    """Repeats the first box; the lower bound for any tracker."""

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> BoxState:
        """Keep the first boxes.

        Args:
            frames: B frames; only their number matters.
            boxes_xywh: [B, 4] target boxes, image pixels.
        """
        return BoxState(checked_boxes(frames, boxes_xywh))

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[BoxState, Prediction]:
        """Return the first boxes, with score 1.

        Args:
            state: What `init` returned.
            frames: B frames; only their number matters.
        """
        assert isinstance(state, BoxState)
        return state, Prediction(state.boxes_xywh.clone(), torch.ones(len(frames)))


@dataclass
class MilRow:
    """One sequence of `MilTracker`.

    Attributes:
        tracker: Live OpenCV object, which learns in place.
        seen: Number of frames that it was updated with; `MilState.steps` must agree with it.
    """

    tracker: cv2.TrackerMIL
    seen: int = 0


@dataclass
class MilState(State):
    """State of `MilTracker`.

    Attributes:
        rows: OpenCV tracker of each sequence.
        steps: [B] number of frames that this state was stepped with.
        boxes_xywh: [B, 4] float64, image pixels.
    """

    rows: list[MilRow]
    steps: Tensor
    boxes_xywh: Tensor


@REFERENCES.register("mil")
class MilTracker(Tracker):
    """Online multiple-instance learning (Babenko et al., CVPR 2009) of OpenCV; whole pixels, fixed size.

    OpenCV's object cannot be copied and learns in place, so a state can be stepped once. OpenCV seeds its samples by
    the clock, so that results differ a little from run to run, whatever the seed.
    """

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> MilState:
        """Create an OpenCV tracker per sequence; its first patch is cut within the picture, at whole pixels.

        Args:
            frames: B frames.
            boxes_xywh: [B, 4] target boxes, image pixels.
        """
        boxes = checked_boxes(frames, boxes_xywh)
        rows = []
        for frame, box in zip(frames, boxes.tolist(), strict=True):
            height, width = frame.size_hw
            x, y = min(max(round(box[0]), 0), width - 2), min(max(round(box[1]), 0), height - 2)
            w, h = max(2, min(round(box[2]), width - x)), max(2, min(round(box[3]), height - y))
            tracker = cv2.TrackerMIL.create()
            tracker.init(np.ascontiguousarray(frame.rgb[:, :, ::-1]), (x, y, w, h))
            rows.append(MilRow(tracker))
        return MilState(rows, torch.zeros(len(rows), dtype=torch.long), boxes)

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[MilState, Prediction]:
        """Return OpenCV's boxes with score 1; where it reports a loss, the last box with score 0.

        Args:
            state: What `init` or the previous `step` returned.
            frames: B frames.

        Raises:
            RuntimeError: The state was stepped before, so that its OpenCV objects have learnt from a later frame.
        """
        assert isinstance(state, MilState)
        boxes, scores = state.boxes_xywh.clone(), torch.ones(len(frames))
        for i, (row, frame) in enumerate(zip(state.rows, frames, strict=True)):
            if row.seen != int(state.steps[i]):
                raise RuntimeError("this state of the MIL tracker was stepped before; its OpenCV object has moved on")
            found, box = row.tracker.update(np.ascontiguousarray(frame.rgb[:, :, ::-1]))
            row.seen += 1
            if found:
                boxes[i] = torch.tensor(box, dtype=torch.float64)
            else:
                scores[i] = 0.0
        return replace(state, steps=state.steps + 1, boxes_xywh=boxes), Prediction(boxes.clone(), scores)


@dataclass
class FlowState(State):
    """State of `MedianFlowTracker`.

    Attributes:
        grey: Last frame of each sequence, [H, W] uint8.
        boxes_xywh: [B, 4] float64, image pixels.
    """

    grey: list[NDArray[np.uint8]]
    boxes_xywh: Tensor


@REFERENCES.register("classical", "median_flow")
class MedianFlowTracker(Tracker):
    """Median flow (Kalal et al., ICPR 2010): points tracked forward and backward, the reliable half votes.

    Attributes:
        grid: Points per side of the box.
        max_error: Median forward-backward error in pixels above which the target counts as lost.
    """

    grid = 10
    max_error = 10.0

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> FlowState:
        """Keep the grey first frames.

        Args:
            frames: B frames.
            boxes_xywh: [B, 4] target boxes, image pixels.
        """
        return FlowState([_grey(frame) for frame in frames], checked_boxes(frames, boxes_xywh))

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[FlowState, Prediction]:
        """Move boxes by the median flow, and scale them by the median change of distances between points.

        Args:
            state: What `init` or the previous `step` returned.
            frames: B frames.

        Returns:
            The next state, and boxes with the share of points that voted as score; where the target was lost, the
            last box with score 0.
        """
        assert isinstance(state, FlowState)
        grey = [_grey(frame) for frame in frames]
        boxes, scores = state.boxes_xywh.clone(), torch.zeros(len(frames))
        for i, (before, after) in enumerate(zip(state.grey, grey, strict=True)):
            moved = self._moved(before, after, state.boxes_xywh[i].numpy())
            if moved is not None:
                boxes[i], scores[i] = torch.from_numpy(moved[0]), moved[1]
        return FlowState(grey, boxes), Prediction(boxes.clone(), scores)

    def _moved(
        self, before: NDArray[np.uint8], after: NDArray[np.uint8], box: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float] | None:
        """The box [4] of the grey picture `after` and its score; None if the target was lost."""
        x, y = (box[i] + box[i + 2] * (np.arange(self.grid) + 0.5) / self.grid for i in (0, 1))
        start = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
        there, found_there = _flow(before, after, start)
        back, found_back = _flow(after, before, there)
        error = np.linalg.norm(back - start, axis=1)
        good = found_there & found_back
        if good.sum() < 8 or np.median(error[good]) > self.max_error:
            return None
        good &= error <= np.median(error[good])
        a, b = start[good].astype(np.float64), there[good].astype(np.float64)
        shift = np.median(b - a, axis=0)
        i, j = np.triu_indices(len(a), k=1)
        old, new = np.linalg.norm(a[i] - a[j], axis=1), np.linalg.norm(b[i] - b[j], axis=1)
        apart = old > 1e-6
        scale = float(np.median(new[apart] / old[apart])) if apart.any() else 1.0
        w, h = box[2] * scale, box[3] * scale
        if not np.isfinite([w, h]).all() or min(w, h) < 2:
            return None
        centre = box[:2] + box[2:] / 2 + shift
        if not ((centre > 0) & (centre < after.shape[::-1])).all():
            return None
        return np.array([*(centre - (w / 2, h / 2)), w, h]), float(good.mean())


def _flow(before: NDArray[np.uint8], after: NDArray[np.uint8], start: Points) -> tuple[Points, NDArray[np.bool_]]:
    """Pyramidal Lucas-Kanade flow of points between grey pictures.

    Args:
        before: [H, W] picture of the points.
        after: [H, W] next picture.
        start: [N, 2] points, pixels.

    Returns:
        [N, 2] points in the next picture, and [N] True for those that were found.
    """
    end, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, np.zeros_like(start), winSize=(11, 11), maxLevel=4)
    return np.asarray(end, dtype=np.float32), np.asarray(found).ravel() > 0


def _grey(frame: Frame) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame.rgb), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
