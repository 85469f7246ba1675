"""OSTrack (Ye et al., ECCV 2022): one ViT for template and search region, one convolutional head."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lib.models.backbones import OneStreamViT, Tokens
from lib.models.heads import Candidates
from lib.models.layers import box_rows, sample_pictures


@dataclass(frozen=True, slots=True)
class OSTrackOutput:
    """candidates: of the head. feature: [B, C, g, g], what the head read. tokens: the backbone's output."""

    candidates: Candidates
    feature: Tensor
    tokens: Tokens = field(repr=False)


class OSTrack(nn.Module):
    """Module names are those of published checkpoints: `backbone`, `box_head`."""

    def __init__(self, backbone: OneStreamViT, box_head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.box_head = box_head

    def encode_template(self, template: Tensor) -> Tensor:
        """Once per target: template [B, 3, T, T], normalised -> tokens [B, Nz, C]."""
        return self.backbone.embed_template(template)

    def template_mask(self, template_boxes_xywh: Tensor) -> Tensor | None:
        """Which template tokens judge candidates, where the box decides that; [B, Nz] bool, else None.

        template_boxes_xywh: [B, 4] in units of the template crop's side.
        """
        if not self.backbone.needs_template_mask:
            return None
        size = self.backbone.template_size
        return box_rows(template_boxes_xywh.float() * size, size, self.backbone.patch)

    def locate(
        self,
        template_tokens: Tensor,
        search: Tensor,
        template_mask: Tensor | None = None,
        keep_rate: float | None = None,
    ) -> OSTrackOutput:
        """Once per frame: search [B, 3, S, S], normalised. keep_rate: training override of the elimination ratios."""
        tokens = self.backbone.encode(template_tokens, self.backbone.embed_search(search), template_mask, keep_rate)
        return self.decode(tokens)

    def decode(self, tokens: Tokens) -> OSTrackOutput:
        """The head's maps for a backbone's output."""
        feature = self._feature(tokens)
        return OSTrackOutput(self.box_head(feature), feature, tokens)

    def _feature(self, tokens: Tokens) -> Tensor:
        grid = self.backbone.grid_search
        return tokens.search.transpose(1, 2).unflatten(2, (grid, grid))

    def forward(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> OSTrackOutput:
        """template [B, 3, T, T] and search [B, 3, S, S], normalised."""
        return self.locate(self.encode_template(template), search, template_mask, keep_rate)

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of both entry points, two rows each, pictures in uint8; see `lib.deploy.graphs`."""
        b, channels = self.backbone, 3 * self.streams
        streams, length = (self.streams,) if self.streams > 1 else (), b.grid_template**2
        tokens = torch.randn(2, *streams, length, b.width, generator=torch.Generator().manual_seed(0))
        locate = {"tokens": tokens, "search": sample_pictures(channels, b.search_size)}
        if b.needs_template_mask:
            locate["mask"] = torch.arange(length).expand(2, -1) % 3 == 0
        return {"encode_template": {"template": sample_pictures(channels, b.template_size)}, "locate": locate}

    @property
    def streams(self) -> int:
        """For distillation: template and search region are one stream."""
        return 1

    @property
    def feature_width(self) -> int:
        """Channels of the feature map."""
        return self.backbone.width

    def qkv_layer(self, layer: int) -> tuple[int, nn.Module]:
        """For distillation (`lib.objectives.distillation.Distillable`): a block's number and its qkv projection."""
        return self.backbone.qkv_layer(layer)

    def search_feature(self, template: Tensor, search: Tensor, template_boxes: Tensor) -> Tensor:
        """The feature map [B, C, g, g] of a batch's first template [B, Nt, 3, T, T] and search region; no head."""
        mask = self.template_mask(template_boxes[:, 0])
        return self._feature(self.backbone(template[:, 0], search[:, 0], mask))
