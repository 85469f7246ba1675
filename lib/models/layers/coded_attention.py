"""Attention whose queries and keys know where they are, and whose values do not (DETR, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import FuseOptions, Product


class CodedAttention(nn.Module):
    """Multi-head attention of tokens to tokens; names `in_proj_weight`, `in_proj_bias`, `out_proj` are PyTorch's.

    Position codes [N, C] are added to what becomes queries and keys only.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of the number of heads {heads}")
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def projection(self, which: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of queries, keys or values."""
        return self.in_proj_weight.chunk(3)[which], self.in_proj_bias.chunk(3)[which]

    def forward(self, x: Tensor, code: Tensor, memory: Tensor, memory_code: Tensor) -> Tensor:
        """x [B, N, C] looks at memory [B, M, C]: [B, N, C]."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        inputs = (x + code, memory + memory_code, memory)
        q, k, v = (
            F.linear(tokens, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for tokens, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Coded(Protocol):
    """An attention that adds position codes to what becomes queries and keys."""

    heads: int

    def projection(self, which: int) -> tuple[Tensor, Tensor | None]:
        """Weight [C, C] and bias of QUERY, KEY or VALUE."""


QUERY, KEY, VALUE = 0, 1, 2
Part = tuple[Coded, int]
"""What an attention wants of some tokens: its queries, keys or values."""


class CodedProjection(nn.Module):
    """Several attentions' projections of the same tokens for inference, as one product.

    What position codes contribute does not depend on the tokens: a table that is added.
    """

    table: Tensor

    def __init__(self, parts: Sequence[Part], code: Tensor, plan: FuseOptions) -> None:
        super().__init__()
        self.parts, self.heads = len(parts), parts[0][0].heads
        weights, given = zip(*(attn.projection(which) for attn, which in parts), strict=True)
        biases = [b for b in given if b is not None]
        self.product = Product(torch.cat(weights), torch.cat(biases) if biases else None, plan)
        coded = [
            torch.zeros_like(code, dtype=torch.float64) if which == VALUE else code.double() @ weight.double().t()
            for (_, which), weight in zip(parts, weights, strict=True)
        ]
        self.register_buffer("table", torch.cat(coded, dim=1).to(plan.dtype), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [B, N, C] -> the parts, each [B, heads, N, C / heads]."""
        projected = self.product(x).add_(self.table)
        return projected.unflatten(2, (self.parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
