"""SiamAttn (Yu et al., CVPR 2020): SiamRPN++ with enhanced levels, refined boxes and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.methods.siamrpnpp.network import LEVELS, SiamRPN
from lib.models.backbones import ResNet
from lib.models.fusion import FeatureEnhance, PyramidFusion
from lib.models.heads import KERNEL_CELLS, Candidates, MaskHead, RefineHead, centre_cells

BOX_FEATURES, MASK_FEATURES = "box_features", "mask_features"
"""Maps of `Candidates` in which boxes are refined and masks are drawn."""
TRUE_MASKS, HAS_MASKS = "true_masks", "has_masks"
"""Maps of `Candidates` in sequence-level training: masks of the targets, and whether they are known."""


@dataclass(frozen=True)
class Regions:
    """Boxes of a batch to refine, and to draw masks in.

    Attributes:
        rows: [N] int64, the search region of each.
        rois_xyxy: [N, 4] in pixels of the search region.
    """

    rows: Tensor
    rois_xyxy: Tensor


@dataclass(frozen=True)
class SiamAttnOutput:
    """Network output in training.

    Attributes:
        candidates: One per anchor.
        regions: N of them, proposed for these candidates.
        changes: [N, 4] of the regions, see `RefineHead`.
        mask_logits: [N, 64, 64] over the regions.
    """

    candidates: Candidates
    regions: Regions
    changes: Tensor
    mask_logits: Tensor


class SiamAttn(SiamRPN):
    """The network of SiamAttn; module names are those of published checkpoints.

    Args:
        backbone, width, shapes, template_size, search_size: See `SiamRPN`.
    """

    def __init__(
        self, backbone: ResNet, width: int, shapes: Sequence[tuple[float, float]], template_size: int, search_size: int
    ) -> None:
        super().__init__(backbone, width, shapes, template_size, search_size)
        stem = backbone.conv1.out_channels
        self.feature_enhance = FeatureEnhance(LEVELS, width)
        self.feature_fusion = PyramidFusion([stem, 4 * stem, *[width] * LEVELS], width)
        self.refine_head = RefineHead(width, self.grid / search_size)
        # Masks are drawn on the first layer's map, which has twice the resolution of the levels.
        self.mask_head = MaskHead(width, (search_size - 3) // 4 / search_size)

    def encode_template(self, template: Tensor) -> Tensor:
        """Once per target.

        Args:
            template: [B, 3, T, T], normalised.

        Returns:
            [B, 3, width, 2 h h + width], see `FeatureEnhance.encode_template`.
        """
        return self.feature_enhance.encode_template([centre_cells(x) for x in self.levels(template)])

    def locate(self, template: Tensor, search: Tensor, masks: bool = False) -> Candidates:
        """Once per frame.

        Args:
            template: [B, 3, width, 2 h h + width], from `encode_template`.
            search: [B, 3, S, S], normalised.
            masks: ``mask_features`` are among the maps.

        Returns:
            One candidate per anchor, with the maps ``cls``, ``loc`` and ``box_features``.
        """
        maps = self.backbone.maps(search)
        target, levels = self.feature_enhance(template, self.neck(maps[-LEVELS:]))
        kernels = self.rpn_head.encode_template(target)
        cls, loc = self.rpn_head(kernels, levels)
        candidates = self.candidates(cls, loc, levels)
        features = {BOX_FEATURES: self.feature_fusion.box_features(target, levels)}
        if masks:
            features[MASK_FEATURES] = self.feature_fusion.mask_features([*maps[:2], *levels])
        return candidates.with_maps(**features)

    def refine(self, box_features: Tensor, rois_xyxy: Tensor, rows: Tensor | None = None) -> Tensor:
        """Changes of boxes.

        Args:
            box_features: [B, width, g, g], a map of the candidates.
            rois_xyxy: [N, 4] boxes in pixels of the search regions.
            rows: [N] int64, the search region of each box; None: one box in each.

        Returns:
            [N, 4], see `RefineHead`.
        """
        rows = torch.arange(rois_xyxy.shape[0], device=rois_xyxy.device) if rows is None else rows
        return self.refine_head(box_features, rows, rois_xyxy)

    def draw(self, candidates: Candidates, regions: Regions) -> Tensor:
        """Logits [N, 64, 64] of masks over boxes; the candidates have ``mask_features``."""
        return self.mask_head(candidates.maps[MASK_FEATURES], regions.rows, regions.rois_xyxy)

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of all entry points, two rows each, pictures in uint8; see `lib.deploy.graphs`."""
        pictures, generator = super().sample_inputs(), torch.Generator().manual_seed(1)
        tokens = torch.randn(2, LEVELS, self.width, 2 * KERNEL_CELLS**2 + self.width, generator=generator)
        low, sides = (torch.rand(2, 2, generator=generator) * self.search_size / 2 for _ in range(2))
        features = torch.randn(2, self.width, self.grid, self.grid, generator=generator)
        pictures["locate"]["tokens"] = tokens
        return {**pictures, "refine": {BOX_FEATURES: features, "rois_xyxy": torch.cat([low, low + sides], dim=1)}}

    def forward(  # type: ignore[override]
        self, template: Tensor, search: Tensor, propose: Callable[[Candidates], Regions]
    ) -> SiamAttnOutput:
        """The form of training; the template goes through the backbone first.

        Args:
            template: [B, 3, T, T], normalised.
            search: [B, 3, S, S], normalised.
            propose: Chooses regions for the candidates, so that one call of the network covers both steps.
        """
        candidates = self.locate(self.encode_template(template), search, masks=True)
        regions = propose(candidates)
        changes = self.refine(candidates.maps[BOX_FEATURES], regions.rois_xyxy, regions.rows)
        return SiamAttnOutput(candidates, regions, changes, self.draw(candidates, regions))
