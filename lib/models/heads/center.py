"""Centre head: score, offset and size maps from three convolutional branches (OSTrack, after CenterNet)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lib.models.heads.boxes import BoxMaps, decode_cells

LOW, HIGH = 1e-4, 1.0 - 1e-4


def conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    """3 x 3 convolution with bias, batch norm, ReLU; the names `0` and `1` are those of published checkpoints."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class CenterHead(nn.Module):
    """inputs: channels of the feature map; channels: width of the first convolution, halved three times.

    prior: score that a fresh head gives every cell (RetinaNet's trick); None leaves 0.5, as published. A network that
    starts from random weights saves its first epoch with a small prior, since nearly all cells are background.
    """

    BRANCHES = (("ctr", 1), ("offset", 2), ("size", 2))

    def __init__(self, inputs: int, channels: int = 256, prior: float | None = None) -> None:
        super().__init__()
        widths = [inputs, *(channels // 2**i for i in range(4))]
        for branch, outputs in self.BRANCHES:
            for i in range(4):
                self.add_module(f"conv{i + 1}_{branch}", conv_bn_relu(widths[i], widths[i + 1]))
            self.add_module(f"conv5_{branch}", nn.Conv2d(widths[4], outputs, 1))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        if prior is not None:
            nn.init.constant_(self.get_submodule("conv5_ctr").get_parameter("bias"), math.log(prior / (1.0 - prior)))

    def _branch(self, name: str, x: Tensor) -> Tensor:
        for i in range(1, 6):
            x = self.get_submodule(f"conv{i}_{name}")(x)
        return x

    def forward(self, feature: Tensor) -> BoxMaps:
        """feature: [B, inputs, g, g]."""
        score = self._branch("ctr", feature).sigmoid().clamp(LOW, HIGH)
        size = self._branch("size", feature).sigmoid().clamp(LOW, HIGH)
        offset = self._branch("offset", feature)
        boxes = decode_cells(score.flatten(1).argmax(dim=1), size, offset)
        return BoxMaps(boxes, score, size, offset)
