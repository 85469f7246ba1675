"""Attention whose queries and keys know where they are, and whose values do not (DETR, ECCV 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
