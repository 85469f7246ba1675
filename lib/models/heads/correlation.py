"""Depth-wise cross-correlation of a template with a search region, on several levels of features (SiamRPN++)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.conv_norm import folded
from lib.models.layers.fused import Convolution, FuseOptions, fused_form_of
from lib.models.layers.winograd import build_convolution

KERNEL_CELLS = 7
"""Side of the part of a template's map that is correlated: its middle."""


def correlate(search: Tensor, kernels: Tensor) -> Tensor:
    """Slide each row's own kernel over its own map, channel by channel.

    Args:
        search: [B, C, H, W].
        kernels: [B, C, h, w].

    Returns:
        [B, C, H - h + 1, W - w + 1].
    """
    rows, channels, height, width = search.shape
    if torch.compiler.is_exporting():  # a graph for any number of rows has no convolution with as many groups
        high, wide = kernels.shape[2:]
        down, along = height - high + 1, width - wide + 1
        taps = [(i, j) for i in range(high) for j in range(wide)]
        parts = [kernels[..., i, j, None, None] * search[..., i : i + down, j : j + along] for i, j in taps]
        return sum(parts[1:], parts[0])
    maps = search.reshape(1, rows * channels, height, width)
    correlated = F.conv2d(maps, kernels.reshape(rows * channels, 1, *kernels.shape[2:]), groups=rows * channels)
    return correlated.view(rows, channels, *correlated.shape[2:])


