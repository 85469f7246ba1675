"""States whose rows enter and leave a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lib.track import State


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
