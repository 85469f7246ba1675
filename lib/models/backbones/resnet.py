"""ResNet with bottleneck blocks (He et al., CVPR 2016), cut behind the layer that a tracker reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 4
STEM_STRIDE = 4


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions round a shortcut; the stride and the dilation are those of the 3 x 3 one."""

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, inputs, H, W]."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet(nn.Module):
    """Feature maps of the last layer; module names are torchvision's (`conv1`, `bn1`, `layer1` ..).

    depths: blocks per layer. strides, dilations: of each layer's first block; the others have 1. width: channels of the
    stem; layer i has ``width * 2^i`` inside and four times as many at its end.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6),
        strides: Sequence[int] = (1, 2, 1),
        dilations: Sequence[int] = (1, 1, 2),
        width: int = 64,
    ) -> None:
        super().__init__()
        if not depths or len({len(depths), len(strides), len(dilations)}) > 1 or min(depths) < 1:
            raise ValueError(
                f"depths {list(depths)}, strides {list(strides)} and dilations {list(dilations)} need one number per "
                "layer each"
            )
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for i, (depth, stride, dilation) in enumerate(zip(depths, strides, dilations, strict=True)):
            inner = width * 2**i
            blocks = [Bottleneck(channels, inner, stride, dilation)]
            channels = inner * EXPANSION
            blocks += [Bottleneck(channels, inner) for _ in range(depth - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.layers = len(depths)
        self.stride = STEM_STRIDE * math.prod(strides)
        self.channels = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W], normalised -> [B, channels, H / stride, W / stride]."""
        x = F.relu(self.bn1(self.conv1(image)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for i in range(1, self.layers + 1):
            x = self.get_submodule(f"layer{i}")(x)
        return x
