"""Complementary masked patches: no place is hidden in both modalities (SDSTrack, CVPR 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PatchMasks:
    """Which patches are hidden. template: [B, 2, Nz] bool, search: [B, 2, Nx] bool; RGB first, then aux."""

    template: Tensor
    search: Tensor


@dataclass(frozen=True)
class MaskRates:
    """rgb: share of RGB patches that are hidden; aux: share of aux patches that are, where the RGB patch is not."""

    rgb: float = 0.3
    aux: float = 0.3

    def masks(self, rgb: Tensor, aux: Tensor) -> Tensor:
        """Uniform draws in [0, 1), both [B, N] -> [B, 2, N] bool."""
        hidden = rgb < self.rgb
        return torch.stack([hidden, ~hidden & (aux < self.aux)], dim=1)

    def draw(self, batch: int, template: int, search: int, device: torch.device) -> PatchMasks:
        """Fresh masks for `template` and `search` patches; drawn on the device, template first, RGB first."""
        pairs = [[torch.rand(batch, n, device=device) for _ in range(2)] for n in (template, search)]
        return PatchMasks(*(self.masks(rgb, aux) for rgb, aux in pairs))


def hide(tokens: Tensor, hidden: Tensor) -> Tensor:
    """Tokens [..., N, C] with zeros where hidden [..., N] is true."""
    return tokens.masked_fill(hidden[..., None], 0.0)
