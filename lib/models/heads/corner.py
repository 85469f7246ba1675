"""Corner head: the box as the expected positions of its two corners (OSTrack, after STARK)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.models.heads.branches import FusedBranches, conv_bn_relu
from lib.models.heads.candidates import Candidates, at_least_float32
from lib.models.layers.fused import FuseOptions


class CornerHead(nn.Module):
    """One candidate per search region.

    The published network crashes with this head, since it unpacks two values where three come; the head itself is the
    published one.

    Args:
        inputs: Channels of the feature map.
        channels: Width of the first convolution, halved three times.
    """

    BRANCHES = ("tl", "br")

    def __init__(self, inputs: int, channels: int = 256) -> None:
        super().__init__()
        widths = [inputs, *(channels // 2**i for i in range(4))]
        for branch in self.BRANCHES:
            for i in range(4):
                self.add_module(f"conv{i + 1}_{branch}", conv_bn_relu(widths[i], widths[i + 1]))
            self.add_module(f"conv5_{branch}", nn.Conv2d(widths[4], 1, 1))

    def corner_logits(self, feature: Tensor) -> Tensor:
        """Maps [B, 2, g, g] of the top-left and the bottom-right corner, before softmax."""
        maps = []
        for branch in self.BRANCHES:
            x = feature
            for i in range(1, 6):
                x = self.get_submodule(f"conv{i}_{branch}")(x)
            maps.append(x)
        return torch.cat(maps, dim=1)

    def forward(self, feature: Tensor) -> Candidates:
        """feature: [B, inputs, g, g]. Maps are in float32, under autocast too."""
        return corner_candidates(at_least_float32(self.corner_logits(feature.contiguous())))

    def fuse_for_inference(self, options: FuseOptions) -> FusedCornerHead:
        """For inference; see `FuseOptions`."""
        return FusedCornerHead(self, options)


class FusedCornerHead(nn.Module):
    """A `CornerHead` for inference: both branches side by side."""

    def __init__(self, head: CornerHead, options: FuseOptions) -> None:
        super().__init__()
        self.branches = FusedBranches(head, CornerHead.BRANCHES, options)

    def forward(self, feature: Tensor) -> Candidates:
        """feature: [B, inputs, g, g]; float32 maps, whatever the format of the products."""
        return corner_candidates(self.branches(feature))


def corner_candidates(logits: Tensor) -> Candidates:
    """The box between the expected corners; a cell stands for its top-left corner, there is no half-cell shift.

    Args:
        logits: [B, 2, g, g] of the top-left and the bottom-right corner.

    Returns:
        One candidate; its score is the largest of the mean of both corners' probabilities (the score map). The
        probabilities are `corners` in its maps.
    """
    grid = logits.shape[-1]
    corners = logits.flatten(2).softmax(dim=2)
    steps = torch.arange(grid, device=logits.device, dtype=logits.dtype) / grid
    cells = torch.stack([steps.repeat(grid), steps.repeat_interleave(grid)])
    first, second = (corners[:, :, None] * cells).sum(dim=3).unbind(1)
    boxes = torch.cat([(first + second) / 2, second - first], dim=1)
    score = corners.mean(dim=1)
    score_map = score.unflatten(1, (1, grid, grid))
    return Candidates(score.amax(dim=1, keepdim=True), boxes[:, None], {"score_map": score_map, "corners": corners})


def boxes_from_corners(cells: Tensor, grid: int) -> Tensor:
    """Boxes [B, 4] cx, cy, w, h in units of the crop's side, float64, of two corners' cells [B, 2] (row-major).

    Corners may come in any order; a box is at least one cell wide and high.
    """
    place = torch.stack([cells % grid, cells.div(grid, rounding_mode="floor")], dim=2).double() / grid
    low, high = place.amin(dim=1), place.amax(dim=1)
    return torch.cat([(low + high) / 2, (high - low).clamp(min=1 / grid)], dim=1)
