"""One ViT for RGB and a second modality: two streams, shared blocks, fusion at a few depths (SDSTrack, CVPR 2024).

Streams lie under one another in one batch, RGB rows first, so that what the two share is computed once for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from lib.models.adapters.adapted_block import AdaptedBlock
from lib.models.backbones.one_stream_vit import OneStreamViT, Tokens, ViTOptions
from lib.models.layers.candidate_elimination import drop_candidates, put_back
from lib.models.layers.fused import FuseOptions, fuse_module, with_fused_children
from lib.models.layers.masking import hide
from lib.ranges import Count, CountOrNone


@dataclass(frozen=True)
class TwoStreamOptions(ViTOptions):
    """Size of a two-stream ViT; the defaults are SDSTrack's.

    Attributes:
        fusion_loc: Blocks (from 0) behind which the streams are fused, by the same block.
        adapter_dim: Width of the adapters.
    """

    fusion_loc: tuple[CountOrNone, ...] = (3, 6, 9, 11)
    adapter_dim: Count = 192

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sep_seg:
            raise ValueError("MODEL.BACKBONE.SEP_SEG True is not supported; published files use False")
        if not self.fusion_loc or any(not 0 <= i < self.depth for i in self.fusion_loc):
            places = f"one or more of the blocks 0..{self.depth - 1}"
            raise ValueError(f"FUSION_LOC {list(self.fusion_loc)} must name {places}")


@dataclass(frozen=True, slots=True)
class Fusion:
    """Output of one fusion.

    Attributes:
        tokens: [2R, Nz + n, C], RGB rows first.
        index: Positions [2R, n] of the search tokens; None when all are there.
    """

    tokens: Tensor
    index: Tensor | None


@dataclass(frozen=True, slots=True)
class TwoStreamTokens(Tokens):
    """Means over the two streams, normalised.

    Attributes:
        fusions: One per block of `fusion_loc`.
        removed: [2R, n] per eliminating block, RGB rows first.
    """

    fusions: list[Fusion] = field(default_factory=list)


@dataclass
class _Stream:
    """Rows on their way through the blocks; arguments of `drop_candidates`.

    Attributes:
        x: [R, N, C], of which the first `rgb_rows` are RGB.
        index: [R, L], original positions of the search tokens; None while all are there.
        mask: [R, Nz] bool, template tokens that score candidates.
    """

    x: Tensor
    rgb_rows: int
    index: Tensor | None = None
    mask: Tensor | None = None

    @staticmethod
    def joined(streams: list[_Stream]) -> _Stream:
        """One batch of both streams, RGB rows first."""
        if len(streams) == 1:
            return streams[0]
        rgb, aux = streams
        index = None if rgb.index is None or aux.index is None else torch.cat([rgb.index, aux.index])
        mask = None if rgb.mask is None or aux.mask is None else torch.cat([rgb.mask, aux.mask])
        return _Stream(torch.cat([rgb.x, aux.x]), rgb.rgb_rows, index, mask)


class TwoStreamViT(OneStreamViT):
    """Two streams of tokens through shared blocks (SDSTrack, Hou et al., CVPR 2024, sec. 3.2).

    `pos_embed_z_z_dte` and `pos_embed_x_x_dte` are not used; they are kept so that published checkpoints load strictly.
    """

    def __init__(self, options: TwoStreamOptions) -> None:
        super().__init__(options, partial(AdaptedBlock, bottleneck=options.adapter_dim))
        self.fusion_loc = frozenset(options.fusion_loc)
        self.patch_embed_multimodal = self.stem(self.patch, self.width)
        self.pos_embed_z_z_dte = nn.Parameter(torch.zeros(1, 2 * self.grid_template**2, self.width))
        self.pos_embed_x_x_dte = nn.Parameter(torch.zeros(1, 2 * self.grid_search**2, self.width))

    def embed_template(self, template: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Tokens of both modalities of a template.

        Args:
            template: [B, 6, T, T] normalised, RGB first.
            hidden: [B, 2, Nz] bool, the patches to hide.

        Returns:
            [B, 2, Nz, C], RGB first; with `hidden` 2B rows, the clean ones and then those with hidden patches.
        """
        return self._embed(template, hidden) + self.pos_embed_z

    def embed_search(self, search: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Tokens of both modalities of a search region.

        Args:
            search: [B, 6, S, S] normalised, RGB first.
            hidden: [B, 2, Nx] bool, as in `embed_template`.

        Returns:
            [B, 2, Nx, C], or 2B rows.
        """
        return self._embed(search, hidden) + self.pos_embed_x

    def _embed(self, images: Tensor, hidden: Tensor | None) -> Tensor:
        """Tokens without positions."""
        if images.shape[1] != 6:
            raise ValueError(f"pictures of 6 channels are expected (RGB, then aux), not of {images.shape[1]}")
        tokens = torch.stack([self.patch_embed(images[:, :3]), self.patch_embed_multimodal(images[:, 3:])], dim=1)
        return tokens if hidden is None else torch.cat([tokens, hide(tokens, hidden)])

    def encode(
        self,
        template: Tensor,
        search: Tensor,
        template_mask: Tensor | None = None,
        keep_rate: float | None = None,
        search_only: bool = False,
    ) -> TwoStreamTokens:
        """Joint encoding of embedded tokens.

        Args:
            template: [R, 2, Nz, C], RGB first.
            search: [R, 2, Nx, C].
            template_mask: [R, Nz] bool, as in `OneStreamViT.encode`.
            keep_rate: As in `OneStreamViT.encode`.
            search_only: The template's output is not needed; where the last block fuses, its template tokens are then
                left out, and `Tokens.template` is empty.
        """
        if self.needs_template_mask and template_mask is None:
            raise ValueError("CE_TEMPLATE_RANGE GT_BOX needs the target's box in the template (template_mask)")
        rows, n, length = template.shape[0], template.shape[2], search.shape[2]
        x = torch.cat([template, search], dim=2).transpose(0, 1).flatten(0, 1)
        # Both streams as one batch; apart where gradients are computed, since a frozen RGB stream needs none of its own
        # before the first fusion.
        if torch.is_grad_enabled():
            streams = [_Stream(x[:rows], rows, mask=template_mask), _Stream(x[rows:], 0, mask=template_mask)]
        else:
            streams = [_Stream(x, rows, mask=None if template_mask is None else template_mask.repeat(2, 1))]
        removed: list[Tensor] = []
        fusions: list[Fusion] = []
        last = len(self.blocks) - 1
        shorter = search_only and last in self.fusion_loc
        for i, block in enumerate(cast("Iterable[AdaptedBlock]", self.blocks)):
            ratio = self._ratio(i, keep_rate)
            gone = [self._pass(block, stream, length, ratio) for stream in streams]
            removed += [torch.cat([g for g in gone if g is not None])] if ratio < 1.0 else []
            if i in self.fusion_loc:
                stream = _Stream.joined(streams)
                stream.x = block.fuse(stream.x, n if shorter and i == last else 0)
                fusions.append(Fusion(stream.x, stream.index))
                streams = [stream]
        # Streams averaged place by place; a place that is gone from one counts as zero there.
        stream, n = _Stream.joined(streams), 0 if shorter else n
        tokens = stream.x[:, n:]
        if stream.index is not None and stream.index.shape[1] < length:
            tokens = put_back(tokens, stream.index, length)
        x = tokens if n == 0 else torch.cat([stream.x[:, :n], tokens], dim=1)
        x = self.norm(x.unflatten(0, (2, rows)).mean(dim=0))
        return TwoStreamTokens(x[:, :n], x[:, n:], removed, fusions)

    def _pass(self, block: AdaptedBlock, stream: _Stream, length: int, ratio: float) -> Tensor | None:
        """One block over the rows of a stream; returns the positions that were eliminated."""
        x, q, k = block.attend(stream.x, stream.rgb_rows)
        gone = None
        if ratio < 1.0:
            if stream.index is None:
                stream.index = torch.arange(length, device=x.device).expand(x.shape[0], -1)
            x, stream.index, gone = drop_candidates(x, q, k, stream.index, ratio, self.scoring_rows, stream.mask)
        stream.x = block.feed(x, stream.rgb_rows)
        return gone

    def fuse_for_inference(self, options: FuseOptions) -> TwoStreamViT:
        """For inference; see `lib.models.layers.fused`. Each stem has its own channels' normalisation folded in."""
        twin = with_fused_children(self, options)
        if options.pixels is not None:
            options = replace(options, pixels=options.pixels.of_aux())
        twin._modules["patch_embed_multimodal"] = fuse_module(self.patch_embed_multimodal, options)
        return twin
