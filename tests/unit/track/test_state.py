"""States whose rows enter and leave a batch: stores that rows share, random numbers per row, gradients in a step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed import HashStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.bench import Result, Runner, Summary, Team, WorkQueue
from lib.data import Frame, Video
from lib.track import Prediction, Slots, State, Tracker, row_noise, sequence_keys, update_rows


@dataclass
class Inner(State):
    filters: torch.Tensor


@dataclass
class Whole(State):
    boxes: torch.Tensor
    counts: np.ndarray
    memory: list[str]
    inner: Inner
    mask: torch.Tensor | None = None


def whole(*rows: int) -> Whole:
    return Whole(
        torch.tensor([[float(r)] * 4 for r in rows]),
        np.array(rows),
        [f"m{r}" for r in rows],
        Inner(torch.tensor(rows)),
    )


def test_select_then_cat_gives_the_rows_back() -> None:
    state = whole(0, 1, 2)
    again = Whole.cat([state.select([2]), state.select([0, 1])])
    assert again.boxes[:, 0].tolist() == [2, 0, 1]
    assert again.counts.tolist() == [2, 0, 1]
    assert again.memory == ["m2", "m0", "m1"]
    assert again.inner.filters.tolist() == [2, 0, 1]
    assert again.mask is None


def test_select_leaves_the_state_as_it_was() -> None:
    state = whole(0, 1)
    state.select([1]).boxes[:] = 9
    assert state.boxes[1, 0] == 1


def test_a_field_that_only_some_states_have_is_an_error() -> None:
    first, second = whole(0), whole(1)
    second.mask = torch.ones(1, 3)
    with pytest.raises(TypeError, match="'mask' has different types"):
        Whole.cat([first, second])


def test_rows_that_are_due_are_updated_in_one_batch() -> None:
    state, seen, counting = whole(0, 1, 2), [], False

    def update(part: Whole, rows: list[int]) -> Whole:
        seen.append(rows)
        part = replace(part, boxes=part.boxes + 10, inner=Inner(part.inner.filters * 2), memory=["new"] * len(rows))
        return replace(part, counts=part.counts + 5) if counting else part

    after = update_rows(state, torch.tensor([True, False, True]), update)
    assert seen == [[0, 2]]
    assert after.boxes[:, 0].tolist() == [10, 1, 12]
    assert after.inner.filters.tolist() == [0, 1, 4]
    assert after.memory == ["new", "m1", "new"]
    assert after.counts is state.counts, "what an update leaves alone is not copied"
    counting = True
    assert update_rows(state, torch.tensor([True, False, True]), update).counts.tolist() == [5, 1, 7]
    assert state.counts.tolist() == [0, 1, 2]
    assert state.boxes[:, 0].tolist() == [0, 1, 2]
    assert update_rows(state, torch.zeros(3, dtype=torch.bool), update) is state


def stacked(slots: Slots, rows: list[int]) -> torch.Tensor:
    return torch.stack([slots.read(row) for row in rows])


def test_a_written_slot_is_new_in_the_new_state_and_old_in_the_old_one() -> None:
    first = Slots.of(torch.zeros(2, 3, 2).unbind())
    second = first.write([0, 1], [1, 2], torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    third = second.write([0], [1], torch.full((1, 2), 5.0))
    assert stacked(third, [0, 1])[..., 0].tolist() == [[0, 5, 0], [0, 0, 2]]
    assert stacked(second, [0, 1])[..., 0].tolist() == [[0, 1, 0], [0, 0, 2]]
    assert stacked(first, [0, 1])[..., 0].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert stacked(third, [0])[..., 0].tolist() == [[0, 5, 0]]


def test_two_rows_of_one_store_part_when_one_is_written() -> None:
    one = Slots.of([torch.zeros(2)])
    both = Slots([*one, *one])
    after = both.write([0, 1], [0, 0], torch.tensor([3.0, 4.0]))
    assert stacked(after, [0, 1]).tolist() == [[3, 0], [4, 0]]
    assert stacked(both, [0, 1]).tolist() == [[0, 0], [0, 0]]


# Trackers under the real runner


@dataclass
class MovingState(State):
    boxes: Tensor
    keys: Tensor
    steps: Tensor
    samples: Slots


class SampleTracker(Tracker[MovingState]):
    """Keeps a sample of every frame; refines its box by gradients, adds noise, and moves by its samples."""

    capacity, shape = 50, (512, 512)
    noise = staticmethod(functools.partial(row_noise, 7))

    def __init__(self) -> None:
        self.rows: list[int] = []

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> MovingState:
        count = len(frames)
        samples = Slots.of(torch.zeros(self.capacity, *self.shape) for _ in range(count))
        return MovingState(
            boxes_xywh, sequence_keys(frames, boxes_xywh), torch.zeros(count, dtype=torch.int64), samples
        )

    def step(self, state: MovingState, frames: Sequence[Frame]) -> tuple[MovingState, Prediction]:
        self.rows.append(len(frames))
        light = torch.tensor([float(f.rgb.mean()) for f in frames])
        slots = (state.steps % self.capacity).tolist()
        values = light[:, None, None].expand(-1, *self.shape)
        samples = state.samples.write(range(len(frames)), slots, values)
        kept = torch.tensor([float(samples.read(i)[:, 0, 0].sum()) for i in range(len(frames))])
        with torch.enable_grad():
            centre = state.boxes[:, 0].clone().requires_grad_()
            ((centre - kept.double()) ** 2).sum().backward()
        assert centre.grad is not None
        boxes = state.boxes + 0.01 * self.noise(state.keys, state.steps, (4,))
        boxes[:, 0] -= 0.1 * centre.grad
        after = replace(state, boxes=boxes, steps=state.steps + 1, samples=samples)
        return after, Prediction(boxes.clone(), torch.ones(len(frames)))


LENGTHS = {"a": 3, "b": 7, "c": 5, "d": 4, "e": 6, "f": 5}


def load(name: str) -> tuple[Video, int]:
    count, seen = LENGTHS[name], np.ones(LENGTHS[name], dtype=bool)
    rng = np.random.default_rng(ord(name))
    frames = [Frame(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)) for _ in range(count)]
    boxes = np.tile([4.0, 5.0, 8.0, 6.0], (count, 1))
    return Video(name, boxes, seen, seen, lambda i: frames[i], lambda i: f"{name}/{i}"), 0


def run(batch: int) -> tuple[dict[str, np.ndarray], SampleTracker]:
    found: dict[str, np.ndarray] = {}

    def keep(result: Result) -> Summary:
        found[result.name] = result.boxes_xywh
        return Summary()

    tracker = SampleTracker()
    work = WorkQueue(Team(HashStore()), list(LENGTHS), keep)
    Runner(tracker, load, work, batch, raise_errors=True).run()
    return found, tracker


class Allocations(TorchDispatchMode):
    """Sizes in bytes of the tensors that operations make, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.sizes += [t.nbytes for t in made if t.untyped_storage().data_ptr() not in given]
        return result


