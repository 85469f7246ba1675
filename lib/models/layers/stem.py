"""From pictures to tokens."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.models.layers.fused import FuseOptions, Product, folded


def sample_pictures(channels: int, size: int, rows: int = 2) -> Tensor:
    """Random uint8 pictures [rows, channels, size, size], the same ones at every call: for `sample_inputs`."""
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (rows, channels, size, size), dtype=torch.uint8, generator=generator)


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row-major (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, (H / patch) * (W / patch), width]."""
        return self.proj(image).flatten(2).transpose(1, 2)

    def fuse_for_inference(self, plan: FuseOptions) -> FusedPatchEmbed:
        """For inference; see `lib.models.layers.fused`."""
        return FusedPatchEmbed(self.proj, plan)


class FusedPatchEmbed(nn.Module):
    """One product for all patches, with normalisation in its weights when `plan.pixels` is given.

    The product is always in float32: pixels are far from zero mean, and it is a small part of a network.
    """

    def __init__(self, proj: nn.Conv2d, plan: FuseOptions) -> None:
        super().__init__()
        self.patch = proj.kernel_size[0]
        self.dtype = plan.dtype
        self.reads_pixels = plan.pixels is not None
        weight, bias = proj.weight.double(), proj.bias
        assert bias is not None
        bias = bias.double()
        if plan.pixels is not None:
            mean, std = (v[:3].to(weight) for v in (plan.pixels.mean, plan.pixels.std))
            weight = weight / (255.0 * std)
            bias = bias - (weight * (255.0 * mean)).sum(dim=(1, 2, 3))
        exact = replace(plan, dtype=torch.float32)
        self.product = Product(weight.flatten(1).float(), bias.float(), exact)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W], float or uint8 pixels -> [B, (H / patch) * (W / patch), width]."""
        c, h, w = image.shape[1:]
        p = self.patch
        # -1 for the number of rows: exporters fix a number that is computed.
        patches = image.view(-1, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)
        rows = torch.empty(patches.shape, dtype=torch.float32, device=image.device).copy_(patches)
        return self.product(rows.view(-1, (h // p) * (w // p), c * p * p)).to(self.dtype)


class ConvStem(nn.Module):
    """Overlapping 3 x 3 convolutions of stride 2 down to the patch grid (Xiao et al., NeurIPS 2021).

    A small network that starts from random weights learns to match template and search region much sooner with it:
    patches that do not overlap look different wherever the target lies on the grid.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        halvings = patch.bit_length() - 1
        if patch != 2**halvings or halvings < 1:
            raise ValueError(f"a convolutional stem needs a stride that is a power of 2, not {patch}")
        widths = [3, *(max(8, width >> i) for i in range(halvings - 1, -1, -1))]
        self.proj = nn.Sequential(
            *(self._halve(a, b) for a, b in itertools.pairwise(widths)), nn.Conv2d(width, width, 1)
        )

    @staticmethod
    def _halve(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, (H / patch) * (W / patch), width]."""
        return self.proj(image).flatten(2).transpose(1, 2)

    def fuse_for_inference(self, plan: FuseOptions) -> FusedConvStem:
        """For inference; see `lib.models.layers.fused`."""
        return FusedConvStem(self.proj, plan)


class FusedConvStem(nn.Module):
    """Batch norm inside the convolutions; it normalises pixels itself, since padding is zero after normalisation."""

    def __init__(self, proj: nn.Sequential, plan: FuseOptions) -> None:
        super().__init__()
        self.dtype = plan.dtype
        self.normalise = plan.pixels
        self.reads_pixels = plan.pixels is not None
        layers: list[nn.Module] = []
        for layer in proj:
            if isinstance(layer, nn.Sequential):
                layers += [_with_norm(layer[0], layer[1]), nn.ReLU(inplace=True)]
            else:
                layers.append(copy.deepcopy(layer))
        self.proj = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W], float or uint8 pixels -> [B, (H / patch) * (W / patch), width]."""
        x = image if self.normalise is None else self.normalise(image)
        return self.proj(x.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2).to(self.dtype)


def _with_norm(convolution: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    twin = copy.deepcopy(convolution)
    weight, bias = folded(convolution, norm)
    twin.weight, twin.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return twin
