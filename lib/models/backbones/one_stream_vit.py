"""Plain ViT that reads template and search region as one token sequence (OSTrack, ECCV 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.attention import Attention
from lib.models.layers.blocks import Block
from lib.models.layers.candidate_elimination import center_rows, drop_candidates, put_back
from lib.models.layers.stem import ConvStem, PatchEmbed


@dataclass(frozen=True, slots=True)
class Tokens:
    """Output of a one-stream backbone.

    template: [B, Nz, C]; search: [B, Nx, C] with zeros where a token was eliminated; removed: the positions that
    left, [B, n] per eliminating block.
    """

    template: Tensor
    search: Tensor
    removed: list[Tensor] = field(default_factory=list)


class OneStreamViT(nn.Module):
    """ViT over template tokens followed by search tokens.

    patch: patch size = stride. template_size, search_size: sides in pixels (position embeddings belong to these grids).
    ce_loc, ce_keep_ratio: blocks (from 0) that eliminate candidates, and what share of search tokens each keeps.
    ce_template_range: which template tokens judge; GT_BOX needs `template_mask` in every call.
    sep_seg: learned segment embeddings for template and search. conv_stem: overlapping convolutions, not patches.
    init_std: of fresh linear weights. similar_queries: fresh queries equal the keys, so that tokens begin by looking at
    their like (after Trockman and Kolter, ICML 2023); template matching is learned sooner. block: builds one.
    `cls_token` and `pos_embed` are not used; they are kept so that published checkpoints load strictly.
    """

    def __init__(
        self,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = 16,
        template_size: int = 128,
        search_size: int = 256,
        drop_path: float = 0.0,
        ce_loc: tuple[int, ...] = (),
        ce_keep_ratio: tuple[float, ...] = (),
        ce_template_range: str = "ALL",
        sep_seg: bool = False,
        pretraining_size: int = 224,
        conv_stem: bool = False,
        init_std: float = 0.02,
        similar_queries: bool = False,
        block: Callable[..., Block] = Block,
    ) -> None:
        super().__init__()
        _check_geometry(patch, template_size, search_size, depth, ce_loc, ce_keep_ratio)
        self.width, self.patch = width, patch
        self.template_size, self.search_size = template_size, search_size
        self.grid_template, self.grid_search = template_size // patch, search_size // patch
        self.keep_ratio = dict(zip(ce_loc, ce_keep_ratio, strict=True))
        self.ce_template_range = ce_template_range
        self.judges = center_rows(ce_template_range, self.grid_template) if ce_loc else None
        self.stem = ConvStem if conv_stem else PatchEmbed
        self.patch_embed = self.stem(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (pretraining_size // 16) ** 2, width))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, self.grid_template**2, width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.grid_search**2, width))
        if sep_seg:
            self.template_segment_pos_embed = nn.Parameter(torch.zeros(1, 1, width))
            self.search_segment_pos_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.sep_seg = sep_seg
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(block(width, heads, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._initialise(init_std, similar_queries)

    def _initialise(self, std: float, similar_queries: bool) -> None:
        for name, parameter in self.named_parameters(recurse=False):
            if parameter.ndim == 3:
                nn.init.trunc_normal_(getattr(self, name), std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
            if similar_queries and isinstance(module, Attention):
                module.tie_queries_to_keys()

    @property
    def needs_template_mask(self) -> bool:
        """True if `template_mask` is required: elimination scored by the tokens inside the target's box."""
        return bool(self.keep_ratio) and self.ce_template_range == "GT_BOX"

    def qkv_layer(self, layer: int) -> tuple[int, nn.Module]:
        """Number (from 0) of a block, counted from the end when `layer` is negative, and its qkv projection.

        Raises ValueError for a block that is not there or that search tokens do not reach, since they were eliminated.
        """
        depth = len(self.blocks)
        if not -depth <= layer < depth:
            raise ValueError(f"block {layer} was asked for, but the network has blocks 0..{depth - 1}")
        number = layer % depth
        early = [i for i, ratio in self.keep_ratio.items() if i < number and ratio < 1.0]
        if early:
            raise ValueError(f"block {number} does not see all search tokens: elimination begins in block {min(early)}")
        return number, self.blocks[number].get_submodule("attn.qkv")

    def embed_template(self, template: Tensor) -> Tensor:
        """template [B, 3, T, T] normalised -> tokens [B, Nz, C]: all that can be computed once per target."""
        tokens = self.patch_embed(template) + self.pos_embed_z
        return tokens + self.template_segment_pos_embed if self.sep_seg else tokens

    def embed_search(self, search: Tensor) -> Tensor:
        """search [B, 3, S, S] normalised -> tokens [B, Nx, C]."""
        tokens = self.patch_embed(search) + self.pos_embed_x
        return tokens + self.search_segment_pos_embed if self.sep_seg else tokens

    def encode(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> Tokens:
        """Joint encoding of embedded tokens.

        template_mask: [B, Nz] bool for the range GT_BOX. keep_rate: overrides the configured ratios (training warm-up).
        """
        self._check_mask(template_mask)
        n, length = template.shape[1], search.shape[1]
        x = torch.cat([template, search], dim=1)
        index: Tensor | None = None
        removed = []
        for i, block in enumerate(cast("Iterable[Block]", self.blocks)):
            ratio = self._ratio(i, keep_rate)
            if ratio >= 1.0:
                x = block(x)
                continue
            if index is None:
                index = torch.arange(length, device=x.device).expand(x.shape[0], -1)
            x, q, k = block.attend(x)
            x, index, gone = drop_candidates(x, q, k, index, n, ratio, self.judges, template_mask)
            x = block.feed(x)
            removed.append(gone)
        x = self.norm(x)
        tokens = x[:, n:] if x.shape[1] == n + length else put_back(x[:, n:], cast("Tensor", index), length)
        return Tokens(x[:, :n], tokens, removed)

    def _check_mask(self, template_mask: Tensor | None) -> None:
        if self.needs_template_mask and template_mask is None:
            raise ValueError("CE_TEMPLATE_RANGE GT_BOX needs the target's box in the template (template_mask)")

    def _ratio(self, block: int, keep_rate: float | None) -> float:
        """The share of search tokens that a block keeps."""
        ratio = self.keep_ratio.get(block, 1.0)
        return keep_rate if ratio < 1.0 and keep_rate is not None else ratio

    def forward(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> Tokens:
        """template [B, 3, T, T], search [B, 3, S, S], normalised pictures."""
        return self.encode(self.embed_template(template), self.embed_search(search), template_mask, keep_rate)


def _check_geometry(
    patch: int, template: int, search: int, depth: int, ce_loc: tuple[int, ...], ce_keep_ratio: tuple[float, ...]
) -> None:
    for name, size in (("template", template), ("search", search)):
        if size % patch:
            raise ValueError(f"{name} size {size} is not a multiple of the stride {patch}")
    if len(ce_loc) != len(ce_keep_ratio):
        raise ValueError(
            f"CE_LOC has {len(ce_loc)} entries and CE_KEEP_RATIO {len(ce_keep_ratio)}; one each is expected"
        )
    if any(not 0 <= i < depth for i in ce_loc):
        raise ValueError(f"CE_LOC {list(ce_loc)} names blocks outside 0..{depth - 1}")
    if any(not 0 < r <= 1 for r in ce_keep_ratio):
        raise ValueError(f"CE_KEEP_RATIO {list(ce_keep_ratio)} must lie in (0, 1]")


def resize_position(pos_embed: Tensor, grid: int, prefix: int = 1) -> Tensor:
    """pos_embed [1, prefix + g*g, C] without its prefix tokens, resized to [1, grid*grid, C].

    Bicubic, half-pixel centres, no antialias: what published OSTrack checkpoints were initialised with.
    """
    patches = pos_embed[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(f"position embedding of {patches.shape[1]} patches is not a square grid")
    image = patches.transpose(1, 2).reshape(1, -1, side, side)
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def resize_patch_embed(weight: Tensor, patch: int) -> Tensor:
    """Patch convolution [C, 3, p, p] resized bicubically to [C, 3, patch, patch]; unchanged when p is `patch`."""
    if weight.shape[-1] == patch:
        return weight
    return F.interpolate(weight, size=(patch, patch), mode="bicubic", align_corners=False)


def fit_positions(state: dict[str, Tensor], grid_template: int, grid_search: int) -> dict[str, Tensor]:
    """A tracker's state dict with ``backbone.pos_embed_z`` and ``_x`` resized to other grids, where they differ."""
    fitted = dict(state)
    for name, grid in (("backbone.pos_embed_z", grid_template), ("backbone.pos_embed_x", grid_search)):
        if name in state and state[name].shape[1] != grid * grid:
            fitted[name] = resize_position(state[name], grid, prefix=0)
    return fitted


def adapt_vit(state: dict[str, Tensor], patch: int, grid_template: int, grid_search: int) -> dict[str, Tensor]:
    """A pre-trained ViT's state dict with `pos_embed_z`, `pos_embed_x` and the patches fitted to a tracker."""
    adapted = dict(state)
    adapted["patch_embed.proj.weight"] = resize_patch_embed(state["patch_embed.proj.weight"], patch)
    adapted["pos_embed_x"] = resize_position(state["pos_embed"], grid_search)
    adapted["pos_embed_z"] = resize_position(state["pos_embed"], grid_template)
    return adapted
