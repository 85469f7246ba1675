"""Where a token lies, in sines and cosines of its row and its column (DETR, Carion et al., ECCV 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0
EPS = 1e-6


def sine_code(grid: int, width: int) -> Tensor:
    """[grid * grid, width] float32, row-major: the first half of the channels tells the row, the other the column.

    Rows and columns count from 1 and are scaled to 2 pi; even channels are sines, odd ones cosines.
    """
    if width % 4:
        raise ValueError(f"a position code needs a width that is a multiple of 4, not {width}")
    half = width // 2
    places = torch.arange(1, grid + 1, dtype=torch.float32) / (grid + EPS) * (2 * math.pi)
    exponents = 2 * torch.arange(half).div(2, rounding_mode="floor") / half
    angles = places[:, None] / TEMPERATURE**exponents
    line = torch.where(torch.arange(half) % 2 == 0, angles.sin(), angles.cos())
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
