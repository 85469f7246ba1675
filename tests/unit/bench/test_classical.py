"""Reference trackers keep the contract of every tracker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from lib.bench import REFERENCES
from lib.data import Frame

START = torch.tensor([[60.0, 50.0, 30.0, 40.0], [90.0, 60.0, 30.0, 40.0]], dtype=torch.float64)


def _world() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)
    ground = cv2.resize(rng.randint(0, 120, (24, 32, 3), dtype=np.uint8), (320, 240))
    return ground, cv2.resize(rng.randint(80, 255, (8, 6, 3), dtype=np.uint8), (30, 40))


GROUND, TARGET = _world()


def _frames(i: int) -> list[Frame]:
    frames = []
    for x, y, w, h in START.int().tolist():
        picture = GROUND.copy()
        picture[y + i : y + i + h, x + 2 * i : x + 2 * i + w] = TARGET
        frames.append(Frame(picture))
    return frames


@pytest.mark.parametrize("name", ["static", "classical"])
def test_rows_are_independent_and_states_are_left_as_they_were(name: str) -> None:
    tracker = REFERENCES[name]()
    both = tracker.init(_frames(0), START)
    alone = tracker.init(_frames(0)[1:], START[1:])
    for i in range(1, 6):
        again, first = tracker.step(both, _frames(i))
        both, second = tracker.step(both, _frames(i))
        assert torch.equal(first.boxes_xywh, second.boxes_xywh)
        assert torch.equal(again.select([0]).boxes_xywh, both.select([0]).boxes_xywh)
        alone, one = tracker.step(alone, _frames(i)[1:])
        assert torch.equal(one.boxes_xywh, second.boxes_xywh[1:])
    assert second.boxes_xywh.dtype == torch.float64


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classical", "mil"])
def test_a_plain_target_is_followed(name: str) -> None:
    tracker = REFERENCES[name]()
    state = tracker.init(_frames(0), START)
    for i in range(1, 11):
        state, found = tracker.step(state, _frames(i))
    shift = found.boxes_xywh[:, :2] - START[:, :2]
    assert (shift - torch.tensor([20.0, 10.0])).abs().max() < 8


def test_the_static_box_never_moves() -> None:
    tracker = REFERENCES["static"]()
    state = tracker.init(_frames(0), START)
    _, found = tracker.step(state, _frames(9))
    assert torch.equal(found.boxes_xywh, START)


def test_an_old_state_of_opencvs_tracker_is_refused() -> None:
    tracker = REFERENCES["mil"]()
    state = tracker.init(_frames(0)[:1], START[:1])
    tracker.step(state, _frames(1)[:1])
    with pytest.raises(RuntimeError, match="stepped before"):
        tracker.step(state, _frames(1)[:1])


@pytest.mark.parametrize("box", [[10.0, 10.0, 0.0, 5.0], [10.0, 10.0, float("nan"), 5.0]])
def test_a_box_without_area_is_refused(box: list[float]) -> None:
    for name in REFERENCES:
        with pytest.raises(ValueError, match="finite x, y and positive w, h"):
            REFERENCES[name]().init(_frames(0)[:1], torch.tensor([box]))
