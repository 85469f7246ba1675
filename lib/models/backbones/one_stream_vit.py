"""Plain ViT that reads template and search region as one token sequence (OSTrack, ECCV 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.blocks import Block, linear_std, trunc_normal_linears
from lib.models.layers.candidate_elimination import center_rows, drop_candidates, put_back
from lib.models.layers.stem import ConvStem, PatchEmbed
from lib.ranges import Choice, Count, CountOrNone, Rate, Ratio, Side


@dataclass(frozen=True)
class ViTOptions:
    """Size of a one-stream ViT; the defaults are ViT-B/16.

    Attributes:
        embed_dim: Width of a token.
        depth, num_heads: Blocks, and heads of their attention.
        stride: Side of a patch in pixels.
        template_size, search_size: Sides of the pictures in pixels; position embeddings belong to these grids.
        drop_path: Rate of stochastic depth in the last block; it grows linearly from 0.
        ce_loc, ce_keep_ratio: Blocks (from 0) that eliminate candidates, and the share of search tokens each keeps.
        ce_template_range: Template tokens that score candidates: ALL, CTR_POINT, CTR_REC, or GT_BOX, which needs
            `template_mask` in every call.
        sep_seg: Learned segment embeddings for template and search region.
        conv_stem: Overlapping convolutions instead of patches.
        from_scratch: Fresh weights are for training without pre-training, see `linear_std`.
    """

    embed_dim: Count = 768
    depth: Count = 12
    num_heads: Count = 12
    stride: Count = 16
    template_size: Side = 128
    search_size: Side = 256
    drop_path: Rate = 0.0
    ce_loc: tuple[CountOrNone, ...] = ()
    ce_keep_ratio: tuple[Ratio, ...] = ()
    ce_template_range: Annotated[str, Choice(("ALL", "CTR_POINT", "CTR_REC", "GT_BOX"))] = "ALL"
    sep_seg: bool = False
    conv_stem: bool = False
    from_scratch: bool = False

    def __post_init__(self) -> None:
        places, ratios = list(self.ce_loc), len(self.ce_keep_ratio)
        if len(places) != ratios:
            raise ValueError(f"CE_LOC has {len(places)} entries and CE_KEEP_RATIO {ratios}; one each is expected")
        if any(not 0 <= i < self.depth for i in places):
            raise ValueError(f"CE_LOC {places} names blocks outside 0..{self.depth - 1}")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Output of a one-stream backbone.

    Attributes:
        template: [B, Nz, C].
        search: [B, Nx, C], row-major, with zeros where a token was eliminated.
        removed: Positions of the eliminated search tokens, [B, n] per eliminating block.
    """

    template: Tensor
    search: Tensor
    removed: list[Tensor] = field(default_factory=list)


