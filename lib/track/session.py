"""Targets in one video, for a user's own loop.

session = TrackerSession(tracker)
session.init(first_image, (x, y, w, h))
for image in images:
    box, score = session.update(image)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from lib.data import Box, Frame, Image
from lib.track.state import State
from lib.track.tracker import Prediction, Tracker


class TrackingError(RuntimeError):
    """A tracker that gave no finite box or score."""


class TrackerSession:
    """Holds the state of one video for a batch-first tracker. Boxes are x, y, w, h in image pixels.

    `init` and `update` are for one target, `start` and `step` for several, which are the rows of one batch.

    Attributes:
        tracker: The tracker.
        prediction: Of the last frame, with polygons and masks where they are requested of the tracker.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.prediction: Prediction | None = None
        self._state: State | None = None
        self._targets = 0

    @torch.no_grad()
    def start(self, image: Image | Frame, boxes_xywh: Sequence[Sequence[float]], aux: Image | None = None) -> None:
        """Start on a picture; may be called again to begin with other targets.

        Args:
            image: H x W x 3 uint8 in RGB order, or a `Frame`.
            boxes_xywh: [B, 4] targets, x, y, w, h in image pixels.
            aux: The picture of a second modality, of the same size.

        Raises:
            ValueError: A box or picture that cannot be tracked.
        """
        frame = as_frame(image, aux)
        boxes = torch.tensor([check_box(box, frame) for box in boxes_xywh], dtype=torch.float64).reshape(-1, 4)
        if not len(boxes):
            raise ValueError("not one box to start on")
        self._targets = len(boxes)
        self._state = self.tracker.init([frame] * self._targets, boxes)

    @torch.no_grad()
    def step(self, image: Image | Frame, aux: Image | None = None) -> Prediction:
        """Find the targets in the next picture.

        Args:
            image, aux: As in `start`.

        Returns:
            B boxes in image pixels, and B confidences, 0..1.

        Raises:
            RuntimeError: `start` or `init` was not called.
            TrackingError: A box or a score is not finite.
        """
        if self._state is None:
            raise RuntimeError("call init(image, box) before update(image)")
        self._state, prediction = self.tracker.step(self._state, [as_frame(image, aux)] * self._targets)
        for box, score in zip(prediction.boxes_xywh.tolist(), prediction.scores.tolist(), strict=True):
            check_prediction(box, score)
        self.prediction = prediction
        return prediction

    def init(self, image: Image | Frame, box_xywh: Sequence[float], aux: Image | None = None) -> None:
        """Start on one target.

        Args:
            image, aux: As in `start`.
            box_xywh: The target, x, y, w, h in image pixels.

        Raises:
            ValueError: A box or picture that cannot be tracked.
        """
        self.start(image, [box_xywh], aux)

    def update(self, image: Image | Frame, aux: Image | None = None) -> tuple[Box, float]:
        """Find the one target in the next picture.

        Args:
            image, aux: As in `start`.

        Returns:
            The box x, y, w, h in image pixels, and the confidence in it, 0..1.

        Raises:
            RuntimeError: `init` was not called.
            TrackingError: Box or score is not finite.
        """
        prediction = self.step(image, aux)
        x, y, w, h = prediction.boxes_xywh[0].tolist()
        return (x, y, w, h), float(prediction.scores[0])


def as_frame(image: Image | Frame, aux: Image | None = None) -> Frame:
    """A `Frame` of numpy pictures. Raises ValueError unless each is H x W x 3 uint8 and both have one size."""
    frame = image if isinstance(image, Frame) else Frame(image, aux)
    for name, picture in (("picture", frame.rgb), ("aux picture", frame.aux)):
        if picture is None and name != "picture":
            continue
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise ValueError(f"the {name} must be H x W x 3 uint8 in RGB order, not {found}")
    if frame.aux is not None and frame.aux.shape != frame.rgb.shape:
        raise ValueError(f"the aux picture is {frame.aux.shape[:2]} and the picture {frame.rgb.shape[:2]}, as H x W")
    return frame


def check_prediction(box_xywh: Sequence[float], score: float) -> None:
    """Check what a tracker gave for one target in one frame.

    Args:
        box_xywh: Box in image pixels.
        score: Confidence in it.

    Raises:
        TrackingError: One of the numbers is NaN or infinite.
    """
    if not all(map(math.isfinite, (*box_xywh, score))):
        box = ", ".join(f"{v:g}" for v in box_xywh)
        raise TrackingError(f"the tracker gave the box [{box}] with the score {score:g}; finite numbers are expected")


def check_box(box_xywh: Sequence[float], frame: Frame) -> Box:
    """The box as floats. Raises ValueError unless it is finite, has a size, and lies at least partly in the picture."""
    try:
        x, y, w, h = values = [float(v) for v in box_xywh]
    except (TypeError, ValueError):
        raise ValueError(f"the box must be four finite numbers x,y,w,h, not {box_xywh!r:.80}") from None
    height, width = frame.size_hw
    shown = ",".join(f"{v:g}" for v in values)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the box must be four finite numbers x,y,w,h, not {shown!r}")
    if w <= 0 or h <= 0:
        raise ValueError(f"the box {shown} (x,y,w,h) has no size; width and height must be above 0")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(f"the box {shown} (x,y,w,h) lies outside the picture, which is {width} x {height} pixels")
    return x, y, w, h
