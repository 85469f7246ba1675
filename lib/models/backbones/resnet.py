"""ResNet with bottleneck blocks (He et al., CVPR 2016), cut behind the layer that a tracker reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lib.models.layers.conv_norm import convolution_norm, folded
from lib.models.layers.fused import Convolution, FuseOptions, fused_form_of
from lib.models.layers.winograd import build_convolution
from lib.ranges import Count, CountOrNone

EXPANSION = 4
STEM_STRIDE = 4
STEM_KERNEL = 7


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut; the stride and the dilation are those of the 3 x 3 one.

    Args:
        inputs, width: Channels of the input, and between the convolutions.
        stride, dilation: Of the 3 x 3 convolution.
        atrous: Nothing is padded where the map shrinks, and a shortcut between maps of different resolution is a
            3 x 3 convolution like the one next to it; see `ResNet`.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1, atrous: bool = False) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        padding = 0 if atrous and stride > 1 else dilation
        sliding: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "bias": False}
        self.conv2 = nn.Conv2d(width, width, 3, **sliding)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if atrous:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 3, **sliding), nn.BatchNorm2d(outputs))
        elif stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Bottleneck and shortcut.

        Args:
            x: [B, inputs, H, W].

        Returns:
            [B, 4 * width, H / stride, W / stride].
        """
        y = F.relu(convolution_norm(x, self.conv1, self.bn1), inplace=True)
        y = F.relu(convolution_norm(y, self.conv2, self.bn2), inplace=True)
        y = convolution_norm(y, self.conv3, self.bn3)
        shortcut = x if self.downsample is None else convolution_norm(x, *self.downsample)
        return F.relu(y + shortcut, inplace=True)


