"""Box heads of convolutional branches over the search region's feature map (OSTrack, after CenterNet and STARK)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor, nn

from lib.models.heads.candidates import Candidates
from lib.models.layers.conv_norm import folded
from lib.models.layers.fused import Convolution, FuseOptions, fused_form_of
from lib.models.layers.numeric import at_least_float32, without_autocast
from lib.ranges import Choice, Range

LOW, HIGH = 1e-4, 1.0 - 1e-4
Channels = Annotated[int, Range(8)]
"""Channels of the first convolution; the fourth has an eighth."""
Prior = Annotated[float, Range(0, 1, above=True, below=True)]
CornerScore = Annotated[str, Choice(("mean", "product"))]


class ConvBranches(nn.Module):
    """Branches ``conv1_<name>`` .. ``conv5_<name>``: 3 x 3 convolutions with batch norm and ReLU, the last one 1 x 1.

    Names are those of published checkpoints.

    Args:
        widths: Channels of the branches' input and after each of the four convolutions.
        branches: Name of a branch -> channels of its map.
    """

    def __init__(self, widths: Sequence[int], branches: Mapping[str, int]) -> None:
        super().__init__()
        for name, outputs in branches.items():
            for i in range(4):
                convolution = nn.Conv2d(widths[i], widths[i + 1], 3, padding=1)
                layers = nn.Sequential(convolution, nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True))
                self.add_module(f"conv{i + 1}_{name}", layers)
            self.add_module(f"conv5_{name}", nn.Conv2d(widths[4], outputs, 1))

    def branch(self, name: str, x: Tensor) -> Tensor:
        """Map of one branch.

        Args:
            name: The branch.
            x: [B, widths[0], g, g].

        Returns:
            [B, outputs, g, g] in float32, under autocast too: in half precision the largest score would be 1, and the
            focal loss of such a cell infinite.
        """
        for i in range(1, 6):
            x = self.get_submodule(f"conv{i}_{name}")(x)
        return at_least_float32(x)


class FusedBranches(nn.Module):
    """Branches of a head as five convolutions, batch norm inside.

    All branches read the same feature map, so that their first layers are one convolution; from there on each has its
    group of channels. The last layer is in float32: its maps are compared and become boxes.

    Args:
        head: The head.
        branches: Names of its branches, in the order of the output.
        options: Number format, packing, grid.
    """

    def __init__(self, head: ConvBranches, branches: Sequence[str], options: FuseOptions) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for level in range(1, 5):
            blocks = [head.get_submodule(f"conv{level}_{name}") for name in branches]
            pairs = [folded(block.get_submodule("0"), block.get_submodule("1")) for block in blocks]
            weight, bias = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            groups = 1 if level == 1 else len(branches)
            self.layers.append(Convolution(weight, bias, options, relu=True, groups=groups))
        # 1 x 1 convolutions as one: each sees its own channels, zeros elsewhere.
        last = [head.get_submodule(f"conv5_{name}") for name in branches]
        weight = torch.block_diag(*(layer.get_parameter("weight").detach()[:, :, 0, 0] for layer in last))
        bias = torch.cat([layer.get_parameter("bias").detach() for layer in last])
        self.last = Convolution(weight[:, :, None, None], bias, replace(options, dtype=torch.float32))

    def forward(self, feature: Tensor) -> Tensor:
        """Maps of all branches.

        Args:
            feature: [B, C, g, g].

        Returns:
            [B, sum of outputs, g, g] float32.
        """
        x = feature
        for layer in self.layers:
            x = layer(x)
        return self.last(x.float())


class CenterHead(ConvBranches):
    """One candidate per cell: the cell's corner plus its offset is the box's centre; there is no half-cell shift.

    Args:
        inputs: Channels of the feature map.
        num_channels: Width of the first convolution, halved three times.
        prior: Score that a fresh head gives every cell (RetinaNet's trick); None leaves 0.5, as published. A network
            that starts from random weights saves its first epoch with a small prior, since nearly all cells are
            background.
    """

    def __init__(self, inputs: int, num_channels: Channels = 256, prior: Prior | None = None) -> None:
        widths = [inputs, *(num_channels // 2**i for i in range(4))]
        super().__init__(widths, {"ctr": 1, "offset": 2, "size": 2})
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        if prior is not None:
            nn.init.constant_(self.get_submodule("conv5_ctr").get_parameter("bias"), math.log(prior / (1.0 - prior)))

    def forward(self, feature: Tensor) -> Candidates:
        """Candidates of a feature map.

        Args:
            feature: [B, inputs, g, g].

        Returns:
            g * g candidates per search region; maps are in float32, under autocast too.
        """
        feature = feature.contiguous()
        score = self.branch("ctr", feature).sigmoid().clamp(LOW, HIGH)
        size = self.branch("size", feature).sigmoid().clamp(LOW, HIGH)
        offset = self.branch("offset", feature)
        grid = score.shape[-1]
        centres = (cell_corners(grid, score.device) + offset.flatten(2)) / grid
        return _center_candidates(score, size, offset, centres)


@fused_form_of(CenterHead, portable=True)
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
        """As `CenterHead.forward`; float32 maps, whatever the format of the products."""
        grid = feature.shape[-1]
        maps = self.branches(feature)
        probable = maps[:, :3].sigmoid().clamp_(LOW, HIGH)
        score, size, offset = probable[:, :1], probable[:, 1:], maps[:, 3:]
        corners = self.corners if grid == self.grid else cell_corners(grid, maps.device) / grid
        return _center_candidates(score, size, offset, torch.add(corners, offset.flatten(2), alpha=1.0 / grid))


def cell_corners(grid: int, device: torch.device) -> Tensor:
    """Top-left corners of cells.

    Args:
        grid: Side of the map in cells.
        device: Of the result.

    Returns:
        x and y in cells, [1, 2, grid * grid] float32, row-major.
    """
    steps = torch.arange(grid, dtype=torch.float32, device=device)
    return torch.stack([steps.repeat(grid), steps.repeat_interleave(grid)])[None]


def _center_candidates(score: Tensor, size: Tensor, offset: Tensor, centres: Tensor) -> Candidates:
    """centres: [B, 2, g * g] x, y in units of the crop's side."""
    boxes = torch.cat([centres, size.flatten(2)], dim=1).transpose(1, 2)
    return Candidates(score.flatten(1), boxes, {"score_map": score, "size_map": size, "offset_map": offset})


class CornerHead(ConvBranches):
    """One candidate per search region: the box as the expected positions of its two corners.

    The published network of OSTrack crashes with this head, since it unpacks two values where three come; the head
    itself is the published one.

    Args:
        inputs: Channels of the feature map.
        num_channels: Width of the first convolution, halved three times.
        score: See `corner_candidates`.
    """

    BRANCHES = ("tl", "br")

    def __init__(self, inputs: int, num_channels: Channels = 256, score: CornerScore = "mean") -> None:
        super().__init__([inputs, *(num_channels // 2**i for i in range(4))], dict.fromkeys(self.BRANCHES, 1))
        self.score = score

    def corner_logits(self, feature: Tensor) -> Tensor:
        """Maps before softmax.

        Args:
            feature: [B, inputs, g, g].

        Returns:
            [B, 2, g, g] of the top-left and the bottom-right corner.
        """
        return torch.cat([self.branch(name, feature) for name in self.BRANCHES], dim=1)

    def forward(self, feature: Tensor) -> Candidates:
        """Candidates of a feature map.

        Args:
            feature: [B, inputs, g, g].

        Returns:
            One candidate per search region; maps are in float32, under autocast too.
        """
        return corner_candidates(self.corner_logits(feature.contiguous()), self.score)


@fused_form_of(CornerHead, portable=True)
class FusedCornerHead(nn.Module):
    """A `CornerHead` for inference: both branches side by side."""

    to_boxes: Tensor

    def __init__(self, head: CornerHead, options: FuseOptions) -> None:
        super().__init__()
        self.branches, self.score = FusedBranches(head, CornerHead.BRANCHES, options), head.score
        to_boxes = corners_to_boxes(options.grid, next(head.parameters()).device)
        self.register_buffer("to_boxes", to_boxes, persistent=False)

    def forward(self, feature: Tensor) -> Candidates:
        """As `CornerHead.forward`; float32 maps, whatever the format of the products."""
        return corner_candidates(self.branches(feature), self.score, self.to_boxes)


def corners_to_boxes(grid: int, device: torch.device) -> Tensor:
    """[2 * g * g, 4]: what a cell adds to cx, cy, w, h in units of the crop's side as either corner."""
    places = cell_corners(grid, device)[0].t() / grid
    return torch.cat([torch.cat([places / 2, side * places], dim=1) for side in (-1, 1)])


@without_autocast
def corner_candidates(logits: Tensor, score: CornerScore = "mean", to_boxes: Tensor | None = None) -> Candidates:
    """The box between the expected corners; a cell stands for its top-left corner, there is no half-cell shift.

    Args:
        logits: [B, 2, g, g] of the top-left and the bottom-right corner.
        score: The candidate's score is the largest of its score map: "mean", the mean of both corners' probabilities;
            "product", the probability of the second corner times the largest one of the first (MAT, CVPR 2023).
        to_boxes: See `corners_to_boxes`; computed where it is not given, or of another grid.

    Returns:
        One candidate. The probabilities are `corners` in its maps.
    """
    grid = logits.shape[-1]
    corners = logits.flatten(2).softmax(dim=2)
    if to_boxes is None or len(to_boxes) != 2 * grid * grid:
        to_boxes = corners_to_boxes(grid, logits.device)
    boxes = corners.flatten(1) @ to_boxes.to(corners.dtype)
    score_map = corners.mean(dim=1) if score == "mean" else corners[:, 0].amax(dim=1, keepdim=True) * corners[:, 1]
    maps = {"score_map": score_map.unflatten(1, (1, grid, grid)), "corners": corners}
    return Candidates(score_map.amax(dim=1, keepdim=True), boxes[:, None], maps)


def boxes_from_corners(cells: Tensor, corners: Tensor) -> Tensor:
    """Boxes between two chosen corners, which may come in any order; a box is at least one cell wide and high.

    A corner is the mean place of the 3 x 3 cells around the chosen one, weighted by their probabilities: whole cells
    would be worse than the expected corners whatever was chosen.

    Args:
        cells: [B, 2], the corners' cells, row-major.
        corners: [B, 2, g * g], probabilities.

    Returns:
        [B, 4] float64, cx, cy, w, h in units of the crop's side.
    """
    grid = math.isqrt(corners.shape[2])
    places = cell_corners(grid, corners.device)[0].t().double()
    near = (places - places[cells][:, :, None]).abs().amax(dim=3) <= 1
    weights = (corners.double() + torch.finfo(torch.float32).tiny) * near
    place = weights @ places / weights.sum(dim=2, keepdim=True) / grid
    low, high = place.amin(dim=1), place.amax(dim=1)
    return torch.cat([(low + high) / 2, (high - low).clamp(min=1 / grid)], dim=1)
