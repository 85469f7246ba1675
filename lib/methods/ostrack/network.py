"""OSTrack (Ye et al., ECCV 2022): one ViT for template and search region, one convolutional head."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lib.models.backbones import OneStreamBackbone, Tokens
from lib.models.heads import Candidates
from lib.models.layers import box_rows, sample_pictures


@dataclass(frozen=True, slots=True)
class OSTrackOutput:
    """Network output for B search regions.

    Attributes:
        candidates: Of the head.
        feature: [B, C, g, g], the search feature map that the head reads.
        tokens: The backbone's output.
    """

    candidates: Candidates
    feature: Tensor
    tokens: Tokens = field(repr=False)


class OSTrack(nn.Module):
    """The network of OSTrack; module names are those of published checkpoints: `backbone`, `box_head`.

    It can be teacher or student of a distillation (`lib.objectives.distillation.Distillable`).

    Attributes:
        streams: Modalities that are encoded apart; 1, since template and search region are one stream.
        feature_width: Channels C of the search feature map.
        mask_head: See `lib.models.heads.SearchMaskHead`, where MASK is given.
    """

    streams = 1
    mask_head: nn.Module | None

    def __init__(self, backbone: OneStreamBackbone, box_head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.box_head = backbone, box_head
        self.feature_width = backbone.width
        self.mask_head = None

    def encode_template(self, template: Tensor) -> Tensor:
        """Once per target.

        Args:
            template: [B, 3, T, T], normalised.

        Returns:
            Tokens [B, Nz, C].
        """
        return self.backbone.embed_template(template)

    def template_mask(self, template_boxes_xywh: Tensor) -> Tensor | None:
        """The template tokens that score candidates for elimination, where the target's box decides it.

        Args:
            template_boxes_xywh: [B, 4] in units of the template crop's side.

        Returns:
            [B, Nz] bool; None for a network that does not choose by the box.
        """
        if not self.backbone.needs_template_mask:
            return None
        size = self.backbone.template_size
        return box_rows(template_boxes_xywh.float() * size, size, self.backbone.patch)

    def locate(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None = None) -> OSTrackOutput:
        """Once per frame.

        Args:
            template_tokens: [B, Nz, C], from `encode_template`.
            search: [B, 3, S, S], normalised.
            template_mask: [B, Nz], from `template_mask`.
        """
        embedded = self.backbone.embed_search(search)
        return self.decode(self.backbone.encode(template_tokens, embedded, template_mask))

    def decode(self, tokens: Tokens) -> OSTrackOutput:
        """Run the head.

        Args:
            tokens: The backbone's output for B search regions.
        """
        feature = self._feature(tokens)
        candidates: Candidates = self.box_head(feature)
        return OSTrackOutput(candidates.with_maps(feature=feature), feature, tokens)

    def _feature(self, tokens: Tokens) -> Tensor:
        """Search tokens [B, N, C] as a map [B, C, g, g]."""
        grid = self.backbone.grid_search
        return tokens.search.transpose(1, 2).unflatten(2, (grid, grid))

    def forward(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> OSTrackOutput:
        """The form of training.

        Args:
            template: [B, 3, T, T], normalised.
            search: [B, 3, S, S], normalised.
            template_mask: [B, Nz], from `template_mask`.
            keep_rate: Share of search tokens that an elimination keeps, in place of the configured ratios.
        """
        return self.decode(self.backbone(template, search, template_mask, keep_rate))

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of both entry points, two rows each, pictures in uint8; see `lib.deploy.graphs`."""
        b, channels = self.backbone, 3 * self.streams
        streams, length = (self.streams,) if self.streams > 1 else (), b.grid_template**2
        tokens = torch.randn(2, *streams, length, b.width, generator=torch.Generator().manual_seed(0))
        locate = {"tokens": tokens, "search": sample_pictures(channels, b.search_size)}
        if b.needs_template_mask:
            locate["mask"] = torch.arange(length).expand(2, -1) % 3 == 0
        return {"encode_template": {"template": sample_pictures(channels, b.template_size)}, "locate": locate}

    def qkv_layer(self, layer: int) -> tuple[int, nn.Module]:
        """A block and the projection that gives its queries, keys and values.

        Args:
            layer: Number of the block, counted from the end when negative.

        Returns:
            The number from 0, and the module, whose output is [streams * B, N, 3C].

        Raises:
            ValueError: Not all search tokens reach the block.
        """
        return self.backbone.qkv_layer(layer)

    def search_feature(self, template: Tensor, search: Tensor, template_boxes: Tensor) -> Tensor:
        """The search feature map [B, C, g, g] of the first template and search region; no head is run.

        Args:
            template: [B, Nt, 3, T, T], normalised.
            search: [B, Ns, 3, S, S], normalised.
            template_boxes: [B, Nt, 4] x, y, w, h in units of the crop's side.
        """
        mask = self.template_mask(template_boxes[:, 0])
        return self._feature(self.backbone(template[:, 0], search[:, 0], mask))
