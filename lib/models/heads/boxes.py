"""What a box head gives, and boxes from dense maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BoxMaps:
    """Dense output of a box head over a g x g grid.

    boxes_cxcywh: [B, 4] in units of the search crop's side, decoded at the best cell of the plain score map.
    score_map: [B, 1, g, g] in 0..1. size_map: [B, 2, g, g] (w, h), offset_map: [B, 2, g, g] (x, y) in cells; both
    None for a head that gives its box directly. cell_boxes_cxcywh: [B, 4, g * g], the boxes of all cells, from heads
    that compute them together.
    """

    boxes_cxcywh: Tensor
    score_map: Tensor
    size_map: Tensor | None = None
    offset_map: Tensor | None = None
    cell_boxes_cxcywh: Tensor | None = None

    @property
    def per_cell(self) -> bool:
        """Whether there is a box for every cell, not just one."""
        return self.cell_boxes_cxcywh is not None or (self.size_map is not None and self.offset_map is not None)

    def boxes_at(self, cells: Tensor) -> Tensor:
        """Boxes [B, 4] cx, cy, w, h in units of the crop's side at one cell per sample; float32.

        cells: [B] int64, row-major. Raises ValueError for a head without maps of size and offset.
        """
        if self.cell_boxes_cxcywh is not None:
            return pick_cells(self.cell_boxes_cxcywh, cells)
        if self.size_map is None or self.offset_map is None:
            raise ValueError("this head gives one box, not one per cell")
        return decode_cells(cells, self.size_map.float(), self.offset_map.float())

    def select(self, rows: Tensor) -> BoxMaps:
        """The maps of these rows, [M] int64."""
        given = {f.name: v[rows] for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return BoxMaps(**given)

    @staticmethod
    def cat(parts: Sequence[BoxMaps]) -> BoxMaps:
        """The rows of all maps, which are of one head, under one another."""
        given = {f.name: [getattr(p, f.name) for p in parts] for f in fields(BoxMaps)}
        return BoxMaps(**{name: torch.cat(v) for name, v in given.items() if v[0] is not None})

    def chunk(self, parts: int) -> list[BoxMaps]:
        """The maps of equal shares of the batch, in order."""
        given = {f.name: v.chunk(parts) for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return [BoxMaps(**{name: v[i] for name, v in given.items()}) for i in range(parts)]


def pick_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """Values [B, K] of flat maps [B, K, N] at one cell per sample, cells [B] int64."""
    return maps.gather(2, cells[:, None, None].expand(-1, maps.shape[1], 1)).squeeze(2)


def decode_cells(cells: Tensor, size_map: Tensor, offset_map: Tensor) -> Tensor:
    """Boxes [B, 4] cx, cy, w, h in units of the crop's side, at one cell per sample.

    cells: [B] int64, row-major. The centre is cell index + offset; there is no half-cell shift.
    """
    grid = size_map.shape[-1]
    offset, size = pick_cells(torch.cat([offset_map, size_map], dim=1).flatten(2), cells).split(2, dim=1)
    corner = torch.stack([cells % grid, cells.div(grid, rounding_mode="floor")], dim=1)
    return torch.cat([(corner + offset) / grid, size], dim=1)
