"""Online learning: sample memory and its weights, localisation in score maps, crops of the first frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.track import FirstFrameAugment, Flag, LocalisationRules, SampleMemory


def memory_of(count: int, capacity: int = 6) -> SampleMemory:
    """A row with `count` samples of the first frame."""
    features = torch.arange(count, dtype=torch.float32)[None, :, None, None, None].expand(1, count, 2, 3, 3)
    return SampleMemory.init(features, torch.zeros(1, count, 4), capacity)


def added(memory: SampleMemory, rows: list[int], value: float, rate: float = 0.1) -> SampleMemory:
    sample = torch.full((len(rows), 2, 3, 3), value)
    return memory.add(rows, sample, torch.full((len(rows), 4), value), torch.full((len(rows),), rate), 0.25)


def test_rows_of_different_ages_are_what_they_are_alone() -> None:
    old, young = memory_of(3), memory_of(2)
    for value in range(10, 16):
        old = added(old, [0], value)
    both = SampleMemory.cat([old, young])
    joint = added(both, [0, 1], 20.0)
    for row, alone in enumerate((added(old, [0], 20.0), added(young, [0], 20.0))):
        assert torch.equal(joint.weights[row], alone.weights[0])
        assert torch.equal(joint.features.read(row), alone.features.read(0))
        assert torch.equal(joint.boxes_xywh[row], alone.boxes_xywh[0])
    features, boxes, weights = joint.samples([0, 1])
    assert features.shape[:2] == boxes.shape[:2] == weights.shape == (2, 6)
    assert not weights[1, 3:].any()
    assert torch.equal(features[1, :3], added(young, [0], 20.0).samples([0])[0][0])


def test_samples_of_the_first_frame_stay_and_keep_their_share() -> None:
    memory = memory_of(3)
    for value in range(10, 30):
        memory = added(memory, [0], value, rate=0.3)
        assert 1 - 1e-6 < float(memory.weights.sum()) < 1.05
        assert float(memory.weights[0, :3].sum()) >= 0.25 - 1e-6
    assert memory.features.read(0)[:3, 0, 0, 0].tolist() == [0, 1, 2]
    assert {*memory.features.read(0)[3:, 0, 0, 0].tolist()} <= {*range(24, 30)}


def test_an_older_memory_keeps_its_samples() -> None:
    before = memory_of(2)
    added(before, [0], 9.0)
    assert before.features.read(0)[:, 0, 0, 0].tolist() == [0, 1, 0, 0, 0, 0]
    assert before.weights[0].tolist() == [0.5, 0.5, 0, 0, 0, 0]


def peaks(*cells: tuple[int, int, float]) -> Tensor:
    scores = torch.zeros(23, 23)
    for y, x, value in cells:
        scores[y, x] = value
    return scores


CASES = {
    "alone": (peaks((13, 9, 0.8)), (2, -2), Flag.NORMAL),
    "too low": (peaks((13, 9, 0.2)), (2, -2), Flag.NOT_FOUND),
    "another peak nearby is the target's": (peaks((13, 9, 0.8), (14, 9, 0.7)), (2, -2), Flag.NORMAL),
    "something else": (peaks((13, 9, 0.8), (2, 9, 0.5)), (2, -2), Flag.HARD_NEGATIVE),
    "a rival out of reach": (peaks((11, 11, 0.8), (0, 0, 0.7)), (0, 0), Flag.HARD_NEGATIVE),
    "the highest out of reach": (peaks((0, 0, 0.8), (11, 12, 0.7)), (0, 1), Flag.HARD_NEGATIVE),
    "two of a kind": (peaks((11, 6, 0.8), (11, 16, 0.7)), (0, -5), Flag.UNCERTAIN),
    "not a number": (peaks((13, 9, float("nan"))), None, Flag.NOT_FOUND),
}


@pytest.mark.parametrize("name", CASES)
def test_localisation(name: str) -> None:
    rules, sides = LocalisationRules(), torch.full((len(CASES), 2), 3.0)
    maps = torch.stack([scores for scores, _, _ in CASES.values()])
    moved, flags = rules.localise(maps, sides, torch.zeros(len(CASES), 2))
    row = list(CASES).index(name)
    alone = rules.localise(maps[row, None], sides[:1], torch.zeros(1, 2))
    assert torch.equal(alone[0][0], moved[row])
    assert int(alone[1]) == int(flags[row]) == CASES[name][2]
    if CASES[name][1] is not None:
        assert tuple(moved[row].tolist()) == CASES[name][1]


def test_plain_localisation_takes_the_highest_score() -> None:
    rules = LocalisationRules(advanced_localization=False)
    moved, flags = rules.localise(CASES["too low"][0][None], torch.ones(1, 2), torch.zeros(1, 2))
    assert moved.tolist() == [[2, -2]]
    assert flags.tolist() == [Flag.NORMAL]


def test_crops_of_the_first_frame_show_the_target_where_it_was_moved_to() -> None:
    augment = FirstFrameAugment()
    assert (augment.crops, augment.samples) == (13, 15)
    patch = np.zeros((88, 88, 3), dtype=np.float32)
    patch[42:46, 42:46] = 100.0
    shifts = augment.shifts(44, np.random.default_rng(0).random(augment.draws))
    for crop, (y, x) in zip(augment.crop(patch, 44, shifts), shifts.tolist(), strict=True):
        rows, columns = (crop.sum(axis=(axis, 2)) for axis in (1, 0))
        middle = np.arange(44) + 0.5
        if abs(y) < 13 and abs(x) < 13:
            assert (rows * middle).sum() / rows.sum() == pytest.approx(22 + y, abs=0.05)
            assert (columns * middle).sum() / columns.sum() == pytest.approx(22 + x, abs=0.05)


def test_pairs_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"BLUR needs a list of pairs \[y, x\]"):
        FirstFrameAugment(blur=((3.0,),))
