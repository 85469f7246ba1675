"""Cells under a box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lib.models.losses import cells_under


def by_slices(box: list[float], grid: int, wrap: bool) -> np.ndarray:
    """The published way: a piece of a table of cell numbers."""
    x, y, w, h = box
    bounds = [math.ceil(v * grid) for v in (x, x + w, y, y + h)]
    for i in (0, 2):
        bounds[i + 1] += bounds[i] == bounds[i + 1]
    if not wrap:
        bounds = [max(b, 0) for b in bounds]
    found = np.zeros(grid * grid, dtype=bool)
    table = np.arange(grid * grid).reshape(grid, grid)
    found[table[bounds[2] : bounds[3], bounds[0] : bounds[1]].ravel()] = True
    return found


@pytest.mark.parametrize("wrap", [False, True])
def test_equal_to_cutting_a_table_of_cells(wrap: bool) -> None:
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-0.6, 1.2, (300, 2)), rng.uniform(0.001, 0.7, (300, 2))], axis=1)
    found = cells_under(torch.from_numpy(boxes), 12, wrap)
    for row, box in zip(found.numpy(), boxes.tolist(), strict=True):
        assert np.array_equal(row, by_slices(box, 12, wrap)), box


def test_a_tiny_box_has_one_cell_and_a_box_that_sticks_out_keeps_what_it_covers() -> None:
    boxes = torch.tensor([[0.51, 0.26, 0.01, 0.01], [-0.2, 0.0, 0.44, 0.49]])
    tiny, outside = cells_under(boxes, 8)
    assert tiny.nonzero().flatten().tolist() == [3 * 8 + 5]
    assert outside.view(8, 8)[:4, :2].all()
    assert outside.sum() == 8
    assert cells_under(boxes[1:], 8, wrap=True).sum() == 0
