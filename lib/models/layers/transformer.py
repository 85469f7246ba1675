"""Pre-norm transformer block of a plain ViT (Dosovitskiy et al., ICLR 2021), with fused attention."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.drop_path import DropPath
from lib.models.layers.fused import FuseOptions, Product, ResidualMlp, ResidualProduct, attention, with_fused_children


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
        return split_heads(self.qkv(x), self.heads)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax attention and output projection: [B, N, C]."""
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(*self.project(x))


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, N, 3 C] -> q, k, v, each [B, heads, N, C / heads]."""
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


@torch.no_grad()
def attention_rows(q: Tensor, k: Tensor) -> Tensor:
    """Softmax attention of a few queries over all keys: q [B, h, R, d], k [B, h, N, d] -> [B, h, R, N]."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1, dtype=torch.float32)


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
        return self.feed(x)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first half of `forward`, with the queries and keys [B, heads, N, d] that it used."""
        q, k, v = self.attn.project(self.norm1(x))
        return x + self.drop_path(self.attn.attend(q, k, v)), q, k

    def feed(self, x: Tensor) -> Tensor:
        """The second half of `forward`."""
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def fuse_for_inference(self, plan: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, plan) if plan.portable else FusedBlock(self, plan)


class FusedBlock(nn.Module):
    """A `Block` for inference in eight operations: biases, GELU and one residual sum belong to the products.

    It computes in place: the tokens it is given are overwritten by those it returns.
    """

    def __init__(self, block: Block, plan: FuseOptions) -> None:
        super().__init__()
        attn, mlp = block.attn, block.mlp
        self.heads = attn.heads
        self.attention = attention(plan, attn.qkv.weight.device)
        self.norm1, self.norm2 = (copy.deepcopy(norm).to(plan.dtype) for norm in (block.norm1, block.norm2))
        self.qkv = Product(attn.qkv.weight, attn.qkv.bias, plan)
        self.proj = ResidualProduct(attn.proj.weight, attn.proj.bias, plan)
        self.mlp = ResidualMlp(mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias, plan)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, C]."""
        return self.feed(self.attend(x)[0])

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Block.attend`, in place."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        mixed = self.attention(q, k, v)
        return self.proj(x, mixed.transpose(1, 2).flatten(2)), q, k

    def feed(self, x: Tensor) -> Tensor:
        """As `Block.feed`, in place."""
        return self.mlp(x, self.norm2(x))
