"""Spatial Compact Module of CSTrack (ICML 2025, sec. 3.2): RGB and a second modality become one stream of tokens."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lib.models.layers.attention import KEY, QUERY, VALUE, CrossAttention, PosEmbedProjection
from lib.models.layers.blocks import AfterAttention, FeedForward, Mlp, trunc_normal_linears
from lib.models.layers.fused import FuseOptions, Product, choose_attention, fuse_module


class SpatialCompactLayer(nn.Module):
    """RGB attends to the second modality, which then attends to the updated RGB tokens; post-norm.

    The second stream has no residual around its MLP, as published networks were trained.

    Args:
        width, heads: Of both attentions.
        prompts: Number of tokens that each stream begins with and that stay apart; all others are added place by place.
        dropout: Rate in training.
    """

    def __init__(self, width: int, heads: int, prompts: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.prompts = prompts
        self.cross_attn = CrossAttention(width, heads, dropout)
        self.cross_attn_det = CrossAttention(width, heads, dropout)
        self.MLP, self.MLP_det = Mlp(width, width, dropout), Mlp(width, width, dropout)
        for name in ("norm2", "norm2_det", "norm3", "norm3_det", "norm_final"):
            self.add_module(name, nn.LayerNorm(width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rgb: Tensor, aux: Tensor, pos_embed: Tensor) -> Tensor:
        """Two streams as one.

        Args:
            rgb, aux: [B, P + N, C].
            pos_embed: [P + N, C], of both.

        Returns:
            [B, 2 P + N, C]: RGB prompts, aux prompts, tokens.
        """
        norm, drop = self.get_submodule, self.dropout
        rgb = norm("norm2")(rgb + drop(self.cross_attn(rgb, aux, pos_embed)))
        aux = norm("norm2_det")(aux + drop(self.cross_attn_det(aux, rgb, pos_embed)))
        rgb = norm("norm3")(rgb + drop(self.MLP(rgb)))
        alone = self.MLP_det(aux)
        aux = norm("norm3_det")(alone + drop(alone))
        return norm("norm_final")(joined(rgb, aux, self.prompts))


def joined(rgb: Tensor, aux: Tensor, prompts: int) -> Tensor:
    """Streams [B, P + N, C] added place by place, but for P prompts: [B, 2 P + N, C]."""
    return torch.cat([rgb[:, :prompts], aux[:, :prompts], rgb[:, prompts:] + aux[:, prompts:]], dim=1)


class SpatialCompactModule(nn.Module):
    """One layer; `layers.0` is the name in published files."""

    def __init__(self, width: int, heads: int, prompts: int = 4, dropout: float = 0.1, init_std: float = 0.02) -> None:
        super().__init__()
        self.layers = nn.ModuleList([SpatialCompactLayer(width, heads, prompts, dropout)])
        trunc_normal_linears(self, init_std)

    def forward(self, rgb: Tensor, aux: Tensor, pos_embed: Tensor) -> Tensor:
        """As `SpatialCompactLayer.forward`."""
        return self.layers[0](rgb, aux, pos_embed)


class FusedSpatialCompact(nn.Module):
    """A `SpatialCompactModule` for inference: projections that read the same tokens are one product.

    Args:
        module: The module.
        pos_embed: [P + N, C], whose share of every product is computed here.
        options: Number format and packing.
    """

    def __init__(self, module: SpatialCompactModule, pos_embed: Tensor, options: FuseOptions) -> None:
        super().__init__()
        layer = cast("SpatialCompactLayer", module.layers[0])
        ahead, back = layer.cross_attn, layer.cross_attn_det
        self.prompts = layer.prompts
        self.attend = choose_attention(options, pos_embed.device)
        self.of_rgb = PosEmbedProjection([(ahead, QUERY)], pos_embed, options)
        self.of_aux = PosEmbedProjection([(ahead, KEY), (ahead, VALUE), (back, QUERY)], pos_embed, options)
        self.of_new_rgb = PosEmbedProjection([(back, KEY), (back, VALUE)], pos_embed, options)
        norm, d = layer.get_submodule, layer.MLP_det
        self.after = AfterAttention(ahead.proj, norm("norm2"), options)
        self.after_det = AfterAttention(back.proj, norm("norm2_det"), options)
        self.feed = FeedForward(layer.MLP.fc1, layer.MLP.fc2, norm("norm3"), options, "gelu")
        self.up = Product(d.fc1.weight, d.fc1.bias, options, "gelu")
        self.down = Product(2 * d.fc2.weight.detach(), 2 * d.fc2.bias.detach(), options)
        self.norm_det, self.norm_final = (fuse_module(norm(name), options) for name in ("norm3_det", "norm_final"))

    def forward(self, rgb: Tensor, aux: Tensor, pos_embed: Tensor) -> Tensor:
        """As `SpatialCompactLayer.forward`, with the pos_embed that it was made for."""
        (asking,), (keys, values, queries) = self.of_rgb(rgb), self.of_aux(aux)
        rgb = self.after(rgb, self.attend(asking, keys, values))
        aux = self.after_det(aux, self.attend(queries, *self.of_new_rgb(rgb)))
        rgb, aux = self.feed(rgb), self.norm_det(self.down(self.up(aux)))
        return self.norm_final(joined(rgb, aux, self.prompts))
