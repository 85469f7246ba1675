"""Plain ViTs of timm as one-stream backbones: any patch size, with or without class and register tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lib.models.backbones.one_stream_vit import OneStreamViT, Tokens, resize_patch_embed, resize_position
from lib.models.layers.stem import PatchEmbed
from lib.ranges import Count, Rate, Side
from lib.registry import suggest

POSITION, PREFIX = "pos_embed", ("cls_token", "reg_token")
"""timm's names of position embedding and of tokens in front of the patches."""


class TimmViT(OneStreamViT):
    """Template and search tokens through the blocks of a timm ViT, behind its class and register tokens.

    Parameters: `patch_embed.proj.*`, `blocks.*`, `norm.*`, `norm_pre.*` as in timm; `prefix`, the tokens in front with
    their positions, [1, P, C] (P may be 0); `pos_embed_z` and `pos_embed_x`, the position embeddings of the two crops.
    No candidate is eliminated.

    Args:
        model: `timm.models.vision_transformer.VisionTransformer` with position embeddings.
        template_size, search_size: Sides of the pictures in pixels, multiples of the patch.
    """

    def __init__(self, model: Any, template_size: int, search_size: int) -> None:
        nn.Module.__init__(self)
        self.width, self.patch = model.embed_dim, model.patch_embed.patch_size[0]
        self.template_size, self.search_size = template_size, search_size
        self.grid_template, self.grid_search = template_size // self.patch, search_size // self.patch
        self.keep_ratio, self.sep_seg = {}, False
        self.prefix_positions = 0 if model.no_embed_class else model.num_prefix_tokens
        self.patch_embed = PatchEmbed(self.patch, self.width)
        self.prefix = nn.Parameter(torch.zeros(1, model.num_prefix_tokens, self.width))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, self.grid_template**2, self.width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.grid_search**2, self.width))
        self.norm_pre, self.blocks, self.norm = model.norm_pre, model.blocks, model.norm
        self.load_state_dict(self.adapt_pretrained(model.state_dict()), strict=False)

    def adapt_pretrained(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the timm model under this backbone's names; see `OneStreamBackbone`."""
        positions = state[POSITION]
        front = [self.prefix.new_zeros(1, 0, self.width), *(state[name] for name in PREFIX if name in state)]
        prefix = torch.cat(front, dim=1)
        if self.prefix_positions:
            prefix = prefix + positions[:, : self.prefix_positions]
        others = {name: value for name, value in state.items() if name not in (POSITION, *PREFIX)}
        return {
            "patch_embed.proj.bias": self.prefix.new_zeros(self.width),  # CLIP has none
            **others,
            "patch_embed.proj.weight": resize_patch_embed(state["patch_embed.proj.weight"], self.patch),
            "prefix": prefix,
            "pos_embed_z": resize_position(positions, self.grid_template, self.prefix_positions),
            "pos_embed_x": resize_position(positions, self.grid_search, self.prefix_positions),
        }

    def encode(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None = None, keep_rate: float | None = None
    ) -> Tokens:
        """Joint encoding of embedded tokens; mask and rate, which belong to elimination, are not used."""
        front, length = self.prefix.shape[1], template.shape[1]
        x = torch.cat([self.prefix.expand(template.shape[0], -1, -1), template, search], dim=1)
        x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, front:]
        return Tokens(x[:, :length], x[:, length:])


def timm_vit(
    name: str = "",
    template_size: Side = 0,
    search_size: Side = 0,
    drop_path: Rate = 0.0,
    embed_dim: Count | None = None,
    depth: Count | None = None,
    num_heads: Count | None = None,
) -> TimmViT:
    """A ViT by its name in timm, with fresh weights.

    Args:
        name: Such as ``vit_small_patch14_dinov2``.
        template_size, search_size: Sides of the pictures in pixels.
        drop_path: Rate of stochastic depth in the last block.
        embed_dim, depth, num_heads: In place of timm's, for smaller networks.

    Raises:
        ValueError: timm has no such model, it is no plain ViT, or a size is no multiple of its patch.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if not timm.is_model(name):
        raise ValueError(f"MODEL.BACKBONE.NAME {name!r} is no model of timm{suggest(name, timm.list_models('*vit*'))}")
    given = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
    sizes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    refused = f"MODEL.BACKBONE.NAME {name} is no plain ViT with position embeddings (timm's VisionTransformer)"
    try:
        model = timm.create_model(name, img_size=search_size, num_classes=0, drop_path_rate=drop_path, **sizes)
    except (TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{refused}, or does not take these sizes: {error}") from error
    if type(model) is not VisionTransformer or model.pos_embed is None:
        raise ValueError(f"{refused}: it is a {type(model).__name__}")
    patch = model.patch_embed.patch_size[0]
    for crop, size in (("TEMPLATE", template_size), ("SEARCH", search_size)):
        if size % patch:
            near = f"{size // patch * patch} and {(size // patch + 1) * patch}"
            key = f"DATA.{crop}.SIZE and TEST.{crop}_SIZE"
            raise ValueError(f"{key} must be multiples of {patch}, the patch of {name}: {size} is not, {near} are")
    return TimmViT(model, template_size, search_size)
