"""3 x 3 convolutions in fewer products, for processors (Winograd's minimal filtering; Lavin and Gray, CVPR 2016).

Blocks of 4 x 4 outputs take 36 products per pair of channels in place of 144; two small products of matrices, with the
inputs before and the outputs after, do the rest. In float32 the result differs from the plain one as much as two orders
of summation do: the points at which the polynomials are evaluated, 0, +-sqrt(1/2), +-sqrt(2) and infinity, keep the
numbers of the same magnitude.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import Convolution, FuseOptions, finished

WEIGHTS_FROM = 60_000
"""Pairs of channels from which the saved products outweigh what is done around them."""
BLOCK, TAPS = 4, 3
REACH = BLOCK + TAPS - 1
"""Inputs along a side of a block."""
POINTS = (0.0, math.sqrt(0.5), -math.sqrt(0.5), math.sqrt(2.0), -math.sqrt(2.0))
"""Finite ones; the last one is infinity."""


def build_convolution(
    weight: Tensor,
    bias: Tensor | None,
    options: FuseOptions,
    relu: bool = False,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
) -> nn.Module:
    """A `Convolution`, or a `WinogradConvolution` where that is quicker and allowed.

    Args:
        weight, bias, options, relu, stride, dilation, padding: See `Convolution`.
    """
    suited = weight.shape[-1] == TAPS and stride == 1 and weight.shape[0] * weight.shape[1] >= WEIGHTS_FROM
    if suited and options.packs(weight) and options.dtype == torch.float32:
        return WinogradConvolution(weight, bias, options, relu, dilation, dilation if padding is None else padding)
    return Convolution(weight, bias, options, relu, stride=stride, dilation=dilation, padding=padding)


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of inputs [6, 6], of weights [6, 3] and of outputs [4, 6], float64 (Toom and Cook's scheme).

    A filter of three taps is a product of two polynomials: both are evaluated at six points, multiplied there, and the
    outputs are put together from the six products.
    """
    points = torch.tensor(POINTS, dtype=torch.float64)
    inputs = torch.zeros(REACH, REACH, dtype=torch.float64)
    for i in range(REACH):  # coefficients of the product of (x - p) over all other finite points
        product = torch.ones(1, dtype=torch.float64)
        for point in points[torch.arange(len(points)) != i]:
            product = F.pad(product, (1, 0)) - point * F.pad(product, (0, 1))
        inputs[i, : len(product)] = product
    powers = points[:, None] ** torch.arange(REACH)
    apart = (points[:, None] - points + torch.eye(len(points))).prod(dim=1)
    ends = torch.eye(TAPS, dtype=torch.float64)[-1:], torch.eye(BLOCK, dtype=torch.float64)[-1:]
    weights = torch.cat([powers[:, :TAPS] / apart[:, None], ends[0]])
    outputs = torch.cat([powers[:, :BLOCK], ends[1]]).t()
    return inputs, weights, outputs


class WinogradConvolution(nn.Module):
    """As `Convolution` with a 3 x 3 kernel of stride 1, in float32. Maps are channels-last.

    With a dilation, neighbours in a block are as far apart as the kernel's taps.

    Args:
        weight: [C, K, 3, 3].
        bias: [C].
        options: Packing; `grid` is the side of the maps.
        relu: A ReLU follows.
        dilation, padding: See `nn.Conv2d`.
    """

    bias: Tensor
    inputs: Tensor
    outputs: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor | None, options: FuseOptions, relu: bool, dilation: int, padding: int
    ) -> None:
        super().__init__()
        self.relu, self.dilation, self.padding = relu, dilation, padding
        inputs, weights, outputs = (m.to(weight.device) for m in transforms())
        self.register_buffer("inputs", torch.kron(inputs, inputs).float(), persistent=False)
        self.register_buffer("outputs", torch.kron(outputs, outputs).float(), persistent=False)
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self.register_buffer("bias", bias.float(), persistent=False)
        products = torch.einsum("ai,ckij,bj->abck", weights, weight.detach().double(), weights)
        products = products.float().flatten(0, 2)[..., None, None]
        sized = FuseOptions(pack=options.pack, grid=self.blocks(options.grid) * dilation)
        self.products = Convolution(products, None, sized, groups=REACH * REACH)

    def blocks(self, size: int) -> int:
        """Blocks along an axis of a map, for each of the interleaved grids that a dilation makes."""
        return -(-(size + 2 * (self.padding - self.dilation)) // (BLOCK * self.dilation))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolution, sum, ReLU.

        Args:
            x: [B, K, H, W].
            shortcut: [B, C, H', W'], added to the result before the ReLU.

        Returns:
            [B, C, H', W'].
        """
        (rows, width), apart = x.shape[:2], self.dilation
        down, across = (self.blocks(side) for side in x.shape[2:])
        below, right = (apart * (BLOCK * n + 2) - x.shape[i] for i, n in ((2, down), (3, across)))
        before = self.padding
        maps = F.pad(x.permute(0, 2, 3, 1), (0, 0, before, right - before, before, below - before))
        # Tiles of 6 x 6 inputs that overlap by two, [B, down, apart, across, apart, 6, 6, K].
        (row, line, cell, channel), step = maps.stride(), BLOCK * apart
        shape = rows, down, apart, across, apart, REACH, REACH, width
        strides = row, step * line, line, step * cell, cell, apart * line, apart * cell, channel
        tiles = maps.as_strided(shape, strides, maps.storage_offset())
        # To 36 products per tile, one convolution of 36 groups, and back to 4 x 4 outputs.
        summed = torch.matmul(self.inputs, tiles.reshape(-1, REACH * REACH, width))
        found = self.products(summed.view(rows, down * apart, across * apart, -1).permute(0, 3, 1, 2))
        found = found.permute(0, 2, 3, 1).reshape(len(summed), REACH * REACH, -1)
        pieces = torch.baddbmm(self.bias, self.outputs.expand(len(found), -1, -1), found)
        pieces = pieces.view(*shape[:5], BLOCK, BLOCK, -1)
        whole = pieces.permute(0, 1, 5, 2, 3, 6, 4, 7).reshape(rows, down * step, across * step, -1)
        height, breadth = (side + 2 * (self.padding - apart) for side in x.shape[2:])
        result = whole[:, :height, :breadth].permute(0, 3, 1, 2)
        if shortcut is None:  # a copy without the incomplete blocks' outputs
            return result.relu() if self.relu else result.contiguous(memory_format=torch.channels_last)
        return finished(result + shortcut, None, self.relu)
