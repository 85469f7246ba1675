"""What a box head gives, and boxes from dense maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BoxMaps:
    """Dense output of a box head over a g x g grid.

    boxes_cxcywh: [B, 4] in units of the search crop's side, decoded at the best cell of the plain score map.
    score_map: [B, 1, g, g] in 0..1. size_map: [B, 2, g, g] (w, h), offset_map: [B, 2, g, g] (x, y) in cells; both
    None for a head that gives its box directly.
    """

    boxes_cxcywh: Tensor
    score_map: Tensor
    size_map: Tensor | None = None
    offset_map: Tensor | None = None


def decode_cells(cells: Tensor, size_map: Tensor, offset_map: Tensor) -> Tensor:
    """Boxes [B, 4] cx, cy, w, h in units of the crop's side, at one cell per sample.

    cells: [B] int64, row-major. The centre is cell index + offset; there is no half-cell shift.
    """
    grid = size_map.shape[-1]
    picked = torch.cat([offset_map, size_map], dim=1).flatten(2).gather(2, cells[:, None, None].expand(-1, 4, 1))
    offset, size = picked.squeeze(2).split(2, dim=1)
    corner = torch.stack([cells % grid, cells.div(grid, rounding_mode="floor")], dim=1)
    return torch.cat([(corner + offset) / grid, size], dim=1)
