"""Conditional diffusion of a fused feature map (TGID of GDSTrack, IJCAI 2025, sec. 3.3).

In training, noise that is mixed with the fused map of a neighbouring frame is added to the fused map of the present
one, and the UNet learns to take it away; at test time it starts from noise alone, in one step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from lib.models.fusion.denoising_unet import DenoisingUNet, FusedUNet
from lib.models.layers.fused import FuseOptions, with_fused_children
from lib.ranges import Choice

STEPS = 1000
NoiseLevel = Annotated[str, Choice(("abar", "sqrt_abar"))]


def cosine_schedule(steps: int = STEPS, offset: float = 0.008, largest: float = 0.999) -> dict[str, Tensor]:
    """The cosine schedule (Nichol and Dhariwal, ICML 2021), under the names of published buffers.

    Args:
        steps: Number of time steps.
        offset: Of the cosine.
        largest: Bound of a step's noise.

    Returns:
        [steps] float64 each.
    """
    places = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((places + offset) / (1 + offset) * math.pi / 2) ** 2
    betas = (1 - (curve / curve[0])[1:] / (curve / curve[0])[:-1]).clamp(0, largest)
    alphas = 1 - betas
    after = alphas.cumprod(dim=0)
    before = torch.cat([after.new_ones(1), after[:-1]])
    variance = betas * (1 - before) / (1 - after)
    return {
        "betas": betas,
        "alphas_cumprod": after,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": after.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - after).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - after).log(),
        "sqrt_recip_alphas_cumprod": (1 / after).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / after - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - after),
        "posterior_mean_coef2": (1 - before) * alphas.sqrt() / (1 - after),
    }


@dataclass(frozen=True, slots=True)
class DiffusionDraws:
    """Random numbers of a training step.

    Attributes:
        steps: [B] int64, time steps.
        noise: [B, C, g, g], normal.
        mix: [B], uniform; below `MIXED` the noise is mixed with the distractor.
    """

    steps: Tensor
    noise: Tensor
    mix: Tensor

    @classmethod
    def draw(cls, fused: Tensor) -> DiffusionDraws:
        """Fresh ones for fused maps [B, C, g, g], on their device."""
        steps = torch.randint(STEPS, fused.shape[:1], device=fused.device)
        noise = torch.randn_like(fused, dtype=torch.float32)
        return cls(steps, noise, torch.rand(fused.shape[0], device=fused.device))


MIXED = 0.5
"""Share of samples whose noise is mixed, and share of the distractor in it."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Maps that the denoising depends on.

    Attributes:
        visible, infrared: [B, C, g, g], maps of the two modalities.
        graph: [B, D, g, g], map of the graph's first level.
    """

    visible: Tensor
    infrared: Tensor
    graph: Tensor


class Diffusion(nn.Module):
    """Adds noise to fused maps in training, and predicts them from noise at test time.

    Args:
        unet: Predicts the clean map.
        samples: Steps of a prediction.
        noise_level: The level that the UNet is given in a prediction: "abar" as published, or its root as in
            training.
    """

    alphas_cumprod: Tensor

    def __init__(self, unet: DenoisingUNet, samples: int = 1, noise_level: str = "abar") -> None:
        super().__init__()
        self.unet, self.samples, self.noise_level = unet, samples, noise_level
        self.register_buffer("alphas_cumprod", cosine_schedule()["alphas_cumprod"], persistent=False)

    def noised(self, fused: Tensor, distractor: Tensor, draws: DiffusionDraws) -> tuple[Tensor, Tensor]:
        """Add noise to fused maps.

        Args:
            fused, distractor: [B, C, g, g], of the present and of a neighbouring frame.
            draws: Random numbers.

        Returns:
            The noisy maps [B, C, g, g] float32, and their noise levels [B] float32.
        """
        mixed = (1 - MIXED) * draws.noise + MIXED * distractor
        mean, std = mixed.mean(dim=(1, 2, 3), keepdim=True), mixed.std(dim=(1, 2, 3), keepdim=True)
        which = (draws.mix < MIXED)[:, None, None, None]
        noise = torch.where(which, (mixed - mean) / (std + 1e-8), draws.noise)
        share = self.alphas_cumprod[draws.steps][:, None, None, None]
        noisy = share.sqrt() * fused + (1 - share).sqrt() * noise
        return noisy.float(), share.flatten().sqrt().float()

    def learn(
        self, fused: Tensor, distractor: Tensor, conditions: Conditions, draws: DiffusionDraws
    ) -> tuple[Tensor, Tensor]:
        """Predict the clean map from a noisy one, in float32 under autocast, too.

        As published, the error is that of the noise that was drawn, not of the mixed one, and weighs most at low noise
        levels.

        Args:
            fused, distractor, draws: See `noised`.
            conditions: Of the present frame.

        Returns:
            The clean map [B, C, g, g], and the sum of squared errors of the noise.
        """
        with torch.autocast(fused.device.type, enabled=False):
            given = fused, distractor, conditions.visible, conditions.infrared, conditions.graph
            fused, distractor, visible, infrared, graph = (x.float() for x in given)
            noisy, level = self.noised(fused, distractor, draws)
            maps = torch.cat([noisy, visible, infrared], dim=1)
            clean = self.unet(maps, visible, graph, self.unet.embed(level))
            share = self.alphas_cumprod[draws.steps][:, None, None, None]
            return clean, (draws.noise - noise_of(noisy, clean, share)).square().sum().float()

    def times(self) -> Iterator[tuple[int, int]]:
        """Time steps of a prediction: from and to; the last one goes to -1."""
        grid = np.linspace(-1, len(self.alphas_cumprod) - 1, self.samples + 1).astype(int)[::-1].tolist()
        return itertools.pairwise(grid)

    def level(self, time: int) -> Tensor:
        """The noise level that the UNet is given at a time step of a prediction, [1] float32."""
        share = self.alphas_cumprod[time : time + 1]
        return (share if self.noise_level == "abar" else share.sqrt()).float()

    def forward(self, conditions: Conditions, noise: Tensor, eta: float = 1.0) -> Tensor:
        """Predict the fused map from noise (DDIM, Song et al., ICLR 2021).

        Args:
            conditions: Of the present frame.
            noise: [B, samples, C, g, g], normal: the start, then what is added after each step but the last.
            eta: Share of fresh noise.

        Returns:
            [B, C, g, g].
        """
        x = clean = noise[:, 0]
        for i, (time, after) in enumerate(self.times(), start=1):
            maps = torch.cat([x.to(conditions.visible), conditions.visible, conditions.infrared], dim=1)
            embedding = self.unet.embed(self.level(time).to(maps))
            clean = self.unet(maps, conditions.visible, conditions.graph, embedding)
            if after >= 0:
                share, next_share = self.alphas_cumprod[time], self.alphas_cumprod[after]
                variance = eta**2 * (1 - share / next_share) * (1 - next_share) / (1 - share)
                kept = (1 - next_share - variance).sqrt() * noise_of(x, clean, share)
                x = (next_share.sqrt() * clean + kept + variance.sqrt() * noise[:, i]).to(noise)
        return clean

    def fuse_for_inference(self, options: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        if self.samples == 1 and not options.portable:
            return FusedDiffusion(self, options)
        twin = with_fused_children(self, options)
        twin.alphas_cumprod = self.alphas_cumprod
        return twin


def noise_of(noisy: Tensor, clean: Tensor, share: Tensor) -> Tensor:
    """The noise in a noisy map, of which the clean map has this share (abar, float64)."""
    return ((1 / share).sqrt() * noisy - clean) / (1 / share - 1).sqrt()


class FusedDiffusion(nn.Module):
    """A `Diffusion` of one step for inference: its noise level, which is known, is part of the UNet's biases."""

    def __init__(self, diffusion: Diffusion, options: FuseOptions) -> None:
        super().__init__()
        (time, _), *_ = diffusion.times()
        embedding = diffusion.unet.embed(diffusion.level(time).to(diffusion.unet.norm.get_parameter("weight")))
        self.unet = FusedUNet(diffusion.unet, options, embedding)

    def forward(self, conditions: Conditions, noise: Tensor) -> Tensor:
        """As `Diffusion.forward`."""
        maps = noise[:, 0].to(conditions.visible), conditions.visible, conditions.infrared
        joined = torch.cat([x.permute(0, 2, 3, 1) for x in maps], dim=3).permute(0, 3, 1, 2)  # channels-last
        return self.unet(joined, conditions.visible, conditions.graph)
