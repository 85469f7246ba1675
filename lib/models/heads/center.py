"""Centre head: score, offset and size maps from three convolutional branches (OSTrack, after CenterNet)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lib.models.heads.boxes import BoxMaps, decode_cells, pick_cells
from lib.models.heads.branches import FusedBranches, conv_bn_relu
from lib.models.layers.fused import FuseOptions

LOW, HIGH = 1e-4, 1.0 - 1e-4


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
        # HIGH is 1 in half precision, and the focal loss of a cell that is so certain infinite.
        return x if x.dtype == torch.float64 else x.float()

    def forward(self, feature: Tensor) -> BoxMaps:
        """feature: [B, inputs, g, g]; maps in float32, under autocast too."""
        feature = feature.contiguous()
        score = self._branch("ctr", feature).sigmoid().clamp(LOW, HIGH)
        size = self._branch("size", feature).sigmoid().clamp(LOW, HIGH)
        offset = self._branch("offset", feature)
        boxes = decode_cells(score.flatten(1).argmax(dim=1), size, offset)
        return BoxMaps(boxes, score, size, offset)

    def fuse_for_inference(self, plan: FuseOptions) -> FusedCenterHead:
        """For inference; see `lib.models.layers.fused`."""
        return FusedCenterHead(self, plan)


class FusedCenterHead(nn.Module):
    """A `CenterHead` for inference: the branches side by side, the boxes of all cells decoded together."""

    corners: Tensor

    def __init__(self, head: CenterHead, plan: FuseOptions) -> None:
        super().__init__()
        # What becomes a probability comes first.
        self.branches = FusedBranches(head, ("ctr", "size", "offset"), plan)
        self.grid = plan.grid
        corners = _corners(plan.grid).to(next(head.parameters()).device)
        self.register_buffer("corners", corners, persistent=False)

    def forward(self, feature: Tensor) -> BoxMaps:
        """feature: [B, inputs, g, g]; float32 maps, whatever the format of the products."""
        grid = feature.shape[-1]
        maps = self.branches(feature)
        probable = maps[:, :3].sigmoid().clamp_(LOW, HIGH)
        score, size, offset = probable[:, :1], probable[:, 1:], maps[:, 3:]
        corners = self.corners if grid == self.grid else _corners(grid).to(maps.device)
        centres = torch.add(corners, offset.flatten(2), alpha=1.0 / grid)
        boxes = torch.cat([centres, size.flatten(2)], dim=1)
        best = pick_cells(boxes, score.flatten(1).argmax(dim=1))
        return BoxMaps(best, score, size, offset, boxes)


def _corners(grid: int) -> Tensor:
    """x and y of every cell in units of the crop's side, [1, 2, g * g]."""
    steps = torch.arange(grid, dtype=torch.float32) / grid
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])[None]
