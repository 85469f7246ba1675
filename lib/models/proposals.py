"""Boxes around a target with their densities, and the loss of a network that scores them (Danelljan et al., PrDiMP,
CVPR 2020, sec. 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Proposals:
    """P boxes per target.

    Attributes:
        boxes_xywh: [..., P, 4] in the unit of the targets.
        density: [..., P] probability density by which they were drawn.
        target_density: [..., P] probability density of the target, around the true box.
    """

    boxes_xywh: Tensor
    density: Tensor
    target_density: Tensor

    def select(self, rows: Tensor) -> Proposals:
        """Those of some targets, by their rows [M] int64."""
        return Proposals(self.boxes_xywh[rows], self.density[rows], self.target_density[rows])


def draw_proposals(
    boxes_xywh: Tensor,
    components: Tensor,
    normal: Tensor,
    sigmas: Sequence[Sequence[float]] = ((0.05, 0.05), (0.5, 0.5)),
    target_sigma: Sequence[float] = (0.05, 0.05),
) -> Proposals:
    """Draw boxes from a mixture of normal distributions of (dx / w, dy / h, d log w, d log h).

    Args:
        boxes_xywh: [..., 4] targets.
        components: [..., P] int64, the component that each box is drawn from.
        normal: [..., P, 4] standard normal numbers.
        sigmas: Standard deviations of places and of sizes, of each of the components, which are equally probable.
        target_sigma: Standard deviations of the target density.
    """
    spread = torch.stack([_deviations(normal, pair) for pair in sigmas])
    moved = normal * spread[components]
    size = boxes_xywh[..., None, 2:]
    centres = boxes_xywh[..., None, :2] + size / 2 + moved[..., :2] * size
    extent = size * moved[..., 2:].exp()
    density = torch.stack([_density(moved, s) for s in sigmas]).mean(dim=0)
    return Proposals(torch.cat([centres - extent / 2, extent], dim=-1), density, _density(moved, target_sigma))


def _deviations(like: Tensor, pair: Sequence[float]) -> Tensor:
    """[4] deviations of the four coordinates, by those of places and of sizes."""
    place, size = pair
    deviations = like.new_full((4,), place)
    deviations[2:] = size
    return deviations


def _density(moved: Tensor, sigma: Sequence[float]) -> Tensor:
    """[..., P] product of four normal densities of [..., P, 4]."""
    deviations = _deviations(moved, sigma)
    return (torch.exp(-((moved / deviations) ** 2) / 2) / (math.sqrt(2 * math.pi) * deviations)).prod(dim=-1)


def density_loss(scores: Tensor, proposals: Proposals) -> Tensor:
    """Kullback-Leibler divergence of the target density from exp(scores), up to a constant, by importance sampling.

    Args:
        scores: [..., P] of the proposals' boxes, logarithms of an unnormalised density.
        proposals: The boxes' densities.

    Returns:
        The mean over all targets.
    """
    density, target = proposals.density, proposals.target_density
    normaliser = torch.logsumexp(scores - density.log(), dim=-1) - math.log(scores.shape[-1])
    return (normaliser - (scores * (target / density)).mean(dim=-1)).mean()
