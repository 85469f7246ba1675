"""The target's place in a map of scores, and whether it can be trusted (ATOM, CVPR 2019, sec. 3.4; DiMP, ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from lib.ranges import NotNegative


class Flag(IntEnum):
    """What a map of scores shows: a target, one next to a distractor, one that may be the distractor, or none."""

    NORMAL = 0
    HARD_NEGATIVE = 1
    UNCERTAIN = 2
    NOT_FOUND = 3


@dataclass(frozen=True)
class LocalisationRules:
    """Thresholds by which score maps are read; TrDiMP's values.

    Attributes:
        advanced_localization: Look for distractors; without it the highest score is the target.
        target_not_found_threshold: Least score of a target.
        distractor_threshold: A second peak above this share of the first one may be the target.
        hard_negative_threshold: A second peak above this share of the first one is a hard negative.
        target_neighborhood_scale: Side of the first peak's surroundings in units of the target's.
        displacement_scale: A target moves by less than this share of half the map.
    """

    advanced_localization: bool = True
    target_not_found_threshold: NotNegative = 0.25
    distractor_threshold: NotNegative = 0.8
    hard_negative_threshold: NotNegative = 0.5
    target_neighborhood_scale: NotNegative = 2.2
    displacement_scale: NotNegative = 0.8

    def localise(self, scores: Tensor, sides_hw: Tensor, previous_yx: Tensor) -> tuple[Tensor, Tensor]:
        """Find the target, and tell it from a distractor: a second peak outside its surroundings.

        Of two similar peaks the target is the one near its last place; if both are near or both far, it is uncertain.

        Args:
            scores: [B, g, g] on the CPU.
            sides_hw: [B, 2] of the targets, in cells.
            previous_yx: [B, 2] where the targets were, in cells from the map's middle cell.

        Returns:
            Displacements [B, 2] y, x in cells from the middle one, and `Flag` [B] int64. Scores with NaN find nothing.
        """
        side = scores.shape[-1]
        is_finite = scores.isfinite().flatten(1).all(dim=1)
        scores = torch.where(is_finite[:, None, None], scores, -torch.inf)
        first, at = _peak(scores)
        moved = (at - side // 2).to(previous_yx)
        if not self.advanced_localization:
            return moved, torch.where(is_finite, Flag.NORMAL, Flag.NOT_FOUND)
        # The second peak, outside the surroundings of the first.
        surroundings = self.target_neighborhood_scale * sides_hw
        low = (at - surroundings / 2).round().clamp(min=0)
        high = (at + surroundings / 2 + 1).round().clamp(max=side)
        cells = torch.arange(side)
        near = (cells >= low[..., None]) & (cells < high[..., None])
        second, other = _peak(torch.where(near[:, 0, :, None] & near[:, 1, None, :], 0.0, scores))
        other_moved = (other - side // 2).to(previous_yx)
        # Neither near nor far at exactly the bound, as published.
        bound = self.displacement_scale * side / 2
        distances = [(d - previous_yx).square().sum(dim=1).sqrt() for d in (moved, other_moved)]
        is_far, other_is_far = (d > bound for d in distances)
        is_near, other_is_near = (d < bound for d in distances)
        is_similar = second > self.distractor_threshold * first
        switched = is_similar & other_is_near & is_far
        told_apart = (other_is_far & is_near) | switched
        is_hard = (second > self.hard_negative_threshold * first) & (second > self.target_not_found_threshold)
        among_similar = torch.where(told_apart, Flag.HARD_NEGATIVE, Flag.UNCERTAIN)
        flags = torch.where(is_similar, among_similar, torch.where(is_hard, Flag.HARD_NEGATIVE, Flag.NORMAL))
        flags = torch.where(first < self.target_not_found_threshold, Flag.NOT_FOUND, flags)
        switched = switched & (flags != Flag.NOT_FOUND)
        return torch.where(switched[:, None], other_moved, moved), flags


def _peak(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score [B] of maps [B, g, g] and its cell [B, 2] y, x; among equals the first of the first column."""
    highest, index = scores.transpose(1, 2).flatten(1).max(dim=1)
    side = scores.shape[-1]
    return highest, torch.stack([index % side, index // side], dim=1)
