"""Transformer block of EVA and iTPN: biases on queries and values alone, SwiGLU with a norm inside, layer scale.

Fang et al., EVA-02 (2023), sec. 2.1, and Tian et al., Fast-iTPN (TPAMI 2024); parameter names are the published ones.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.drop_path import DropPath
from lib.models.layers.fused import FuseOptions, Product, ResidualProduct, attention, with_fused_children
from lib.models.layers.transformer import split_heads

EPS = 1e-6


class SplitAttention(nn.Module):
    """Multi-head self-attention whose queries, keys and values have projections of their own; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of the number of heads {heads}")
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x [B, N, C] -> [B, N - first, C], for the tokens from `first` on."""
        q = F.linear(x[:, first:], self.q_proj.weight, self.q_bias)
        k, v = self.k_proj(x), F.linear(x, self.v_proj.weight, self.v_bias)
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    @torch.no_grad()
    def tie_queries_to_keys(self) -> None:
        """Start with equal, orthonormal query and key projections per head: the attention of a token to its like."""
        for query in self.q_proj.weight.view(self.heads, -1, self.q_proj.in_features):
            nn.init.orthogonal_(query)
        self.k_proj.weight.copy_(self.q_proj.weight)


class SwiGLU(nn.Module):
    """w3(norm(SiLU(w1 x) * w2 x))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.ffn_ln = nn.LayerNorm(hidden, eps=EPS)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(self.ffn_ln(F.silu(self.w1(x)) * self.w2(x)))


class ScaledBlock(nn.Module):
    """x += gamma_1 * attn(norm1(x)); x += gamma_2 * mlp(norm2(x)); both branches through stochastic depth."""

    INIT_SCALE = 0.1

    def __init__(self, width: int, heads: int, mlp_ratio: float = 3.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = SplitAttention(width, heads)
        self.mlp = SwiGLU(width, int(width * mlp_ratio))
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.full((width,), self.INIT_SCALE)) for _ in range(2))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x [B, N, C] -> [B, N - first, C]: the tokens before `first` are looked at, but not carried on."""
        x = x[:, first:] + self.drop_path(self.gamma_1 * self.attn(self.norm1(x), first))
        return x + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x)))

    def fuse_for_inference(self, plan: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, plan) if plan.portable else FusedScaledBlock(self, plan)


class FusedScaledBlock(nn.Module):
    """A `ScaledBlock` for inference: one product for queries, keys and values, one for both halves of the SwiGLU, the
    layer scale inside the last product of each branch. It computes in place, as `FusedBlock` does."""

    def __init__(self, block: ScaledBlock, plan: FuseOptions) -> None:
        super().__init__()
        attn, mlp = block.attn, block.mlp
        self.heads = attn.heads
        self.attention = attention(plan, attn.proj.weight.device)
        self.norm1, self.norm2, self.inner = (
            copy.deepcopy(norm).to(plan.dtype) for norm in (block.norm1, block.norm2, mlp.ffn_ln)
        )
        weights = [p.weight.detach() for p in (attn.q_proj, attn.k_proj, attn.v_proj)]
        biases = [attn.q_bias.detach(), torch.zeros_like(attn.q_bias), attn.v_bias.detach()]
        self.qkv = Product(torch.cat(weights), torch.cat(biases), plan)
        self.proj = ResidualProduct(*scaled(attn.proj, block.gamma_1), plan)
        gates = [torch.cat([getattr(mlp.w1, name), getattr(mlp.w2, name)]).detach() for name in ("weight", "bias")]
        self.gates = Product(gates[0], gates[1], plan)
        self.down = ResidualProduct(*scaled(mlp.w3, block.gamma_2), plan)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """As `ScaledBlock.forward`, in place."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        mixed = self.attention(q[:, :, first:], k, v)
        x = x[:, first:].contiguous() if first else x
        x = self.proj(x, mixed.transpose(1, 2).flatten(2))
        gate, value = self.gates(self.norm2(x)).chunk(2, dim=-1)
        return self.down(x, self.inner(F.silu(gate).mul_(value)))


def scaled(linear: nn.Linear, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer whose outputs are multiplied by gamma [C]."""
    gamma = gamma.detach()
    return linear.weight.detach() * gamma[:, None], linear.bias.detach() * gamma
