"""The one place where pictures become network input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.data.types import Batch


class Normalise(nn.Module):
    """uint8 crops to normalised float32, on the device they are on.

    mean, std: per RGB channel, in units of 255; the aux picture of a six-channel crop takes the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(tuple(std)).view(-1, 1, 1), persistent=False)

    def forward(self, crops: Tensor, gain: Tensor | None = None) -> Tensor:
        """crops: [..., C, H, W] uint8. gain: [...] brightness factors; values are clipped to white after them."""
        repeats = crops.shape[-3] // self.mean.shape[0]
        mean, std = self.mean.repeat(repeats, 1, 1), self.std.repeat(repeats, 1, 1)
        x = crops.float()
        x = x / 255.0 if gain is None else (x * (gain[..., None, None, None] / 255.0)).clamp(0.0, 1.0)
        return (x - mean) / std


def normalise_batch(batch: Batch, normalise: Normalise) -> Batch:
    """The batch with float crops, brightness gains applied."""
    return replace(
        batch,
        template=normalise(batch.template, batch.template_gain),
        search=normalise(batch.search, batch.search_gain),
    )
