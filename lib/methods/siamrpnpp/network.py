"""SiamRPN++ (Li et al., CVPR 2019): three levels of an atrous ResNet, correlated depth-wise, a box per anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.methods.siamrpnpp.config import CORRELATED, cells_of
from lib.models.backbones import ResNet
from lib.models.heads import AdjustLayers, Candidates, MultiLevelProposal, anchor_candidates, anchor_grid, centre_cells
from lib.models.layers import FuseOptions, sample_pictures, with_fused_children

LEVELS = 3
"""Layers 2, 3 and 4 of the backbone."""


class SiamRPN(nn.Module):
    """The network of SiamRPN++; module names are those of published checkpoints.

    Args:
        backbone: An atrous ResNet of four layers.
        width: Channels of neck and heads.
        shapes: Widths and heights of the anchors in pixels.
        template_size, search_size: Sides of the pictures in pixels.

    Attributes:
        cells, grid: Cells along a side of the search region's features, and of the map of scores.
        anchors: [N, 4] cx, cy, w, h in units of the search region's side. Cell ``grid // 2`` is in its middle, as
            published: With an even number of cells, the whole grid is half a cell off.
    """

    anchors: Tensor

    def __init__(
        self, backbone: ResNet, width: int, shapes: Sequence[tuple[float, float]], template_size: int, search_size: int
    ) -> None:
        super().__init__()
        self.template_size, self.search_size, self.width = template_size, search_size, width
        self.backbone = backbone
        channels = [backbone.channels // 2**i for i in reversed(range(LEVELS))]
        self.neck = AdjustLayers(channels, width)
        self.rpn_head = MultiLevelProposal(LEVELS, width, len(shapes))
        self.cells = cells_of(search_size)
        self.grid = self.cells - CORRELATED
        anchors = anchor_grid(shapes, self.grid, backbone.stride) / search_size
        anchors[:, :2] += 0.5
        self.register_buffer("anchors", anchors, persistent=False)

    def levels(self, picture: Tensor) -> list[Tensor]:
        """Features of a picture at the width of the heads.

        Args:
            picture: [B, 3, H, W], normalised.

        Returns:
            [B, width, cells, cells] each.
        """
        return self.neck(self.backbone.maps(picture)[-LEVELS:])

    def encode_template(self, template: Tensor) -> Tensor:
        """Once per target.

        Args:
            template: [B, 3, T, T], normalised.

        Returns:
            Kernels [B, 6 * width, 5, 5] of all branches.
        """
        return self.rpn_head.encode_template([centre_cells(x) for x in self.levels(template)])

    def locate(self, kernels: Tensor, search: Tensor) -> Candidates:
        """Once per frame.

        Args:
            kernels: [B, 6 * width, 5, 5], from `encode_template`.
            search: [B, 3, S, S], normalised.

        Returns:
            One candidate per anchor, with the maps ``cls`` and ``loc``.
        """
        levels = self.levels(search)
        cls, loc = self.rpn_head(kernels, levels)
        return self.candidates(cls, loc, levels)

    def candidates(self, cls: Tensor, loc: Tensor, levels: Sequence[Tensor]) -> Candidates:
        """One candidate per anchor.

        Args:
            cls, loc: See `anchor_candidates`.
            levels: What the head read, of which the middle of the last one joins the maps.
        """
        candidates, edge = anchor_candidates(cls, loc, self.anchors), CORRELATED // 2
        return candidates.with_maps(feature=levels[-1][..., edge:-edge, edge:-edge])

    def forward(self, template: Tensor, search: Tensor) -> Candidates:
        """The form of training; the template goes through the backbone first.

        Args:
            template: [B, 3, T, T], normalised.
            search: [B, 3, S, S], normalised.
        """
        return self.locate(self.encode_template(template), search)

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of both entry points, two rows each, pictures in uint8; see `lib.deploy.graphs`."""
        kernels = torch.randn(2, 2 * LEVELS * self.width, 5, 5, generator=torch.Generator().manual_seed(0))
        template, search = (sample_pictures(3, side) for side in (self.template_size, self.search_size))
        return {"encode_template": {"template": template}, "locate": {"tokens": kernels, "search": search}}

    def fuse_for_inference(self, options: FuseOptions) -> SiamRPN:
        """For inference; see `lib.models.layers.fused`. Anchors stay in float32."""
        twin = with_fused_children(self, replace(options, grid=self.cells))
        twin.register_buffer("anchors", self.anchors, persistent=False)
        return twin
