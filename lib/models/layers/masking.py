"""Complementary masked patches: no place is hidden in both modalities (SDSTrack, CVPR 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PatchMasks:
    """Patches that are hidden, RGB first.

    Attributes:
        template: [B, 2, Nz] bool.
        search: [B, 2, Nx] bool.
    """

    template: Tensor
    search: Tensor


@dataclass(frozen=True)
class MaskRates:
    """Shares of patches to hide.

    Attributes:
        rgb: Of all RGB patches.
        aux: Of the patches of the second modality whose RGB patch is visible.
    """

    rgb: float = 0.3
    aux: float = 0.3

    def masks(self, rgb: Tensor, aux: Tensor) -> Tensor:
        """Masks of one picture's patches.

        Args:
            rgb, aux: Uniform draws in [0, 1), [B, N].

        Returns:
            [B, 2, N] bool, RGB first.
        """
        hidden = rgb < self.rgb
        return torch.stack([hidden, ~hidden & (aux < self.aux)], dim=1)

    def draw(self, batch: int, template: int, search: int, device: torch.device) -> PatchMasks:
        """Fresh masks, drawn on the device: template first, RGB first.

        Args:
            batch: Number of samples.
            template, search: Numbers of patches.
            device: Of the masks.
        """
        pairs = [[torch.rand(batch, n, device=device) for _ in range(2)] for n in (template, search)]
        return PatchMasks(*(self.masks(rgb, aux) for rgb, aux in pairs))


def hide(tokens: Tensor, hidden: Tensor) -> Tensor:
    """Tokens with zeros where they are hidden.

    Args:
        tokens: [..., N, C].
        hidden: [..., N] bool.

    Returns:
        [..., N, C].
    """
    return tokens.masked_fill(hidden[..., None], 0.0)
