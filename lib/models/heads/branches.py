"""Convolutional branches of box heads, apart for training and side by side for inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.models.layers.fused import Convolution, FuseOptions, folded


def conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    """3 x 3 convolution with bias, batch norm, ReLU; the names `0` and `1` are those of published checkpoints."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class FusedBranches(nn.Module):
    """Branches ``conv1_<name>`` .. ``conv5_<name>`` of a head as five convolutions, batch norm inside.

    All branches read the same feature map, so that their first layers are one convolution; from there on each has its
    group of channels. The last layer is in float32: its maps are compared and become boxes.
    """

    def __init__(self, head: nn.Module, branches: Sequence[str], options: FuseOptions) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for level in range(1, 5):
            pairs = [_folded_block(head.get_submodule(f"conv{level}_{name}")) for name in branches]
            weight, bias = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            groups = 1 if level == 1 else len(branches)
            self.layers.append(Convolution(weight, bias, options, relu=True, groups=groups))
        last = [head.get_submodule(f"conv5_{name}") for name in branches]
        self.last = Convolution(*_diagonal(last), replace(options, dtype=torch.float32))

    def forward(self, feature: Tensor) -> Tensor:
        """feature [B, C, g, g] -> the branches' maps after one another [B, sum of outputs, g, g], float32."""
        x = feature
        for layer in self.layers:
            x = layer(x)
        maps: Tensor = self.last(x.float())
        return maps


def _folded_block(block: nn.Module) -> tuple[Tensor, Tensor]:
    convolution, norm = block.get_submodule("0"), block.get_submodule("1")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return folded(convolution, norm)


def _diagonal(layers: Sequence[nn.Module]) -> tuple[Tensor, Tensor]:
    """1 x 1 convolutions of different numbers of outputs as one: each sees its own channels, zeros elsewhere."""
    weights = [layer.get_parameter("weight").detach()[:, :, 0, 0] for layer in layers]
    biases = [layer.get_parameter("bias").detach() for layer in layers]
    return torch.block_diag(*weights)[:, :, None, None], torch.cat(biases)
