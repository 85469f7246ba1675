"""From pictures to tokens: patches, overlapping convolutions, and the hierarchical stem of Fast-iTPN.

The stem of Fast-iTPN (Tian et al., TPAMI 2024) has small patches, perceptrons at two scales and two mergings. It has no
attention, so the tokens of a crop depend on that crop alone. Maps are channels-last, where a 1 x 1 convolution is a
linear layer and a norm over channels needs no transposition.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.blocks import EPS, DropPath
from lib.models.layers.conv_norm import folded
from lib.models.layers.fused import FuseOptions, Product, fuse_module, fused_form_of


def sample_pictures(channels: int, size: int) -> Tensor:
    """Random pictures, the same ones at every call, for `sample_inputs` of networks.

    Returns:
        [2, channels, size, size] uint8.
    """
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8, generator=generator)


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row-major (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, (H / patch) * (W / patch), width]."""
        return self.proj(image).flatten(2).transpose(1, 2)


@fused_form_of(PatchEmbed, portable=True)
class FusedPatchEmbed(nn.Module):
    """One product for all patches, with normalisation in its weights when `options.pixels` is given.

    The product is always in float32: pixels are far from zero mean, and it is a small part of a network.
    """

    def __init__(self, layer: PatchEmbed, options: FuseOptions) -> None:
        super().__init__()
        self.patch, self.dtype, self.reads_pixels = layer.patch, options.dtype, options.pixels is not None
        weight, bias = (layer.proj.get_parameter(name).double() for name in ("weight", "bias"))
        if options.pixels is not None:
            mean, std, source = options.pixels.affine()
            weight = weight / std.to(weight)
            bias = bias - (weight * mean.to(weight)).sum(dim=(1, 2, 3))
            weight = weight[:, source]
        exact = replace(options, dtype=torch.float32)
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
        halves = []
        for inputs, outputs in itertools.pairwise(widths):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            halves.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)))
        self.proj = nn.Sequential(*halves, nn.Conv2d(width, width, 1))

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, (H / patch) * (W / patch), width]."""
        return self.proj(image).flatten(2).transpose(1, 2)


@fused_form_of(ConvStem, portable=True)
class FusedConvStem(nn.Module):
    """Batch norms inside the convolutions; it normalises pixels itself, since padding is zero after normalisation."""

    def __init__(self, stem: nn.Module, options: FuseOptions) -> None:
        super().__init__()
        self.dtype, self.normalise, self.reads_pixels = options.dtype, options.pixels, options.pixels is not None
        self.stem = copy.deepcopy(stem)
        for part in self.stem.modules():
            for (_, layer), (name, norm) in itertools.pairwise(list(part.named_children())):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    layer.weight, layer.bias = (nn.Parameter(t, requires_grad=False) for t in folded(layer, norm))
                    part.add_module(name, nn.Identity())
        self.stem.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W], float or uint8 pixels -> [B, (H / patch) * (W / patch), width]."""
        x = image if self.normalise is None else self.normalise(image)
        return self.stem(x.contiguous(memory_format=torch.channels_last)).to(self.dtype)


class ConvMlp(nn.Module):
    """Perceptron with a norm inside; weights are those of 1 x 1 convolutions, as in published files."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.ffn_ln = nn.LayerNorm(hidden, eps=EPS)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
        hidden = F.gelu(F.linear(x, self.fc1.weight.flatten(1), self.fc1.bias))
        return F.linear(self.ffn_ln(hidden), self.fc2.weight.flatten(1), self.fc2.bias)


class ConvBlock(nn.Module):
    """x += mlp(norm2(x)), through stochastic depth."""

    def __init__(self, width: int, mlp_ratio: float = 3.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = ConvMlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, H, W, C] -> [B, H, W, C]."""
        return x + self.drop_path(self.mlp(self.norm2(x)))


@fused_form_of(ConvBlock)
class FusedConvBlock(nn.Module):
    """A `ConvBlock` for inference, in place."""

    def __init__(self, block: ConvBlock, options: FuseOptions) -> None:
        super().__init__()
        mlp = block.mlp
        self.norm, self.inner = (fuse_module(norm, options) for norm in (block.norm2, mlp.ffn_ln))
        self.up = Product(mlp.fc1.weight.flatten(1), mlp.fc1.bias, options, "gelu")
        self.down = Product(mlp.fc2.weight.flatten(1), mlp.fc2.bias, options)

    def forward(self, x: Tensor) -> Tensor:
        """As `ConvBlock.forward`; overwrites x."""
        return x.add_(self.down(self.inner(self.up(self.norm(x)))))


class Merge(nn.Module):
    """Four neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.reduction = nn.Conv2d(width, 2 * width, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, H, W, C] -> [B, H / 2, W / 2, 2 C]."""
        return F.linear(neighbours(self.norm(x)), merging_weight(self.reduction), self.reduction.bias)


@fused_form_of(Merge)
class FusedMerge(nn.Module):
    """A `Merge` for inference."""

    def __init__(self, merge: Merge, options: FuseOptions) -> None:
        super().__init__()
        self.norm = fuse_module(merge.norm, options)
        self.reduction = Product(merging_weight(merge.reduction), merge.reduction.bias, options)

    def forward(self, x: Tensor) -> Tensor:
        """As `Merge.forward`."""
        return self.reduction(neighbours(self.norm(x)))


def neighbours(x: Tensor) -> Tensor:
    """[B, H, W, C] -> [B, H / 2, W / 2, 4 C]: rows, then columns, then channels."""
    h, w, c = x.shape[1:]
    return x.view(-1, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, h // 2, w // 2, 4 * c)


def merging_weight(convolution: nn.Conv2d) -> Tensor:
    """Weight [out, C, 2, 2] of a 2 x 2 convolution as one for `neighbours`, [out, 4 C]."""
    return convolution.weight.permute(0, 2, 3, 1).flatten(1)
