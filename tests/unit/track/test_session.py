"""The one-target session: batch of one underneath, plain numbers on top, wrong input refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.data import Frame
from lib.track import Prediction, State, Tracker, TrackerSession, TrackingError


@dataclass
class Drift(State):
    boxes: Tensor


class DriftTracker(Tracker):
    """Moves every box by the brightness of the frame's first pixel."""

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> Drift:
        assert boxes_xywh.dtype == torch.float64
        return Drift(boxes_xywh)

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[State, Prediction]:
        assert isinstance(state, Drift)
        moved = state.boxes + torch.tensor([[float(f.rgb[0, 0, 0]), 0, 0, 0] for f in frames], dtype=torch.float64)
        return replace(state, boxes=moved), Prediction(moved, torch.full((len(frames),), 0.5))


def picture(value: int = 3) -> np.ndarray:
    return np.full((40, 60, 3), value, np.uint8)


def test_state_is_carried_from_frame_to_frame() -> None:
    session = TrackerSession(DriftTracker())
    session.init(picture(), (1, 2, 10.5, 8))
    assert session.update(picture(3)) == ((4, 2, 10.5, 8), 0.5)
    assert session.update(Frame(picture(2)))[0] == (6, 2, 10.5, 8)
    session.init(picture(), (0, 0, 5, 5))
    assert session.update(picture(1))[0] == (1, 0, 5, 5)


@pytest.mark.parametrize(("box", "score"), [(4.0, float("nan")), (float("inf"), 0.5)])
def test_a_prediction_that_is_not_finite_is_an_error(box: float, score: float) -> None:
    class Broken(DriftTracker):
        def step(self, state: State, frames: Sequence[Frame]) -> tuple[State, Prediction]:
            boxes = torch.tensor([[box, 2.0, 8.0, 9.0]], dtype=torch.float64)
            return state, Prediction(boxes, torch.tensor([score]))

    session = TrackerSession(Broken())
    session.init(picture(), (1, 2, 10.5, 8))
    with pytest.raises(TrackingError, match=rf"the box \[{box:g}, 2, 8, 9\] with the score {score:g}"):
        session.update(picture())


def test_wrong_input_is_refused() -> None:
    session = TrackerSession(DriftTracker())
    with pytest.raises(RuntimeError, match="init"):
        session.update(picture())
    for box, message in (
        ((70, 2, 5, 5), "60 x 40"),
        ((-5, 2, 5, 5), "outside"),
        ((1, 1, 0, 4), "no size"),
        ((1, 1, 4), "four"),
        ((1, 1, float("nan"), 4), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            session.init(picture(), box)
    with pytest.raises(ValueError, match="uint8"):
        session.init(picture().astype(np.float32), (1, 1, 4, 4))
    with pytest.raises(ValueError, match="aux"):
        session.init(picture(), (1, 1, 4, 4), aux=picture()[:20])
