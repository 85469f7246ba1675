"""From crops to what networks read: colour change, channel order, mean and standard deviation, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.data.types import Batch


class Normalise(nn.Module):
    """``(x / 255 - mean) / std`` per channel, after an optional change of colours.

    Attributes:
        mean, std: [6, 1, 1] in the order of `source`, RGB and auxiliary picture.
        source: For each of the six channels that the network reads, the channel of the crop; see DATA.CHANNELS.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], channels: str = "RGB", clip_colours: bool = True
    ) -> None:
        """Store the constants.

        Args:
            mean, std: One value per channel in the order that the network reads; three (used for the auxiliary picture
                too) or six.
            channels: Order in which the network reads each picture, RGB or BGR. Crops are always RGB.
            clip_colours: The result of a change of colours is kept in 0..255.
        """
        super().__init__()
        if channels not in ("RGB", "BGR"):
            raise ValueError(f"channels must be RGB or BGR, not {channels!r}")
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (3, 6):
                raise ValueError(f"{name} needs 3 or 6 values, one per channel, not {len(values)}")
            buffer = torch.tensor([*values, *values][:6], dtype=torch.float32).reshape(6, 1, 1)
            self.register_buffer(name, buffer, persistent=False)
        self.channels = channels
        self.source = (0, 1, 2, 3, 4, 5) if channels == "RGB" else (2, 1, 0, 5, 4, 3)
        self.clip_colours = clip_colours

    def affine(self) -> tuple[Tensor, Tensor, list[int]]:
        """The normalisation of an RGB picture, for folding it into a first layer.

        Returns:
            mean and std [3, 1, 1] float64 in grey levels 0..255, and source: channel c of the network's input is
            ``(pixels[source[c]] - mean[c]) / std[c]``. `source` is its own inverse.
        """
        return self.mean[:3].double() * 255, self.std[:3].double() * 255, list(self.source[:3])

    def of_aux(self) -> Normalise:
        """The normalisation of the auxiliary picture alone."""
        mean, std = self.mean[3:].flatten().tolist(), self.std[3:].flatten().tolist()
        return Normalise(mean, std, self.channels).to(self.mean.device)

    def forward(self, crops: Tensor, colour: Tensor | None = None) -> Tensor:
        """Normalise crops.

        Args:
            crops: [..., C, H, W] uint8 or float 0..255, C = 3 or 6, on any device.
            colour: [..., 3, 4] affine change of R, G, B, or None.

        Returns:
            The same shape, float32.
        """
        channels = crops.shape[-3]
        if channels not in (3, 6):
            raise ValueError(f"crops [..., C, H, W] with C = 3 or 6 were expected, not shape {tuple(crops.shape)}")
        x = crops.to(torch.float32, copy=True)
        if colour is None:
            x.div_(255)
        else:
            change = (colour.to(x) / 255)[..., None, None]
            for first in range(0, channels, 3):
                _recolour(x[..., first : first + 3, :, :], change)
            if self.clip_colours:
                x.clamp_(0, 1)
        if self.source[:3] != (0, 1, 2):
            x = x.unflatten(-3, (-1, 3)).flip(-3).flatten(-4, -3)
        return x.sub_(self.mean[:channels].to(x)).div_(self.std[:channels].to(x))


def _recolour(picture: Tensor, change: Tensor) -> None:
    """In place: [..., 3, H, W] by [..., 3, 4, 1, 1]; without mixing, exactly what one multiplication gives."""
    weights = [torch.stack([change[..., c, (c + s) % 3, :, :] for c in range(3)], dim=-3) for s in range(3)]
    offset = change[..., 3, :, :]
    # On other devices looking would mean waiting for them; zeros change nothing.
    ahead = change.device.type != "cpu"
    mixing = [s for s in (1, 2) if ahead or bool(weights[s].any())]
    source = picture.clone() if mixing else picture
    picture.mul_(weights[0])
    for shift in mixing:
        picture.addcmul_(source.roll(-shift, dims=-3), weights[shift])
    if ahead or bool(offset.any()):
        picture.add_(offset)


def normalise_batch(batch: Batch, normalise: Normalise) -> Batch:
    """The batch with float crops, its change of colours applied."""
    return replace(
        batch,
        template=normalise(batch.template, batch.template_colour),
        search=normalise(batch.search, batch.search_colour),
        template_colour=None,
        search_colour=None,
    )
