"""Centre head: score, offset and size maps from three convolutional branches (OSTrack, after CenterNet)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lib.models.heads.branches import FusedBranches, conv_bn_relu
from lib.models.heads.candidates import Candidates, at_least_float32
from lib.models.layers.fused import FuseOptions

LOW, HIGH = 1e-4, 1.0 - 1e-4


class CenterHead(nn.Module):
    """One candidate per cell: the cell's corner plus its offset is the box's centre; there is no half-cell shift.

    Args:
        inputs: Channels of the feature map.
        channels: Width of the first convolution, halved three times.
        prior: Score that a fresh head gives every cell (RetinaNet's trick); None leaves 0.5, as published. A network
            that starts from random weights saves its first epoch with a small prior, since nearly all cells are
            background.
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
        # HIGH is 1 in half precision, and the focal loss of a cell that is so certain infinite.
        return at_least_float32(x)

    def forward(self, feature: Tensor) -> Candidates:
        """feature: [B, inputs, g, g]. Maps are in float32, under autocast too."""
        feature = feature.contiguous()
        score = self._branch("ctr", feature).sigmoid().clamp(LOW, HIGH)
        size = self._branch("size", feature).sigmoid().clamp(LOW, HIGH)
        offset = self._branch("offset", feature)
        grid = score.shape[-1]
        centres = (cell_corners(grid, score.device) + offset.flatten(2)) / grid
        return _candidates(score, size, offset, centres)

    def fuse_for_inference(self, options: FuseOptions) -> FusedCenterHead:
        """For inference; see `FuseOptions`."""
        return FusedCenterHead(self, options)


class FusedCenterHead(nn.Module):
    """A `CenterHead` for inference: the branches side by side."""

    corners: Tensor

    def __init__(self, head: CenterHead, options: FuseOptions) -> None:
        super().__init__()
        # What becomes a probability comes first.
        self.branches = FusedBranches(head, ("ctr", "size", "offset"), options)
        self.grid = options.grid
        corners = cell_corners(options.grid, next(head.parameters()).device) / options.grid
        self.register_buffer("corners", corners, persistent=False)

    def forward(self, feature: Tensor) -> Candidates:
        """feature: [B, inputs, g, g]; float32 maps, whatever the format of the products."""
        grid = feature.shape[-1]
        maps = self.branches(feature)
        probable = maps[:, :3].sigmoid().clamp_(LOW, HIGH)
        score, size, offset = probable[:, :1], probable[:, 1:], maps[:, 3:]
        corners = self.corners if grid == self.grid else cell_corners(grid, maps.device) / grid
        return _candidates(score, size, offset, torch.add(corners, offset.flatten(2), alpha=1.0 / grid))


def _candidates(score: Tensor, size: Tensor, offset: Tensor, centres: Tensor) -> Candidates:
    """centres: [B, 2, g * g] x, y in units of the crop's side."""
    boxes = torch.cat([centres, size.flatten(2)], dim=1).transpose(1, 2)
    return Candidates(score.flatten(1), boxes, {"score_map": score, "size_map": size, "offset_map": offset})


def cell_corners(grid: int, device: torch.device) -> Tensor:
    """x and y of every cell's top-left corner in cells, [1, 2, g * g] float32, row-major."""
    steps = torch.arange(grid, dtype=torch.float32, device=device)
    return torch.stack([steps.repeat(grid), steps.repeat_interleave(grid)])[None]
