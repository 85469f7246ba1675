"""Anchor boxes: their grid, their training targets, and the boxes that a network's output makes of them.

Anchors are in order of (shape, row, column), as maps [B, channels * shapes, g, g] of a head are (SiamRPN, CVPR 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.device import to_device
from lib.models.heads.candidates import Candidates
from lib.models.layers.numeric import at_least_float32

BLOCK = 3
"""Cells on either side of the target's that are background samples in a negative pair."""

LARGEST_CHANGE = 10.0
"""Logarithm of the largest factor between a box and its anchor: far beyond any picture, but penalties stay finite."""


def anchor_shapes(stride: int, ratios: Sequence[float], scales: Sequence[float]) -> list[tuple[float, float]]:
    """Widths and heights of anchors, whole multiples of a scale.

    Args:
        stride: Pixels of a cell; a shape of scale 1 covers about one cell.
        ratios: Heights over widths.
        scales: Sizes, in turn for every ratio.
    """
    shapes = []
    for ratio in ratios:
        width = int(math.sqrt(stride * stride / ratio))
        height = int(width * ratio)
        shapes += [(width * scale, height * scale) for scale in scales]
    return shapes


def anchor_grid(shapes: Sequence[tuple[float, float]], grid: int, stride: int, centre: float = 0.0) -> Tensor:
    """One anchor of every shape on every cell.

    Args:
        shapes: A widths and heights in pixels.
        grid: Cells along a side.
        stride: Pixels of a cell.
        centre: x and y of the middle cell, number ``grid // 2``.

    Returns:
        [A * grid * grid, 4] float32 cx, cy, w, h in pixels.
    """
    places = centre + (torch.arange(grid) - grid // 2) * float(stride)
    sizes = torch.tensor(shapes, dtype=torch.float32)
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    centres = torch.stack([columns, rows], dim=-1).expand(len(sizes), grid, grid, 2)
    return torch.cat([centres, sizes[:, None, None].expand_as(centres)], dim=-1).flatten(0, 2)


def anchor_candidates(cls: Tensor, loc: Tensor, anchors: Tensor) -> Candidates:
    """One candidate per anchor, its score the probability of the target.

    Args:
        cls: [B, 2 A, g, g] logits of background and target.
        loc: [B, 4 A, g, g] changes of the anchors: dx, dy in units of their sizes, dw, dh as logarithms.
        anchors: [N, 4] cx, cy, w, h in units of the search crop's side.

    Returns:
        N candidates with the maps ``cls`` [B, 2, N] and ``loc`` [B, 4, N].
    """
    cls, loc = cls.unflatten(1, (2, -1)).flatten(2), loc.unflatten(1, (4, -1)).flatten(2)
    changes, place = at_least_float32(loc).transpose(1, 2), anchors.to(at_least_float32(loc))
    centres = torch.addcmul(place[:, :2], changes[..., :2], place[:, 2:])
    sizes = changes[..., 2:].clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp() * place[:, 2:]
    boxes = torch.cat([centres, sizes], dim=-1)
    return Candidates(at_least_float32(cls[:, 1] - cls[:, 0]).sigmoid(), boxes, {"cls": cls, "loc": loc})


@dataclass(frozen=True)
class AnchorTargets:
    """Training targets of N anchors in each of B search regions.

    Attributes:
        labels: [B, N] int64, 1 for the target, 0 for the background, -1 for ignored.
        changes: [B, 4, N] from the anchors to the target, as `anchor_candidates` reads them.
        weights: [B, N] of the anchors in the box loss.
    """

    labels: Tensor
    changes: Tensor
    weights: Tensor


Keep = Callable[[Tensor, Tensor], Tensor]
"""(candidates [B, N] bool, numbers [B] int64) -> [B, N] bool, at most so many of each row's candidates."""


def keep_random(candidates: Tensor, counts: Tensor) -> Tensor:
    """Keep random candidates; their random numbers come from the CPU, so that they are the same for all devices.

    Args:
        candidates: [B, N] bool.
        counts: [B] int64, largest number of each row.

    Returns:
        [B, N] bool.
    """
    keys = to_device(torch.rand(candidates.shape), candidates.device).masked_fill(~candidates, 2.0)
    ranks = keys.argsort(dim=1).argsort(dim=1)
    return candidates & (ranks < counts[:, None])


@dataclass(frozen=True)
class AnchorMatcher:
    """Assigns training targets to anchors (SiamRPN++; the numbers are PySOT's).

    Attributes:
        shapes, stride, grid: See `anchor_grid`.
        centre: Pixel of the search crop on which the middle cell lies.
        thr_high, thr_low: An overlap above the first one is a match, below the second one background.
        pos_num, total_num: Kept matches, and kept anchors of a sample when all matches are there: the background has
            always ``total_num - pos_num``.
        neg_num: Kept anchors of a negative pair, around its target.
        keep: Chooses those that are kept.
    """

    shapes: Sequence[tuple[float, float]]
    stride: int
    grid: int
    centre: int
    thr_high: float = 0.6
    thr_low: float = 0.3
    pos_num: int = 16
    total_num: int = 64
    neg_num: int = 16
    keep: Keep = keep_random

    def anchors(self) -> Tensor:
        """[N, 4] cx, cy, w, h in pixels of the search crop."""
        return anchor_grid(self.shapes, self.grid, self.stride, self.centre)

    def overlaps(self, boxes_xywh: Tensor) -> Tensor:
        """Intersection over union of all anchors with each box.

        Args:
            boxes_xywh: [B, 4] in pixels of the search crop.

        Returns:
            [B, N].
        """
        anchors = to_device(self.anchors().to(boxes_xywh.dtype), boxes_xywh.device)
        low, high = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
        first, last = boxes_xywh[:, None, :2], (boxes_xywh[:, :2] + boxes_xywh[:, 2:])[:, None]
        shared = (torch.minimum(high, last) - torch.maximum(low, first)).clamp(min=0).prod(dim=-1)
        return shared / (anchors[:, 2:].prod(dim=-1) + boxes_xywh[:, 2:].prod(dim=1)[:, None] - shared)

    def __call__(self, boxes_xywh: Tensor, negative: Tensor | None = None) -> AnchorTargets:
        """Match anchors with targets.

        Args:
            boxes_xywh: [B, 4] in pixels of the search crop, inside of it or not; of no size where the target is absent,
                so that all anchors are ignored.
            negative: [B] bool, the box is of another target: its surroundings are background.
        """
        boxes = at_least_float32(boxes_xywh)
        present = (boxes[:, 2:] > 0).all(dim=1)
        none = torch.zeros_like(present) if negative is None else negative.to(boxes.device)
        boxes = torch.where(present[:, None], boxes, torch.ones_like(boxes))
        overlaps, block = self.overlaps(boxes), self._block(boxes)
        positive = (overlaps > self.thr_high) & (present & ~none)[:, None]
        background = torch.where(none[:, None], block, overlaps < self.thr_low) & present[:, None]
        counts = torch.where(none, self.neg_num, self.total_num - self.pos_num)
        positive = self.keep(positive, torch.full_like(counts, self.pos_num))
        background = self.keep(background, counts)
        labels = torch.where(positive, 1, torch.where(background, 0, -1))
        weights = positive / (positive.sum(dim=1, keepdim=True) + 1e-6)
        return AnchorTargets(labels, self._changes(boxes), weights.to(boxes))

    def _changes(self, boxes: Tensor) -> Tensor:
        """[B, 4, N] from all anchors to each box."""
        anchors = to_device(self.anchors().to(boxes.dtype), boxes.device)
        centres, sizes = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]
        moves = (centres[:, None] - anchors[:, :2]) / anchors[:, 2:]
        return torch.cat([moves, (sizes[:, None] / anchors[:, 2:]).log()], dim=-1).transpose(1, 2)

    def _block(self, boxes: Tensor) -> Tensor:
        """[B, N] bool, the cells around each box's centre, all anchors of them."""
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        cell = self.grid // 2 + ((centres - self.centre) / self.stride + 0.5).ceil()
        axis = torch.arange(self.grid, device=boxes.device)
        columns, rows = ((axis - cell[..., None]).abs() <= BLOCK).unbind(dim=1)
        block = (rows[:, :, None] & columns[:, None, :]).flatten(1)
        return block.repeat(1, len(self.shapes))
