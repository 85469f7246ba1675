"""Scored boxes: the output of every box head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

FEATURE = "feature"
"""Map of `Candidates` that a network adds: what its head read."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes that a head proposes in each of B search regions, with their scores.

    N is the number of cells, row-major, or of anchors (several per cell), or 1 for a head that gives one box.

    Attributes:
        scores: [B, N] in 0..1, before any window.
        boxes: [B, N, 4] cx, cy, w, h in units of the search crop's side.
        maps: The head's own output by name, one row per search region, for losses and policies: `score_map`
            [B, 1, g, g], `size_map` and `offset_map` [B, 2, g, g] (centre head), `logits` [B, N, 2] (dense head),
            `corners` [B, 2, g * g] (corner head), `iterates` [B, I, N] scores under every iterate of a filter; and
            `feature` [B, C, g, g], what the head read, where the network adds it.
    """

    scores: Tensor
    boxes: Tensor
    maps: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def candidates(self) -> Candidates:
        """These: a network's output may consist of its candidates alone."""
        return self

    def with_maps(self, **maps: Tensor) -> Candidates:
        """These, with further maps."""
        return replace(self, maps={**self.maps, **maps})

    def boxes_at(self, index: Tensor) -> Tensor:
        """Boxes of one candidate per search region.

        Args:
            index: [B] int64.

        Returns:
            [B, 4] cx, cy, w, h.
        """
        return self.boxes.gather(1, index[:, None, None].expand(-1, 1, 4)).squeeze(1)

    def best_boxes(self) -> Tensor:
        """Boxes with the highest score, the first one among equals.

        Returns:
            [B, 4] cx, cy, w, h.
        """
        return self.boxes[:, 0] if self.scores.shape[1] == 1 else self.boxes_at(self.scores.argmax(dim=1))

    def select(self, rows: Tensor) -> Candidates:
        """Candidates of some search regions.

        Args:
            rows: [M] int64, their rows.
        """
        maps = {name: value[rows] for name, value in self.maps.items()}
        return Candidates(self.scores[rows], self.boxes[rows], maps)

    def chunk(self, parts: int) -> list[Candidates]:
        """Candidates of equal shares of the batch, in order."""
        names = list(self.maps)
        values = (self.scores, self.boxes, *self.maps.values())
        shares = zip(*(value.chunk(parts) for value in values), strict=True)
        return [Candidates(scores, boxes, dict(zip(names, maps, strict=True))) for scores, boxes, *maps in shares]

    @staticmethod
    def cat(parts: Sequence[Candidates]) -> Candidates:
        """Candidates of several batches as one.

        Args:
            parts: All of one head.
        """
        maps = {name: torch.cat([p.maps[name] for p in parts]) for name in parts[0].maps}
        return Candidates(torch.cat([p.scores for p in parts]), torch.cat([p.boxes for p in parts]), maps)
