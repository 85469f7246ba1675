"""Multi-head attention in the four parameter layouts of published checkpoints, and position embeddings.

`Attention` has one projection `qkv` (timm), `SplitAttention` three without a bias on keys (EVA, iTPN). In
`PosEmbedAttention` (DETR, with PyTorch's names) and `CrossAttention` (CSTrack) position embeddings are added to what
becomes queries and keys, not to values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import FuseOptions, Product


def check_heads(width: int, heads: int) -> int:
    """The number of heads.

    Raises:
        ValueError: The width is not a multiple of it.
    """
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of the number of heads {heads}")
    return heads


def multi_head(q: Tensor, k: Tensor, v: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    """Softmax attention of projected tokens.

    Args:
        q: [B, M, C].
        k, v: [B, N, C].
        heads: Number of heads.
        dropout: Rate for the attention weights.

    Returns:
        [B, M, C], heads merged.
    """
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a joint projection.

    Args:
        qkv: [B, N, 3 C].
        heads: Number of heads.

    Returns:
        q, k, v, each [B, heads, N, C / heads].
    """
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


class Attention(nn.Module):
    """Multi-head self-attention over all tokens; names `qkv` and `proj` as in timm checkpoints."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = check_heads(width, heads)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, N, C] -> q, k, v, each [B, heads, N, C / heads], not yet scaled."""
        return split_heads(self.qkv(x), self.heads)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax attention and output projection.

        Args:
            q, k, v: [B, heads, N, d], from `project`.

        Returns:
            [B, N, C].
        """
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x [B, N, C] -> [B, N - first, C]; tokens before `first` have no queries."""
        q, k, v = self.project(x)
        return self.attend(q[:, :, first:], k, v)


class SplitAttention(nn.Module):
    """Multi-head self-attention with separate projections of queries, keys and values; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = check_heads(width, heads)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Attention of some tokens to all.

        Args:
            x: [B, N, C].
            first: Tokens before this one have no queries.

        Returns:
            [B, N - first, C].
        """
        q = F.linear(x[:, first:], self.q_proj.weight, self.q_bias)
        k, v = self.k_proj(x), F.linear(x, self.v_proj.weight, self.v_bias)
        return self.proj(multi_head(q, k, v, self.heads))

    @torch.no_grad()
    def tie_queries_to_keys(self) -> None:
        """Initialise queries equal to keys and orthonormal per head, so that tokens attend to similar tokens."""
        for query in self.q_proj.weight.view(self.heads, -1, self.q_proj.in_features):
            nn.init.orthogonal_(query)
        self.k_proj.weight.copy_(self.q_proj.weight)


class PosEmbedAttention(nn.Module):
    """Multi-head attention with position embeddings (DETR, ECCV 2020); parameter names are PyTorch's."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = check_heads(width, heads), dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def projection(self, which: int) -> tuple[Tensor, Tensor | None]:
        """One of the three projections.

        Args:
            which: QUERY, KEY or VALUE.

        Returns:
            Weight [C, C] and bias [C].
        """
        return self.in_proj_weight.chunk(3)[which], self.in_proj_bias.chunk(3)[which]

    def forward(self, x: Tensor, pos_embed: Tensor, memory: Tensor, memory_pos_embed: Tensor) -> Tensor:
        """Attention to other tokens.

        Args:
            x: [B, N, C], with `pos_embed` [N, C].
            memory: [B, M, C], with `memory_pos_embed` [M, C].

        Returns:
            [B, N, C].
        """
        inputs = (x + pos_embed, memory + memory_pos_embed, memory)
        q, k, v = (F.linear(tokens, *self.projection(which)) for which, tokens in enumerate(inputs))
        return self.out_proj(multi_head(q, k, v, self.heads, self.dropout if self.training else 0.0))


class CrossAttention(nn.Module):
    """Multi-head attention with separate projections without bias and one position embedding for both inputs."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = check_heads(width, heads), dropout
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def projection(self, which: int) -> tuple[Tensor, None]:
        """Weight [C, C] of QUERY, KEY or VALUE; there is no bias."""
        return (self.q, self.k, self.v)[which].weight, None

    def forward(self, x: Tensor, memory: Tensor, pos_embed: Tensor) -> Tensor:
        """Attention to other tokens of the same places.

        Args:
            x, memory: [B, N, C].
            pos_embed: [N, C], of both.

        Returns:
            [B, N, C].
        """
        q, k, v = self.q(x + pos_embed), self.k(memory + pos_embed), self.v(memory)
        return self.proj(multi_head(q, k, v, self.heads, self.dropout if self.training else 0.0))


QUERY, KEY, VALUE = 0, 1, 2


class PosEmbedProjection(nn.Module):
    """Projections of the same tokens for several attentions as one product, for inference.

    The contribution of position embeddings does not depend on the tokens: it is a table that is added.

    Args:
        parts: Attentions, each with QUERY, KEY or VALUE.
        pos_embed: [N, C], of the tokens.
        options: Number format and packing.
    """

    table: Tensor

    def __init__(
        self, parts: Sequence[tuple[PosEmbedAttention | CrossAttention, int]], pos_embed: Tensor, options: FuseOptions
    ) -> None:
        super().__init__()
        self.parts, self.heads = len(parts), parts[0][0].heads
        weights, given = zip(*(attn.projection(which) for attn, which in parts), strict=True)
        biases = [b for b in given if b is not None]
        self.product = Product(torch.cat(weights), torch.cat(biases) if biases else None, options)
        exact = pos_embed.double()
        projected = [
            torch.zeros_like(exact) if which == VALUE else exact @ weight.double().t()
            for (_, which), weight in zip(parts, weights, strict=True)
        ]
        self.register_buffer("table", torch.cat(projected, dim=1).to(options.dtype), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [B, N, C] -> the parts, each [B, heads, N, C / heads]."""
        projected = self.product(x).add_(self.table)
        return projected.unflatten(2, (self.parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def sine_pos_embed(grid: int, width: int) -> Tensor:
    """Sine position embedding of a square grid (DETR, Carion et al., ECCV 2020).

    Rows and columns count from 1 and are scaled to 2 pi; even channels are sines, odd ones cosines.

    Args:
        grid: Side in cells.
        width: Channels, a multiple of 4.

    Returns:
        [grid * grid, width] float32, row-major: rows in the first half of the channels, columns in the second.
    """
    if width % 4:
        raise ValueError(f"a position embedding needs a width that is a multiple of 4, not {width}")
    half = width // 2
    places = torch.arange(1, grid + 1, dtype=torch.float32) / (grid + 1e-6) * (2 * math.pi)
    exponents = 2 * torch.arange(half).div(2, rounding_mode="floor") / half
    angles = places[:, None] / 10000.0**exponents
    line = torch.where(torch.arange(half) % 2 == 0, angles.sin(), angles.cos())
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def sincos_pos_embed(grid: int, width: int) -> Tensor:
    """Sine and cosine position embedding of a square grid (MAE, He et al., CVPR 2022).

    Args:
        grid: Side in cells.
        width: Channels, a multiple of 4.

    Returns:
        [grid * grid, width] float32, row-major: columns in the first half of the channels, rows in the second, of each
        the sines before the cosines.
    """
    if width % 4:
        raise ValueError(f"a position embedding needs a width that is a multiple of 4, not {width}")
    quarter = width // 4
    rates = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = line[None].expand(grid, -1, -1), line[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], dim=2).flatten(0, 1).float()
