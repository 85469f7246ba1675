"""Pre-norm transformer block of a plain ViT (Dosovitskiy et al., ICLR 2021), with fused attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.drop_path import DropPath


class Attention(nn.Module):
    """Multi-head self-attention over all tokens; names `qkv` and `proj` as in timm checkpoints."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of the number of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    @torch.no_grad()
    def tie_queries_to_keys(self) -> None:
        """Start with equal, orthonormal query and key projections per head: the attention of a token to its like."""
        width = self.qkv.in_features
        query, key, _ = self.qkv.weight.view(3, self.heads, width // self.heads, width).unbind(0)
        for head in range(self.heads):
            nn.init.orthogonal_(query[head])
            key[head].copy_(query[head])

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, N, C] -> q, k, v, each [B, heads, N, C / heads], not yet scaled."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax attention and output projection: [B, N, C]."""
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(*self.project(x))


@torch.no_grad()
def attention_rows(q: Tensor, k: Tensor) -> Tensor:
    """Softmax attention of a few queries over all keys: q [B, h, R, d], k [B, h, N, d] -> [B, h, R, N]."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1)


class Mlp(nn.Module):
    """Two linear layers with exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """x += attn(norm1(x)); x += mlp(norm2(x)); both branches through stochastic depth."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, C]."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
