"""From uint8 crops to what networks read; the one place where it is done, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.data.types import Batch


class Normalise(nn.Module):
    """``(x / 255 - mean) / std`` per channel, after an optional brightness factor.

    mean, std: one value per RGB channel (used for the aux picture too), or six. brighten_aux: whether the brightness
    factor applies to the aux picture as well. dtype: of the result; the arithmetic is float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        brighten_aux: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", _six(mean, "mean"), persistent=False)
        self.register_buffer("std", _six(std, "std"), persistent=False)
        self.brighten_aux = brighten_aux
        self.dtype = dtype

    def forward(self, crops: Tensor, gain: Tensor | None = None) -> Tensor:
        """crops: uint8 [..., C, H, W], C = 3 or 6, on any device. gain: [...] brightness factors or None.

        With a gain the picture is ``clamp(crops * gain / 255, 0, 1)`` before mean and std. Returns the same shape.
        """
        channels = crops.shape[-3]
        if channels not in (3, 6):
            raise ValueError(f"crops [..., C, H, W] with C = 3 or 6 were expected, not shape {tuple(crops.shape)}")
        x = crops.to(torch.float32, copy=True)
        if gain is None:
            x.div_(255)
        else:
            self._brighten(x, gain.to(x))
        x.sub_(self.mean[:channels].to(x)).div_(self.std[:channels].to(x))
        return x.to(self.dtype)

    def _brighten(self, x: Tensor, gain: Tensor) -> None:
        scale = (gain / 255)[..., None, None, None]
        if x.shape[-3] == 6 and not self.brighten_aux:
            x[..., :3, :, :].mul_(scale)
            x[..., 3:, :, :].div_(255)
        else:
            x.mul_(scale)
        x.clamp_(0, 1)


def normalise_batch(batch: Batch, normalise: Normalise) -> Batch:
    """The batch with float crops, its brightness factors applied."""
    return replace(
        batch,
        template=normalise(batch.template, batch.template_gain),
        search=normalise(batch.search, batch.search_gain),
    )


def _six(values: Sequence[float], name: str) -> Tensor:
    if len(values) not in (3, 6):
        raise ValueError(f"{name} needs 3 or 6 values, one per channel, not {len(values)}")
    return torch.tensor([*values, *values][:6], dtype=torch.float32).reshape(6, 1, 1)
