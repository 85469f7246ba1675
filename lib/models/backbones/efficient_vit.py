"""A small ViT on the features of EfficientNet-Lite0, for trackers that start from pictures of the real world.

EfficientNet-Lite0 (R. Liu, 2020; EfficientNet, Tan and Le, ICML 2019, without squeeze-and-excitation and with ReLU6) is
read to its fifth stage: 0.9 M parameters, small enough for one CPU core. Its maps of stride 8 and 16 become tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.backbones.one_stream_vit import OneStreamViT, ViTOptions
from lib.models.layers.fused import fused_form_of
from lib.models.layers.stem import FusedConvStem

STAGES = ((1, 16, 3, 1, 1), (6, 24, 3, 2, 2), (6, 40, 5, 2, 2), (6, 80, 3, 2, 3), (6, 112, 5, 1, 3))
"""Expansion, channels, kernel, stride of the first block, and blocks of each stage behind the first convolution."""
FIRST, FINE, COARSE = 32, 40, 112
"""Channels of the first convolution, of the map of stride 8, and of that of stride 16."""


class SameConvolution(nn.Module):
    """Convolution, batch norm and ReLU6, padded as TensorFlow does: more below and on the right where it is uneven."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3)
        self.kernel, self.stride, self.relu = kernel, stride, relu

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        if self.kernel > 1:
            whole = [max((-(-n // self.stride) - 1) * self.stride + self.kernel - n, 0) for n in x.shape[:1:-1]]
            x = F.pad(x, [side for n in whole for side in (n // 2, n - n // 2)])
        x = self.bn(self.conv(x))
        return F.relu6(x) if self.relu else x


class InvertedResidual(nn.Module):
    """Expansion, depth-wise convolution and projection, added to the input where the shape stays (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = [SameConvolution(inputs, wide, 1)] if expansion > 1 else []
        depthwise = SameConvolution(wide, wide, kernel, stride, groups=wide)
        self.layers = nn.Sequential(*expand, depthwise, SameConvolution(wide, outputs, 1, relu=False))
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, H, W] -> [B, outputs, ...]."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class EfficientStem(nn.Module):
    """Pictures to tokens of stride 8: two maps of EfficientNet-Lite0, normalised, projected and added.

    The trunk is meant to stay as it is: `trunk` is frozen and in eval mode by the TRAIN.PHASES of configurations.

    Args:
        patch: Pixels per token, 8.
        width: Channels of a token.

    Raises:
        ValueError: `patch` is not 8.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        if patch != 8:
            raise ValueError(f"MODEL.BACKBONE.STRIDE of efficient_vit is 8, not {patch}")
        inputs, stages = FIRST, [nn.Sequential(SameConvolution(3, FIRST, 3, stride=2))]
        for expansion, outputs, kernel, stride, blocks in STAGES:
            sizes = [(inputs, stride), *[(outputs, 1)] * (blocks - 1)]
            stages.append(nn.Sequential(*(InvertedResidual(i, outputs, expansion, kernel, s) for i, s in sizes)))
            inputs = outputs
        self.trunk = nn.Sequential(nn.Sequential(*stages[:4]), nn.Sequential(*stages[4:]))
        self.fine = nn.Sequential(nn.BatchNorm2d(FINE), nn.Conv2d(FINE, width, 1))
        self.coarse = nn.Sequential(nn.BatchNorm2d(COARSE), nn.Conv2d(COARSE, width, 1))

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, (H / 8) * (W / 8), width]."""
        fine = self.trunk[0](image.contiguous(memory_format=torch.channels_last))
        coarse = self.coarse(self.trunk[1](fine))
        x = self.fine(fine) + F.interpolate(coarse, size=fine.shape[2:], mode="bilinear")
        return x.flatten(2).transpose(1, 2)


fused_form_of(EfficientStem, portable=True)(FusedConvStem)


class EfficientViT(OneStreamViT):
    """A one-stream ViT whose tokens are those of an `EfficientStem`; the rest is `OneStreamViT`."""

    def __init__(self, options: ViTOptions) -> None:
        super().__init__(options, stem=EfficientStem)

    def adapt_pretrained(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The trunk by a file of EfficientNet-Lite0; all other parameters keep their values.

        Args:
            state: By timm's names (tf_efficientnet_lite0) or those of efficientnet_pytorch, in the order of layers.

        Raises:
            KeyError: The trunk's layers are not all there.
        """
        own = self.state_dict()
        places = [name for name in own if name.startswith("patch_embed.trunk.")]
        kinds = ("_conv_stem", "_bn0", "_blocks") if "_conv_stem.weight" in state else ("conv_stem", "bn1", "blocks")
        given = [name for name in state if name.split(".")[0] in kinds][: len(places)]
        if len(given) < len(places):
            raise KeyError("_blocks.10._bn2.weight")
        return {**own, **{place: state[name] for place, name in zip(places, given, strict=True)}}