class ResNet(nn.Module):
    """Feature maps of a picture; module names are torchvision's (`conv1`, `bn1`, `layer1` ..).

    The defaults are a small network, for training from random weights.

    Args:
        depths: Blocks per layer.
        strides, dilations: Of each layer's first block; the others have 1.
        width: Channels of the stem; layer i has ``width * 2^i`` inside and four times as many at its end.
        frozen: Layers that learn nothing, from the first on and with the stem: no gradients, always in eval mode.
        atrous: The form of SiamRPN++ (Li et al., CVPR 2019): nothing is padded where a map shrinks, the stem included;
            a layer's dilation is that of all its blocks, halved in the first one; the shortcuts of layers with a stride
            or a dilation are 3 x 3 convolutions. A picture of 8 n + 7 pixels has n cells.

    Attributes:
        stride: Side in pixels of what a cell of the last feature map stands for.
        channels: Of the last feature map.
        frozen: Number of layers that learn nothing.
        checkpointing: Pictures at a time whose layers are computed again in the backward pass of a network in eval
            mode, as in sequence-level training; 0: all activations are kept.
    """

    def __init__(
        self,
        depths: Sequence[Count] = (1, 1, 1),
        strides: Sequence[Count] = (1, 2, 1),
        dilations: Sequence[Count] = (1, 1, 2),
        width: Count = 16,
        frozen: CountOrNone = 0,
        atrous: bool = False,
    ) -> None:
        super().__init__()
        if not depths or len({len(depths), len(strides), len(dilations)}) > 1 or min(depths) < 1:
            found = f"depths {list(depths)}, strides {list(strides)} and dilations {list(dilations)}"
            raise ValueError(f"{found} need one number per layer each")
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=0 if atrous else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for i, (depth, stride, dilation) in enumerate(zip(depths, strides, dilations, strict=True)):
            inner = width * 2**i
            first = max(1, dilation // 2) if atrous else dilation
            blocks = [Bottleneck(channels, inner, stride, first, atrous and (stride, dilation) != (1, 1))]
            channels = inner * EXPANSION
            blocks += [Bottleneck(channels, inner, dilation=dilation if atrous else 1) for _ in range(depth - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.layers, self.frozen = len(depths), frozen
        self.stride = STEM_STRIDE * math.prod(strides)
        self.channels, self.checkpointing = channels, 0
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if frozen > self.layers:
            raise ValueError(f"{frozen} layers cannot be frozen: the network has {self.layers}")
        stem = [self.conv1, self.bn1] if frozen else []
        self._frozen = (*stem, *(self.get_submodule(f"layer{i + 1}") for i in range(frozen)))
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> ResNet:
        """See `nn.Module`; frozen layers stay in eval mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Feature map of the last layer.

        Args:
            image: [B, 3, H, W] normalised.

        Returns:
            [B, channels, H / stride, W / stride].
        """
        return self.maps(image)[-1]

    def maps(self, image: Tensor, first: int = 0, last: int | None = None) -> list[Tensor]:
        """Feature maps of the stem, before it is pooled, and of every layer.

        Args:
            image: [B, 3, H, W] normalised; or the map of layer `first`, which then stands in place of the stem's.
            first, last: Layers after the first and up to the last are computed; None: all.
        """
        maps = [image if first else F.relu(convolution_norm(image, self.conv1, self.bn1), inplace=True)]
        x = image if first else F.max_pool2d(maps[0], 3, stride=2, padding=1)
        again = self.checkpointing and not self.training and torch.is_grad_enabled()
        for i in range(first + 1, (self.layers if last is None else last) + 1):
            layer = self.get_submodule(f"layer{i}")
            if again:
                parts = x.split(self.checkpointing)
                x = torch.cat([checkpoint(layer, part, use_reentrant=False) for part in parts])
            else:
                x = layer(x)
            maps.append(x)
        return maps


@fused_form_of(ResNet, portable=True)
class FusedResNet(nn.Module):
    """A `ResNet` for inference: batch norm, ReLU and sums belong to the convolutions, channels come last.

    With `options.pixels` it reads uint8 pictures: the mean colour is taken off them, so that padding is zero as before,
    the deviation is in the first convolution's weights. That one is always in float32.
    """

    mean: Tensor

    def __init__(self, network: ResNet, options: FuseOptions) -> None:
        super().__init__()
        self.dtype, self.reads_pixels = options.dtype, options.pixels is not None
        weight, bias = folded(network.conv1, network.bn1)
        mean = weight.new_zeros(3, 1, 1)
        if options.pixels is not None:
            mean, std, source = options.pixels.affine()
            weight, mean = (weight / std.to(weight))[:, source], mean[source]
        self.register_buffer("mean", mean.float(), persistent=False)
        padding = network.conv1.padding[0]
        assert isinstance(padding, int)
        side = options.grid * network.stride + (0 if padding else STEM_KERNEL)
        exact = replace(options, dtype=torch.float32, grid=side)
        self.stem = Convolution(weight.float(), bias.float(), exact, relu=True, stride=2, padding=padding)
        side = output_side(output_side(side, STEM_KERNEL, 2, padding), 3, 2, 1)
        self.layers = nn.ModuleList()
        for i in range(1, network.layers + 1):
            blocks = []
            for block in network.get_submodule(f"layer{i}").children():
                assert isinstance(block, Bottleneck)
                blocks.append(FusedBottleneck(block, replace(options, grid=side)))
                side = blocks[-1].outputs
            self.layers.append(nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> Tensor:
        """As `ResNet.forward`.

        Args:
            image: [B, 3, H, W], normalised or uint8 pixels.

        Returns:
            [B, channels, H / stride, W / stride] in the options' number format.
        """
        return self.maps(image)[-1]

    def maps(self, image: Tensor, first: int = 0, last: int | None = None) -> list[Tensor]:
        """As `ResNet.maps`, in the options' number format.

        Args:
            image: See `forward`; or the map of layer `first`.
            first, last: See `ResNet.maps`.
        """
        if first:
            maps, x = [image], image
        else:
            x = image.to(torch.float32, memory_format=torch.channels_last, copy=True).sub_(self.mean)
            maps = [self.stem(x).to(self.dtype)]
            x = F.max_pool2d(maps[0], 3, stride=2, padding=1)
        for stage in list(self.layers)[first:last]:
            x = stage(x)
            maps.append(x)
        return maps


class FusedBottleneck(nn.Module):
    """A `Bottleneck` in three convolutions, or four.

    Attributes:
        outputs: Side of the map that it gives, for maps of `options.grid`.
    """

    def __init__(self, block: Bottleneck, options: FuseOptions) -> None:
        super().__init__()
        stride, dilation, padding = block.conv2.stride[0], block.conv2.dilation[0], block.conv2.padding[0]
        assert isinstance(padding, int)
        self.outputs = output_side(options.grid, 2 * dilation + 1, stride, padding)
        sliding: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding}
        self.conv1 = Convolution(*folded(block.conv1, block.bn1), options, relu=True)
        self.conv2 = build_convolution(*folded(block.conv2, block.bn2), options, relu=True, **sliding)
        self.conv3 = Convolution(*folded(block.conv3, block.bn3), replace(options, grid=self.outputs), relu=True)
        self.downsample: nn.Module | None = None
        if block.downsample is not None:
            weight, bias = folded(*block.downsample)
            around = sliding if weight.shape[-1] > 1 else {"stride": stride}
            self.downsample = build_convolution(weight, bias, options, **around)

    def forward(self, x: Tensor) -> Tensor:
        """As `Bottleneck.forward`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv3(self.conv2(self.conv1(x)), shortcut)


def output_side(side: int, span: int, stride: int, padding: int) -> int:
    """Side of the map that a convolution gives, whose kernel spans so many cells, dilation included."""
    return (side + 2 * padding - span) // stride + 1
