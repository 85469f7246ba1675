"""Which cells of a score map are to find a box: those under it (TransT, CVPR 2021, sec. 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def cells_under(boxes_xywh: Tensor, grid: int, wrap: bool = False) -> Tensor:
    """[B, N] bool, N = grid * grid, row-major: True where a cell's corner lies in its sample's box, for at least one
    row and column of cells.

    boxes_xywh: [B, 4] in units of the crop's side. wrap: bounds below zero count from the far side, as Python's slices
    do; so published training has it, where a box that sticks out to the left or the top mostly finds no cell at all.
    Otherwise bounds are clamped to the map.
    """
    centre, extent = boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2, boxes_xywh[:, 2:]
    low = ((centre - extent / 2) * grid).ceil().long()
    high = ((centre + extent / 2) * grid).ceil().long()
    high = torch.where(high == low, high + 1, high)
    if wrap:
        low, high = (torch.where(bound < 0, bound + grid, bound) for bound in (low, high))
    cells = torch.arange(grid, device=boxes_xywh.device)
    inside = (cells >= low.clamp(min=0)[..., None]) & (cells < high[..., None])
    columns, rows = inside.unbind(dim=1)
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)
