"""Masked appearance transfer (Zhao et al., MAT, CVPR 2023): the network of the pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lib.models.backbones import MaskedAutoencoder, Reconstruction, to_pictures


class AppearanceTransfer(nn.Module):
    """A masked autoencoder of template and search region; module names are those of published checkpoints.

    Args:
        autoencoder: The encoder and decoder.
        mask_ratio: Share of hidden patches of either crop.
        mean, std: Normalisation of pictures, per channel of values in 0..1; kept with the weights.
    """

    pytorch_mean: Tensor
    pytorch_std: Tensor

    def __init__(
        self, autoencoder: MaskedAutoencoder, mask_ratio: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        # Published: the autoencoder is the only entry of a backbone.
        self.backbone = nn.ModuleDict({"model": autoencoder})
        self.mask_ratio = mask_ratio
        for name, values in (("pytorch_mean", mean), ("pytorch_std", std)):
            self.register_buffer(name, torch.tensor(values[:3]).view(1, 3, 1, 1))

    @property
    def autoencoder(self) -> MaskedAutoencoder:
        """The autoencoder, under its published name ``backbone.model``."""
        return cast("MaskedAutoencoder", self.backbone["model"])

    def forward(self, template: Tensor, search: Tensor, noise: tuple[Tensor, Tensor] | None = None) -> Reconstruction:
        """Predict both crops from their visible patches.

        Args:
            template: [B, 3, T, T], normalised.
            search: [B, 3, S, S], normalised.
            noise: [B, Nx] for the search region and [B, Nz] for the template: patches with the least noise are visible;
                None: Drawn here.
        """
        if noise is None:
            noise = self.autoencoder.draw_noise(len(search), search.device)
        return self.autoencoder(template, search, noise, self.mask_ratio)

    def pixels(self, normalised: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] -> values in 0..1, to be looked at."""
        return (normalised.float() * self.pytorch_std + self.pytorch_mean).clamp(0, 1)

    def predicted(self, patches: Tensor) -> Tensor:
        """Predicted patches [B, N, P] -> normalised pictures [B, 3, S, S]."""
        return to_pictures(patches, self.autoencoder.patch)