def test_a_step_with_gradients_noise_and_samples_gives_in_a_batch_what_it_gives_alone() -> None:
    """Rows enter at different frames, since the videos differ in length."""
    alone, _ = run(1)
    together, tracker = run(4)
    assert max(tracker.rows) == 4
    assert alone.keys() == together.keys() == LENGTHS.keys()
    for name, boxes in alone.items():
        np.testing.assert_array_equal(together[name], boxes)
        assert np.unique(boxes[:, 1]).size == len(boxes), "noise in every frame"
    assert len({float(boxes[1, 1]) for boxes in alone.values()}) == len(LENGTHS), "noise of every video's own"


def test_no_store_is_copied_while_rows_are_tracked_enter_and_leave() -> None:
    store, sample = 50 * 2**20, 2**20
    with Allocations() as made:
        _, tracker = run(4)
    assert max(tracker.rows) == 4
    large = [size for size in made.sizes if size > sample]
    assert large == [store] * len(LENGTHS), "one store per video, made when it starts"
    frames = sum(LENGTHS.values()) - len(LENGTHS)
    assert sum(size for size in made.sizes if size == sample) == frames * sample, "one old sample per frame and row"


def test_a_state_is_left_as_it_was_by_a_step() -> None:
    tracker, (video, _) = SampleTracker(), load("b")
    state = tracker.init([video.read_frame(0)], torch.tensor([[4.0, 5.0, 8.0, 6.0]], dtype=torch.float64))
    with torch.no_grad():
        state, _ = tracker.step(state, [video.read_frame(1)])
        before = stacked(state.samples, [0]).clone()
        _, first = tracker.step(state, [video.read_frame(2)])
        assert torch.equal(stacked(state.samples, [0]), before)
        _, again = tracker.step(state, [video.read_frame(2)])
    assert torch.equal(first.boxes_xywh, again.boxes_xywh)


def test_noise_depends_on_seed_sequence_and_frame_alone() -> None:
    keys, steps = torch.tensor([5, 9, 5]), torch.tensor([0, 3, 1])
    drawn = row_noise(1, keys, steps, (2, 3))
    assert drawn.shape == (3, 2, 3)
    assert torch.equal(row_noise(1, keys[1:2], steps[1:2], (2, 3))[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(row_noise(2, keys, steps, (2, 3)), drawn)
    assert row_noise(1, keys[:0], steps[:0], (2,)).shape == (0, 2)
    many = row_noise(1, keys, steps, (3, 1 << 13), normal=True)  # by threads
    assert torch.equal(many[1:2], row_noise(1, keys[1:2], steps[1:2], (3, 1 << 13), normal=True))
