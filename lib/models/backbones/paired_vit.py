"""One ViT for the visible and the infrared stream, each with a class token (GDSTrack, IJCAI 2025, sec. 3.1).

Transformer blocks are shared; patches, position embeddings, class token and last norm are each stream's own. Streams do
not see each other, so both lie under one another in one batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from lib.models.layers.attention import sincos_pos_embed
from lib.models.layers.blocks import EPS, Block, linear_std, trunc_normal_linears
from lib.models.layers.fused import FuseOptions, fuse_module, with_fused_children
from lib.models.layers.stem import PatchEmbed
from lib.ranges import Count, Side

STREAMS = ("", "_p")
"""Ends of the names of what the visible and the infrared stream have of their own, as published."""


@dataclass(frozen=True)
class PairedOptions:
    """Size of a paired ViT; the defaults are ViT-B/16.

    Attributes:
        embed_dim: Width of a token.
        depth, num_heads: Blocks, and heads of their attention.
        stride: Side of a patch in pixels.
        template_size, search_size: Sides of the pictures in pixels; position embeddings belong to these grids.
        from_scratch: Fresh weights are for training without pre-training, see `linear_std`.
    """

    embed_dim: Count = 768
    depth: Count = 12
    num_heads: Count = 12
    stride: Count = 16
    template_size: Side = 128
    search_size: Side = 256
    from_scratch: bool = False


class PairedViT(nn.Module):
    """ViT over class token, template tokens and search tokens of two streams.

    Position embeddings are sines and cosines, the class token's zero; a trained file has its own.

    Args:
        options: Its size.
    """

    def __init__(self, options: PairedOptions) -> None:
        super().__init__()
        width, self.patch = options.embed_dim, options.stride
        self.width = width
        self.template_size, self.search_size = options.template_size, options.search_size
        self.grid_template, self.grid_search = self.template_size // self.patch, self.search_size // self.patch
        for stream in STREAMS:
            positions = torch.cat([torch.zeros(1, 1, width), sincos_pos_embed(self.grid_search, width)[None]], dim=1)
            self.register_parameter(f"pos_embed{stream}", nn.Parameter(positions))
            template_positions = sincos_pos_embed(self.grid_template, width)[None]
            self.register_parameter(f"z_pos_embed{stream}", nn.Parameter(template_positions))
            self.register_parameter(f"cls_token{stream}", nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02)))
            self.add_module(f"patch_embed{stream}", PatchEmbed(self.patch, width))
            self.add_module(f"z_patch_embed{stream}", PatchEmbed(self.patch, width))
            self.add_module(f"norm{stream}", nn.LayerNorm(width, eps=EPS))
        self.blocks = nn.ModuleList(Block(width, options.num_heads) for _ in range(options.depth))
        trunc_normal_linears(self, linear_std(width, options.from_scratch))

    def embed_template(self, template: Tensor) -> Tensor:
        """Class token and template tokens, all that can be computed once per target.

        Args:
            template: [B, 6, T, T] normalised, visible first.

        Returns:
            [B, 2, 1 + Nz, C] with position embeddings, visible first.
        """
        rows = []
        for stream, picture in zip(STREAMS, template.split(3, dim=1), strict=True):
            tokens = self.get_submodule(f"z_patch_embed{stream}")(picture) + getattr(self, f"z_pos_embed{stream}")
            token = getattr(self, f"cls_token{stream}") + getattr(self, f"pos_embed{stream}")[:, :1]
            rows.append(torch.cat([token.expand(tokens.shape[0], -1, -1), tokens], dim=1))
        return torch.stack(rows, dim=1)

    def embed_search(self, search: Tensor) -> Tensor:
        """Tokens of a search region.

        Args:
            search: [B, 6, S, S] normalised, visible first.

        Returns:
            [B, 2, Nx, C] with position embeddings.
        """
        rows = [
            self.get_submodule(f"patch_embed{stream}")(picture) + getattr(self, f"pos_embed{stream}")[:, 1:]
            for stream, picture in zip(STREAMS, search.split(3, dim=1), strict=True)
        ]
        return torch.stack(rows, dim=1)

    def encode(self, template: Tensor, search: Tensor, search_only: bool = True) -> Tensor:
        """Encode template and search region of each stream together.

        Args:
            template: [B, 2, 1 + Nz, C], from `embed_template`.
            search: [B, 2, Nx, C], from `embed_search`.
            search_only: The last block computes search tokens alone; nothing but them is used in tracking.

        Returns:
            [B, 2, Nx, C], or all tokens [B, 2, 1 + Nz + Nx, C].
        """
        x = torch.cat([template, search], dim=2).flatten(0, 1)
        *blocks, last = cast("Iterable[Block]", self.blocks)
        for block in blocks:
            x = block(x)
        visible, infrared = last(x, template.shape[2] if search_only else 0).unflatten(0, (-1, 2)).unbind(1)
        normed = [self.get_submodule(f"norm{s}")(x) for s, x in zip(STREAMS, (visible, infrared), strict=True)]
        return torch.stack(normed, dim=1)

    def fuse_for_inference(self, options: FuseOptions) -> PairedViT:
        """For inference; see `lib.models.layers.fused`. Stems have their own channels' normalisation folded in."""
        twin = with_fused_children(self, options)
        if options.pixels is not None:
            options = replace(options, pixels=options.pixels.of_aux())
        for name in ("patch_embed_p", "z_patch_embed_p"):
            twin._modules[name] = fuse_module(self.get_submodule(name), options)
        return twin