def centre_cells(template: Tensor) -> Tensor:
    """The middle cells of a template's map, where it has more.

    Args:
        template: [B, C, h, h].

    Returns:
        [B, C, 7, 7] at most.
    """
    first = max(0, (template.shape[-1] - KERNEL_CELLS) // 2)
    cells = slice(first, first + KERNEL_CELLS)
    return template[..., cells, cells]


class AdjustLayer(nn.Module):
    """One level of features at the width of the heads: 1 x 1 convolution and batch norm."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, H, W] -> [B, width, H, W]."""
        return self.downsample(x)


class AdjustLayers(nn.ModuleDict):
    """An `AdjustLayer` per level.

    Args:
        inputs: Channels of each level; the first one is the backbone's layer 2.
        width: Of the heads.
    """

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__({f"downsample{i + 2}": AdjustLayer(channels, width) for i, channels in enumerate(inputs)})

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """levels [B, inputs, H, W] -> [B, width, H, W] each."""
        return [layer(x) for layer, x in zip(self.values(), levels, strict=True)]


class DepthwiseHead(nn.Module):
    """Template and search region, each behind a 3 x 3 convolution, correlated channel by channel; then two 1 x 1.

    Args:
        width: Channels of the inputs.
        outputs: Channels of the result.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.conv_kernel, self.conv_search = (
            nn.Sequential(nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            for _ in range(2)
        )
        first = nn.Conv2d(width, width, 1, bias=False)
        last = nn.Conv2d(width, outputs, 1)
        self.head = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)

    def encode_template(self, template: Tensor) -> Tensor:
        """Kernels, once per target.

        Args:
            template: [B, width, h, h], see `centre_cells`.

        Returns:
            [B, width, h - 2, h - 2].
        """
        return self.conv_kernel(template)

    def correlation(self, kernels: Tensor, search: Tensor) -> Tensor:
        """The correlated maps.

        Args:
            kernels: [B, width, k, k], from `encode_template`.
            search: [B, width, H, H].

        Returns:
            [B, width, H - 1 - k, H - 1 - k].
        """
        return correlate(self.conv_search(search), kernels)

    def forward(self, kernels: Tensor, search: Tensor) -> Tensor:
        """As `correlation`, then the head: [B, outputs, g, g]."""
        return self.head(self.correlation(kernels, search))


class MultiLevelProposal(nn.Module):
    """Scores and box changes of all anchors from each level, mixed with learned weights (SiamRPN++, eq. 2).

    Args:
        levels: Number of levels; the first one is called `rpn2` as the backbone's layer is.
        width: Channels of each.
        anchors: Shapes per cell.
    """

    def __init__(self, levels: int, width: int, anchors: int) -> None:
        super().__init__()
        self.levels = levels
        for i in range(levels):
            heads = {"cls": DepthwiseHead(width, 2 * anchors), "loc": DepthwiseHead(width, 4 * anchors)}
            self.add_module(f"rpn{i + 2}", nn.ModuleDict(heads))
        self.cls_weight, self.loc_weight = nn.Parameter(torch.ones(levels)), nn.Parameter(torch.ones(levels))

    def branches(self) -> list[DepthwiseHead]:
        """cls and loc of every level in turn."""
        names = [f"rpn{i + 2}.{kind}" for i in range(self.levels) for kind in ("cls", "loc")]
        return [cast("DepthwiseHead", self.get_submodule(name)) for name in names]

    def encode_template(self, template: Sequence[Tensor]) -> Tensor:
        """Kernels of all branches, once per target.

        Args:
            template: Levels [B, width, h, h], see `centre_cells`.

        Returns:
            [B, 2 * levels * width, k, k], in the order of `branches`.
        """
        doubled = [x for x in template for _ in range(2)]
        return torch.cat([b.encode_template(x) for b, x in zip(self.branches(), doubled, strict=True)], dim=1)

    def forward(self, kernels: Tensor, search: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Once per frame.

        Args:
            kernels: From `encode_template`.
            search: Levels [B, width, H, H].

        Returns:
            cls [B, 2 * anchors, g, g] and loc [B, 4 * anchors, g, g].
        """
        doubled = [x for x in search for _ in range(2)]
        parts = kernels.chunk(2 * self.levels, dim=1)
        maps = [b(k, x) for b, k, x in zip(self.branches(), parts, doubled, strict=True)]
        cls, loc = (
            sum(share * x for share, x in zip(weight.softmax(dim=0), found, strict=True))
            for weight, found in ((self.cls_weight, maps[::2]), (self.loc_weight, maps[1::2]))
        )
        return cls, loc


@fused_form_of(AdjustLayer, portable=True)
class FusedAdjustLayer(Convolution):
    """An `AdjustLayer` for inference."""

    def __init__(self, layer: AdjustLayer, options: FuseOptions) -> None:
        super().__init__(*folded(*layer.downsample), options)


def fused_sides(levels: Sequence[Sequence[DepthwiseHead]], options: FuseOptions) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Fused `conv_kernel` and `conv_search` of all heads of a level as one convolution each.

    Args:
        levels: The heads of each level.
        options: How to fuse.

    Returns:
        The convolutions of templates and of search regions, one per level.
    """

    def weights(heads: Sequence[DepthwiseHead], name: str) -> tuple[Tensor, Tensor]:
        parts = [folded(*list(head.get_submodule(name).children())[:2]) for head in heads]
        return torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])

    small = replace(options, grid=KERNEL_CELLS)
    templates = (Convolution(*weights(heads, "conv_kernel"), small, relu=True, padding=0) for heads in levels)
    searches = (build_convolution(*weights(heads, "conv_search"), options, relu=True, padding=0) for heads in levels)
    return nn.ModuleList(templates), nn.ModuleList(searches)


@fused_form_of(MultiLevelProposal, portable=True)
class FusedProposal(nn.Module):
    """A `MultiLevelProposal` for inference.

    Both branches of a level are one convolution, and all rows and branches are correlated in one operation. The last
    layers of all levels, with their shares, are one convolution too, in float32, since scores are compared.
    """

    def __init__(self, proposal: MultiLevelProposal, options: FuseOptions) -> None:
        super().__init__()
        branches = proposal.branches()
        pairs = list(zip(branches[::2], branches[1::2], strict=True))
        self.templates, self.searches = fused_sides(pairs, options)
        firsts, biases = zip(*(folded(*list(branch.head)[:2]) for branch in branches), strict=True)
        last = [cast("nn.Conv2d", branch.head[3]) for branch in branches]
        shares = torch.stack([proposal.cls_weight.softmax(dim=0), proposal.loc_weight.softmax(dim=0)], dim=1).flatten()
        outputs = []
        bias = torch.cat([last[0].bias.new_zeros(layer.out_channels) for layer in last[:2]])  # type: ignore[union-attr]
        cls = last[0].out_channels
        for i, (share, layer) in enumerate(zip(shares, last, strict=True)):
            rows = slice(cls, None) if i % 2 else slice(0, cls)
            block = layer.weight.new_zeros(len(bias), *layer.weight.shape[1:])
            block[rows] = share * layer.weight
            outputs.append(block)
            bias[rows] += share * cast("Tensor", layer.bias)
        self.cls = cls
        self.first = Convolution(torch.cat(firsts), torch.cat(biases), options, relu=True, groups=len(branches))
        self.last = Convolution(torch.cat(outputs, dim=1).float(), bias, replace(options, dtype=torch.float32))

    def encode_template(self, template: Sequence[Tensor]) -> Tensor:
        """As `MultiLevelProposal.encode_template`."""
        return torch.cat([layer(x) for layer, x in zip(self.templates, template, strict=True)], dim=1).contiguous()

    def forward(self, kernels: Tensor, search: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As `MultiLevelProposal.forward`."""
        maps = torch.cat([layer(x) for layer, x in zip(self.searches, search, strict=True)], dim=1)
        output = self.last(self.first(correlate(maps, kernels)).float()).contiguous()
        return output[:, : self.cls], output[:, self.cls :]
