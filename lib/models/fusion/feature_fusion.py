"""Feature fusion network of TransT (Chen et al., CVPR 2021, sec. 3.2): ego-context and cross-feature attention.

Template and search region have branches of their own, "1" and "2" in parameter names. What the first layer does to the
template alone is part of `encode_template`, so that trackers do it once per target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.attention import KEY, QUERY, VALUE, PosEmbedAttention, PosEmbedProjection, sine_pos_embed
from lib.models.layers.blocks import AfterAttention, FeedForward
from lib.models.layers.fused import FuseOptions, choose_attention, fuse_module, fused_form_of

TEMPLATE, SEARCH = "1", "2"


@dataclass(frozen=True)
class FusionSize:
    """Size of the fusion network.

    Attributes:
        width: Channels of a token.
        heads: Of every attention.
        hidden: Width of the perceptrons' hidden layer.
        layers: Of the encoder; the decoder has one.
        dropout: Rate in training.
    """

    width: int = 256
    heads: int = 8
    hidden: int = 2048
    layers: int = 4
    dropout: float = 0.1


class EncoderLayer(nn.Module):
    """Each branch attends to itself, then to the other branch after its self-attention; post-norm."""

    def __init__(self, size: FusionSize) -> None:
        super().__init__()
        for branch in (TEMPLATE, SEARCH):
            self.add_module(f"self_attn{branch}", PosEmbedAttention(size.width, size.heads, size.dropout))
            self.add_module(f"multihead_attn{branch}", PosEmbedAttention(size.width, size.heads, size.dropout))
            self.add_module(f"linear{branch}1", nn.Linear(size.width, size.hidden))
            self.add_module(f"linear{branch}2", nn.Linear(size.hidden, size.width))
            for i in (1, 2, 3):
                self.add_module(f"norm{branch}{i}", nn.LayerNorm(size.width))
        self.dropout = nn.Dropout(size.dropout)

    def self_attend(self, branch: str, x: Tensor, pos_embed: Tensor) -> Tensor:
        """Ego-context augment (eq. 3) of one branch.

        Args:
            branch: TEMPLATE or SEARCH.
            x: [B, N, C], with `pos_embed` [N, C].

        Returns:
            [B, N, C].
        """
        part = self.get_submodule
        attended = part(f"self_attn{branch}")(x, pos_embed, x, pos_embed)
        return part(f"norm{branch}1")(x + self.dropout(attended))

    def cross_attend(self, branch: str, x: Tensor, pos_embed: Tensor, other: Tensor, other_pos_embed: Tensor) -> Tensor:
        """Cross-feature augment (eq. 4) of one branch.

        Args:
            branch: TEMPLATE or SEARCH.
            x: [B, N, C], with `pos_embed` [N, C].
            other: Tokens [B, M, C] of the other branch, with `other_pos_embed` [M, C].

        Returns:
            [B, N, C].
        """
        part, drop = self.get_submodule, self.dropout
        attended = part(f"multihead_attn{branch}")(x, pos_embed, other, other_pos_embed)
        x = part(f"norm{branch}2")(x + drop(attended))
        hidden = drop(F.relu(part(f"linear{branch}1")(x)))
        return part(f"norm{branch}3")(x + drop(part(f"linear{branch}2")(hidden)))


class DecoderLayer(nn.Module):
    """The search region attends to the template a last time."""

    def __init__(self, size: FusionSize) -> None:
        super().__init__()
        self.multihead_attn = PosEmbedAttention(size.width, size.heads, size.dropout)
        self.linear1 = nn.Linear(size.width, size.hidden)
        self.linear2 = nn.Linear(size.hidden, size.width)
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, x: Tensor, pos_embed: Tensor, memory: Tensor, memory_pos_embed: Tensor) -> Tensor:
        """Attention to the template.

        Args:
            x: [B, N, C], with `pos_embed` [N, C].
            memory: [B, M, C], with `memory_pos_embed` [M, C].

        Returns:
            [B, N, C].
        """
        x = self.norm1(x + self.dropout(self.multihead_attn(x, pos_embed, memory, memory_pos_embed)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class FeatureFusion(nn.Module):
    """Encoder of both branches, then a decoder of the search region.

    Args:
        size: Width, heads, layers.
        template_grid, search_grid: Sides of the two feature maps in cells, for their position embeddings (buffers that
            no file has).
    """

    template_pos_embed: Tensor
    search_pos_embed: Tensor

    def __init__(self, size: FusionSize, template_grid: int, search_grid: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(EncoderLayer(size) for _ in range(size.layers))})
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList([DecoderLayer(size)]), "norm": nn.LayerNorm(size.width)})
        self.register_buffer("template_pos_embed", sine_pos_embed(template_grid, size.width), persistent=False)
        self.register_buffer("search_pos_embed", sine_pos_embed(search_grid, size.width), persistent=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def encode_template(self, template: Tensor) -> Tensor:
        """Self-attention of the first layer, once per target: template [B, Nz, C] -> [B, Nz, C]."""
        return self.layers()[0].self_attend(TEMPLATE, template, self.template_pos_embed)

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """Fuse template and search region.

        Args:
            template: [B, Nz, C], from `encode_template`.
            search: [B, Nx, C].

        Returns:
            [B, Nx, C], search tokens that depend on the target.
        """
        z_pos, x_pos = self.template_pos_embed, self.search_pos_embed
        for i, layer in enumerate(self.layers()):
            z = layer.self_attend(TEMPLATE, template, z_pos) if i else template
            x = layer.self_attend(SEARCH, search, x_pos)
            template = layer.cross_attend(TEMPLATE, z, z_pos, x, x_pos)
            search = layer.cross_attend(SEARCH, x, x_pos, z, z_pos)
        for decoder in self.get_submodule("decoder.layers").children():
            search = decoder(search, x_pos, template, z_pos)
        return self.decoder["norm"](search)

    def layers(self) -> list[EncoderLayer]:
        """Layers of the encoder, in order."""
        return cast("list[EncoderLayer]", list(self.get_submodule("encoder.layers").children()))


@fused_form_of(FeatureFusion)
class FusedFeatureFusion(nn.Module):
    """A `FeatureFusion` for inference: position embeddings and biases inside the products."""

    def __init__(self, fusion: FeatureFusion, options: FuseOptions) -> None:
        super().__init__()
        pos_embeds = {TEMPLATE: fusion.template_pos_embed, SEARCH: fusion.search_pos_embed}
        self.layers = nn.ModuleList(FusedEncoderLayer(layer, pos_embeds, options) for layer in fusion.layers())
        last = cast("DecoderLayer", fusion.get_submodule("decoder.layers.0"))
        attn = last.multihead_attn
        self.queries = PosEmbedProjection([(attn, QUERY)], pos_embeds[SEARCH], options)
        self.memory = PosEmbedProjection([(attn, KEY), (attn, VALUE)], pos_embeds[TEMPLATE], options)
        self.attend = choose_attention(options, attn.in_proj_weight.device)
        self.after = AfterAttention(attn.out_proj, last.norm1, options)
        self.feed = FeedForward(last.linear1, last.linear2, last.norm2, options, "relu")
        self.norm = fuse_module(fusion.get_submodule("decoder.norm"), options)

    def encode_template(self, template: Tensor) -> Tensor:
        """As `FeatureFusion.encode_template`."""
        return cast("FusedEncoderLayer", self.layers[0]).self_attend(TEMPLATE, template)

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """As `FeatureFusion.forward`."""
        z, x = template, search
        for i, layer in enumerate(cast("list[FusedEncoderLayer]", self.layers)):
            z = layer.self_attend(TEMPLATE, z) if i else z
            z, x = layer(z, layer.self_attend(SEARCH, x))
        (queries,) = self.queries(x)
        x = self.after(x, self.attend(queries, *self.memory(z)))
        return self.norm(self.feed(x))


class FusedEncoderLayer(nn.Module):
    """An `EncoderLayer` for inference: each branch's tokens are projected once for both branches' attention."""

    def __init__(self, layer: EncoderLayer, pos_embeds: dict[str, Tensor], options: FuseOptions) -> None:
        super().__init__()
        part = layer.get_submodule
        own, across = (
            {branch: cast("PosEmbedAttention", part(f"{kind}{branch}")) for branch in pos_embeds}
            for kind in ("self_attn", "multihead_attn")
        )
        self.attend = choose_attention(options, own[TEMPLATE].in_proj_weight.device)
        self.own, self.across, self.after_own, self.after_across, self.feed = (nn.ModuleDict() for _ in range(5))
        for branch, other in ((TEMPLATE, SEARCH), (SEARCH, TEMPLATE)):
            parts = [(own[branch], which) for which in (QUERY, KEY, VALUE)]
            self.own[branch] = PosEmbedProjection(parts, pos_embeds[branch], options)
            parts = [(across[branch], QUERY), (across[other], KEY), (across[other], VALUE)]
            self.across[branch] = PosEmbedProjection(parts, pos_embeds[branch], options)
            self.after_own[branch] = AfterAttention(own[branch].out_proj, part(f"norm{branch}1"), options)
            self.after_across[branch] = AfterAttention(across[branch].out_proj, part(f"norm{branch}2"), options)
            ends = (part(f"linear{branch}1"), part(f"linear{branch}2"), part(f"norm{branch}3"))
            self.feed[branch] = FeedForward(*ends, options, "relu")

    def self_attend(self, branch: str, x: Tensor) -> Tensor:
        """As `EncoderLayer.self_attend`."""
        return self.after_own[branch](x, self.attend(*self.own[branch](x)))

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-attention of both branches.

        Args:
            z: Template tokens [B, Nz, C].
            x: Search tokens [B, Nx, C].

        Returns:
            Both, of the same shapes.
        """
        z_queries, z_keys, z_values = self.across[TEMPLATE](z)
        x_queries, x_keys, x_values = self.across[SEARCH](x)
        z = self.after_across[TEMPLATE](z, self.attend(z_queries, x_keys, x_values))
        x = self.after_across[SEARCH](x, self.attend(x_queries, z_keys, z_values))
        return self.feed[TEMPLATE](z), self.feed[SEARCH](x)