class OneStreamBackbone(Protocol):
    """Contract of a backbone, an `nn.Module`, of OSTrack and the methods built on it (docs/adding_a_backbone.md).

    Attributes:
        width: Channels C of a token.
        patch: Side in pixels of what a token stands for.
        template_size, search_size: Sides of the pictures in pixels.
        grid_template, grid_search: Sides of the token grids: Nz and Nx are their squares.
        keep_ratio: Block -> share of search tokens that it keeps; {} for a backbone that eliminates none.
        needs_template_mask: True if `encode` requires `template_mask`.
        pos_embed_z, pos_embed_x: [1, Nz, C] and [1, Nx, C], optional position embeddings. Under these names they are
            resized when a trained file has other crop sizes.
    """

    width: int
    patch: int
    template_size: int
    search_size: int
    grid_template: int
    grid_search: int
    keep_ratio: dict[int, float]

    @property
    def needs_template_mask(self) -> bool: ...

    def embed_template(self, template: Tensor) -> Tensor:
        """Once per target: [B, 3, T, T] normalised -> tokens [B, Nz, C], row-major."""

    def embed_search(self, search: Tensor) -> Tensor:
        """Once per frame: [B, 3, S, S] normalised -> tokens [B, Nx, C], row-major."""

    def encode(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> Tokens:
        """Joint encoding of embedded tokens [B, Nz, C] and [B, Nx, C], see `OneStreamViT.encode`."""

    def __call__(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> Tokens:
        """Embed and encode, the form of training: `forward` of the module."""

    def adapt_pretrained(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of MODEL.PRETRAIN_FILE under the names of the backbone, position embeddings resized to both grids.

        Args:
            state: State dict of a network that was trained on pictures: `patch_embed.proj.weight`, `pos_embed`, ...

        Raises:
            KeyError: A name that such a file has is missing.
        """

    def qkv_layer(self, layer: int) -> tuple[int, nn.Module]:
        """Number of a block (counted from the end when negative) and its projection to [B, N, 3C], for distillation.

        Raises:
            ValueError: There is none, or not all search tokens reach it.
        """


class OneStreamViT(nn.Module):
    """ViT over template tokens followed by search tokens (OSTrack, Ye et al., ECCV 2022).

    `cls_token` and `pos_embed` are not used; they are kept so that published checkpoints load strictly.

    Args:
        options: Size and options.
        block: Makes a block of width, heads and `drop_path`.
        stem: Makes tokens of pictures, of stride and width; None for patches or convolutions as the options say.
    """

    PRETRAINED_GRID = 14
    """Side of the position embedding that pre-training leaves, of pictures of 224 pixels."""

    def __init__(
        self,
        options: ViTOptions,
        block: Callable[..., Block] = Block,
        stem: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        width, depth = options.embed_dim, options.depth
        self.width, self.patch = width, options.stride
        self.template_size, self.search_size = options.template_size, options.search_size
        self.grid_template, self.grid_search = self.template_size // self.patch, self.search_size // self.patch
        self.keep_ratio = dict(zip(options.ce_loc, options.ce_keep_ratio, strict=True))
        self.ce_template_range = options.ce_template_range
        self.scoring_rows = center_rows(options.ce_template_range, self.grid_template) if options.ce_loc else None
        self.stem = stem or (ConvStem if options.conv_stem else PatchEmbed)
        self.patch_embed = self.stem(self.patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.PRETRAINED_GRID**2, width))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, self.grid_template**2, width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.grid_search**2, width))
        self.sep_seg = options.sep_seg
        if self.sep_seg:
            self.template_segment_pos_embed = nn.Parameter(torch.zeros(1, 1, width))
            self.search_segment_pos_embed = nn.Parameter(torch.zeros(1, 1, width))
        rates = [options.drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(block(width, options.num_heads, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        trunc_normal_linears(self, linear_std(width, options.from_scratch))

    @property
    def needs_template_mask(self) -> bool:
        """True if `template_mask` is required: elimination scored by the tokens inside the target's box."""
        return bool(self.keep_ratio) and self.ce_template_range == "GT_BOX"

    def qkv_layer(self, layer: int) -> tuple[int, nn.Module]:
        """The layer that projects a block's tokens to queries, keys and values, for distillation.

        Args:
            layer: Number of the block, from 0; counted from the end when negative.

        Returns:
            The block's number, and its qkv projection.

        Raises:
            ValueError: There is no such block, or search tokens were eliminated before it.
        """
        depth = len(self.blocks)
        if not -depth <= layer < depth:
            raise ValueError(f"block {layer} was asked for, but the network has blocks 0..{depth - 1}")
        number = layer % depth
        early = [i for i, ratio in self.keep_ratio.items() if i < number and ratio < 1.0]
        if early:
            raise ValueError(f"block {number} does not see all search tokens: elimination begins in block {min(early)}")
        return number, self.blocks[number].get_submodule("attn.qkv")

    def adapt_pretrained(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `OneStreamBackbone`."""
        whole = state["pos_embed"]
        if whole.shape != self.pos_embed.shape:  # of pictures of another size
            whole = torch.cat([whole[:, :1], resize_position(whole, self.PRETRAINED_GRID)], dim=1)
        return {
            **state,
            "pos_embed": whole,
            "patch_embed.proj.weight": resize_patch_embed(state["patch_embed.proj.weight"], self.patch),
            "pos_embed_x": resize_position(state["pos_embed"], self.grid_search),
            "pos_embed_z": resize_position(state["pos_embed"], self.grid_template),
        }

    def embed_template(self, template: Tensor) -> Tensor:
        """All that can be computed once per target.

        Args:
            template: [B, 3, T, T] normalised.

        Returns:
            Tokens [B, Nz, C], row-major, with position embeddings.
        """
        tokens = self.patch_embed(template) + self.pos_embed_z
        return tokens + self.template_segment_pos_embed if self.sep_seg else tokens

    def embed_search(self, search: Tensor) -> Tensor:
        """Tokens of a search region.

        Args:
            search: [B, 3, S, S] normalised.

        Returns:
            [B, Nx, C], row-major, with position embeddings.
        """
        tokens = self.patch_embed(search) + self.pos_embed_x
        return tokens + self.search_segment_pos_embed if self.sep_seg else tokens

    def encode(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> Tokens:
        """Joint encoding of embedded tokens.

        Args:
            template: [B, Nz, C].
            search: [B, Nx, C].
            template_mask: [B, Nz] bool, for the range GT_BOX: True for tokens inside the target's box.
            keep_rate: Replaces the configured ratios of elimination, in training.

        Raises:
            ValueError: The range is GT_BOX, and there is no mask.
        """
        if self.needs_template_mask and template_mask is None:
            raise ValueError("CE_TEMPLATE_RANGE GT_BOX needs the target's box in the template (template_mask)")
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
            x, index, gone = drop_candidates(x, q, k, index, ratio, self.scoring_rows, template_mask)
            x = block.feed(x)
            removed.append(gone)
        x = self.norm(x)
        tokens = x[:, n:] if x.shape[1] == n + length else put_back(x[:, n:], cast("Tensor", index), length)
        return Tokens(x[:, :n], tokens, removed)

    def _ratio(self, block: int, keep_rate: float | None) -> float:
        """The share of search tokens that a block keeps."""
        ratio = self.keep_ratio.get(block, 1.0)
        return keep_rate if ratio < 1.0 and keep_rate is not None else ratio

    def forward(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> Tokens:
        """Embed and encode pictures.

        Args:
            template: [B, 3, T, T] normalised.
            search: [B, 3, S, S] normalised.
            template_mask, keep_rate: As in `encode`.
        """
        return self.encode(self.embed_template(template), self.embed_search(search), template_mask, keep_rate)


def resize_position(pos_embed: Tensor, grid: int, prefix: int = 1, align_corners: bool = False) -> Tensor:
    """Position embedding of another grid: bicubic, no antialias.

    Published OSTrack checkpoints were initialised with it, with half-pixel centres.

    Args:
        pos_embed: [1, prefix + g * g, C].
        grid: Side of the new grid in cells.
        prefix: Number of tokens before those of patches; they are left out.
        align_corners: Corner cells stay at the corners.

    Returns:
        [1, grid * grid, C].

    Raises:
        ValueError: The patches are no square grid.
    """
    patches = pos_embed[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(f"position embedding of {patches.shape[1]} patches is not a square grid")
    image = patches.transpose(1, 2).reshape(1, -1, side, side)
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=align_corners)
    return resized.flatten(2).transpose(1, 2)


def resize_patch_embed(weight: Tensor, patch: int) -> Tensor:
    """Weight of a patch convolution for another patch size, bicubic.

    Args:
        weight: [C, 3, p, p].
        patch: Side of the new patches in pixels.

    Returns:
        [C, 3, patch, patch]; `weight` itself when p is `patch`.
    """
    if weight.shape[-1] == patch:
        return weight
    return F.interpolate(weight, size=(patch, patch), mode="bicubic", align_corners=False)


def fit_positions(state: dict[str, Tensor], grid_template: int, grid_search: int) -> dict[str, Tensor]:
    """A tracker's weights for crops of other sizes.

    Args:
        state: State dict of the tracker.
        grid_template, grid_search: Sides of the tracker's grids in cells.

    Returns:
        The state dict with ``backbone.pos_embed_z`` and ``_x`` resized, where they have another size.
    """
    fitted = dict(state)
    for name, grid in (("backbone.pos_embed_z", grid_template), ("backbone.pos_embed_x", grid_search)):
        if name in state and state[name].shape[1] != grid * grid:
            fitted[name] = resize_position(state[name], grid, prefix=0)
    return fitted
