"""Corner head: the box as the expected positions of its two corners (OSTrack, after STARK)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.models.heads.boxes import BoxMaps
from lib.models.heads.branches import FusedBranches, conv_bn_relu
from lib.models.layers.fused import FuseOptions


class CornerHead(nn.Module):
    """inputs: channels of the feature map; channels: width of the first convolution, halved three times.

    The published network crashes with this head, since it unpacks two values where three come; the head itself is the
    published one.
    """

    BRANCHES = ("tl", "br")

    def __init__(self, inputs: int, channels: int = 256) -> None:
        super().__init__()
        widths = [inputs, *(channels // 2**i for i in range(4))]
        for branch in self.BRANCHES:
            for i in range(4):
                self.add_module(f"conv{i + 1}_{branch}", conv_bn_relu(widths[i], widths[i + 1]))
            self.add_module(f"conv5_{branch}", nn.Conv2d(widths[4], 1, 1))

    def corner_scores(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Raw maps of the top-left and the bottom-right corner, each [B, 1, g, g]."""
        maps = []
        for branch in self.BRANCHES:
            x = feature
            for i in range(1, 6):
                x = self.get_submodule(f"conv{i}_{branch}")(x)
            maps.append(x)
        return maps[0], maps[1]

    @staticmethod
    def expected_corner(scores: Tensor) -> tuple[Tensor, Tensor]:
        """scores [B, 1, g, g] -> expected corner [B, 2] (x, y) in 0..1 and cell probabilities [B, g*g].

        A cell stands for its top-left corner; there is no half-cell shift.
        """
        grid = scores.shape[-1]
        probability = scores.flatten(1).softmax(dim=1)
        steps = torch.arange(grid, device=scores.device, dtype=scores.dtype) / grid
        cells = torch.stack([steps.repeat(grid), steps.repeat_interleave(grid)])
        return (probability[:, None] * cells).sum(dim=2), probability

    def forward(self, feature: Tensor) -> BoxMaps:
        """feature: [B, inputs, g, g]. The score map is the mean of the two corners' probabilities."""
        return self.locate(*self.corner_scores(feature.contiguous()))

    @classmethod
    def locate(cls, top_left: Tensor, bottom_right: Tensor) -> BoxMaps:
        """Raw maps of the two corners, each [B, 1, g, g] -> box and score map."""
        first, p_first = cls.expected_corner(top_left)
        second, p_second = cls.expected_corner(bottom_right)
        score = (p_first + p_second).view_as(top_left) / 2
        return BoxMaps(torch.cat([(first + second) / 2, second - first], dim=1), score)

    def fuse_for_inference(self, plan: FuseOptions) -> FusedCornerHead:
        """For inference; see `lib.models.layers.fused`."""
        return FusedCornerHead(self, plan)


class FusedCornerHead(nn.Module):
    """A `CornerHead` for inference: both branches side by side."""

    def __init__(self, head: CornerHead, plan: FuseOptions) -> None:
        super().__init__()
        self.branches = FusedBranches(head, CornerHead.BRANCHES, plan)

    def forward(self, feature: Tensor) -> BoxMaps:
        """feature: [B, inputs, g, g]; float32 maps, whatever the format of the products."""
        return CornerHead.locate(*self.branches(feature).split(1, dim=1))
