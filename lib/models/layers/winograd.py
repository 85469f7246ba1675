"""3 x 3 convolutions in fewer products, for processors (Winograd's minimal filtering; Lavin and Gray, CVPR 2016).

Blocks of 2 x 2 outputs take 16 products per pair of channels in place of 36; sums of inputs, of weights and of outputs
do the rest. In float32 the result differs from the plain one as much as two orders of summation do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import Convolution, FuseOptions, finished

WEIGHTS_FROM = 200_000
"""Pairs of channels from which the saved products outweigh the sums."""
G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def convolution(
    weight: Tensor,
    bias: Tensor | None,
    options: FuseOptions,
    relu: bool = False,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
) -> nn.Module:
    """The quicker form of a convolution for fixed weights.

    Args:
        weight, bias, options, relu, stride, dilation, padding: As of `Convolution`.
    """
    suited = weight.shape[-1] == 3 and stride == 1 and weight.shape[0] * weight.shape[1] >= WEIGHTS_FROM
    if suited and options.packs(weight) and options.dtype == torch.float32:
        return WinogradConvolution(weight, bias, relu, dilation, dilation if padding is None else padding)
    return Convolution(weight, bias, options, relu, stride=stride, dilation=dilation, padding=padding)


@dataclass(frozen=True)
class Tiling:
    """Blocks of 2 x 2 outputs along one axis; with a dilation, neighbours in a block are as far apart as its taps.

    Attributes:
        size: Outputs along the axis.
        dilation: Distance of the taps.
    """

    size: int
    dilation: int

    @property
    def blocks(self) -> int:
        """Blocks for each of the interleaved grids that a dilation makes."""
        return -(-self.size // (2 * self.dilation))

    @property
    def inputs(self) -> int:
        """Inputs that all blocks reach, and what a view of them takes."""
        return self.dilation * (2 * self.blocks + 3)

    def four(self, x: Tensor, dim: int) -> list[Tensor]:
        """The four inputs of every block in sums, x [..., inputs, ...] -> 4 times [..., blocks, dilation, ...]."""
        step, starts = 2 * self.dilation, range(0, 4 * self.dilation, self.dilation)
        taken = [x.narrow(dim, start, step * self.blocks) for start in starts]
        a, b, c, d = (t.unflatten(dim, (self.blocks, step)).narrow(dim + 1, 0, self.dilation) for t in taken)
        return [a - c, b + c, c - b, b - d]


class WinogradConvolution(nn.Module):
    """As `Convolution` with a 3 x 3 kernel of stride 1, in float32. Maps are channels-last.

    Args:
        weight: [C, K, 3, 3].
        bias: [C].
        relu: A ReLU follows.
        dilation, padding: As of `nn.Conv2d`.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool, dilation: int, padding: int) -> None:
        super().__init__()
        self.relu, self.dilation, self.padding = relu, dilation, padding
        g = torch.tensor(G, dtype=torch.float64, device=weight.device)
        products = torch.einsum("ai,ckij,bj->abkc", g, weight.detach().double(), g).flatten(0, 1)
        self.register_buffer("weight", products.float().contiguous(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().float(), persistent=False)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolution, sum, ReLU.

        Args:
            x: [B, K, H, W].
            shortcut: [B, C, H', W'], added to the result before the ReLU.

        Returns:
            [B, C, H', W'].
        """
        rows, (height, width) = len(x), (n + 2 * (self.padding - self.dilation) for n in x.shape[2:])
        down, across = Tiling(height, self.dilation), Tiling(width, self.dilation)
        beyond = down.inputs - x.shape[2] - self.padding, across.inputs - x.shape[3] - self.padding
        maps = F.pad(x.permute(0, 2, 3, 1), (0, 0, self.padding, beyond[1], self.padding, beyond[0]))
        inputs = torch.stack([tile for strip in down.four(maps, 1) for tile in across.four(strip, 3)])
        products = torch.bmm(inputs.flatten(1, 5), self.weight)
        found = products.view(4, 4, *inputs.shape[1:-1], products.shape[-1])  # B, rows, phases, columns, phases, C
        a, b, c, d = found
        strips = torch.stack([a + b + c, b - c - d], dim=3)  # 4, B, rows, [2], phases, columns, phases, C
        a, b, c, d = strips
        blocks = torch.stack([a + b + c, b - c - d], dim=5)
        whole = blocks.reshape(rows, 2 * self.dilation * down.blocks, 2 * self.dilation * across.blocks, -1)
        result = whole[:, :height, :width]
        result = (result if self.bias is None else result + self.bias).permute(0, 3, 1, 2)
        return finished(result, shortcut, self.relu)
