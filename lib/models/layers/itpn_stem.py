"""Hierarchical stem of Fast-iTPN (Tian et al., TPAMI 2024): small patches, perceptrons at two scales, two mergings.

Pictures become tokens without any attention, so what is computed of a crop depends on that crop alone. Maps are kept
with channels last, where a 1 x 1 convolution is a linear layer and a norm over channels needs no transposition.
"""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.drop_path import DropPath
from lib.models.layers.fused import FuseOptions, Product, ResidualProduct, with_fused_children
from lib.models.layers.scaled_block import EPS
from lib.models.layers.stem import FusedPatchEmbed, PatchEmbed


class ConvMlp(nn.Module):
    """Perceptron of 1 x 1 convolutions with a norm inside; weights have the shape of published files."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.ffn_ln = nn.LayerNorm(hidden, eps=EPS)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., width]."""
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
        """x: [B, H, W, C]."""
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def fuse_for_inference(self, plan: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, plan) if plan.portable else FusedConvBlock(self, plan)


class FusedConvBlock(nn.Module):
    """A `ConvBlock` for inference, in place."""

    def __init__(self, block: ConvBlock, plan: FuseOptions) -> None:
        super().__init__()
        mlp = block.mlp
        self.norm, self.inner = (copy.deepcopy(norm).to(plan.dtype) for norm in (block.norm2, mlp.ffn_ln))
        self.up = Product(mlp.fc1.weight.flatten(1), mlp.fc1.bias, plan, "gelu")
        self.down = ResidualProduct(mlp.fc2.weight.flatten(1), mlp.fc2.bias, plan)

    def forward(self, x: Tensor) -> Tensor:
        """As `ConvBlock.forward`; overwrites x."""
        return self.down(x, self.inner(self.up(self.norm(x))))


class Merge(nn.Module):
    """Four neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.reduction = nn.Conv2d(width, 2 * width, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, H, W, C] -> [B, H / 2, W / 2, 2 C]."""
        return F.linear(neighbours(self.norm(x)), merging_weight(self.reduction), self.reduction.bias)

    def fuse_for_inference(self, plan: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, plan) if plan.portable else FusedMerge(self, plan)


class FusedMerge(nn.Module):
    """A `Merge` for inference."""

    def __init__(self, merge: Merge, plan: FuseOptions) -> None:
        super().__init__()
        self.norm = copy.deepcopy(merge.norm).to(plan.dtype)
        self.reduction = Product(merging_weight(merge.reduction), merge.reduction.bias, plan)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(neighbours(self.norm(x)))


def neighbours(x: Tensor) -> Tensor:
    """[B, H, W, C] -> [B, H / 2, W / 2, 4 C]: rows, then columns, then channels."""
    h, w, c = x.shape[1:]
    return x.view(-1, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, h // 2, w // 2, 4 * c)


def merging_weight(convolution: nn.Conv2d) -> Tensor:
    """Weight [out, C, 2, 2] of a 2 x 2 convolution as one for `neighbours`, [out, 4 C]."""
    return convolution.weight.permute(0, 2, 3, 1).flatten(1)


def to_map(tokens: Tensor, grid: int) -> Tensor:
    """[B, g * g, C], row-major -> [B, g, g, C]."""
    return tokens.unflatten(1, (grid, grid))


def run_stem(patch_embed: PatchEmbed | FusedPatchEmbed, layers: list[nn.Module], patch: int, images: Tensor) -> Tensor:
    """images [B, 3, S, S] -> tokens [B, N, C], row-major."""
    x = to_map(patch_embed(images), images.shape[-1] // patch)
    for layer in layers:
        x = cast("Tensor", layer(x))
    return x.flatten(1, 2)
