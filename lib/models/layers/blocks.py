"""Transformer blocks with their fused forms, stochastic depth, and fresh weights.

`Block` is the pre-norm block of a plain ViT (Dosovitskiy et al., ICLR 2021). `ScaledBlock` is that of EVA and iTPN:
biases on queries and values alone, SwiGLU with a norm inside, layer scale (Fang et al., EVA-02, 2023, sec. 2.1; Tian
et al., Fast-iTPN, TPAMI 2024). Parameter names are the published ones.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.attention import Attention, SplitAttention, split_heads
from lib.models.layers.fused import FuseOptions, Product, ResidualMlp, ResidualProduct, attention, with_fused_children


class DropPath(nn.Module):
    """In training, zero the branch of a sample with probability `rate` and scale the others by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate must lie in [0, 1), not {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, ...]."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * kept / keep

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def trunc_normal_linears(module: nn.Module, std: float) -> None:
    """Every linear layer below: truncated normal weights, no bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


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

    def fuse_for_inference(self, options: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, options) if options.portable else FusedBlock(self, options)


class FusedBlock(nn.Module):
    """A `Block` for inference in eight operations: biases, GELU and one residual sum belong to the products.

    It computes in place: the tokens it is given are overwritten by those it returns.
    """

    def __init__(self, block: Block, options: FuseOptions) -> None:
        super().__init__()
        attn, mlp = block.attn, block.mlp
        self.heads = attn.heads
        self.attention = attention(options, attn.qkv.weight.device)
        self.norm1, self.norm2 = (copy.deepcopy(norm).to(options.dtype) for norm in (block.norm1, block.norm2))
        self.qkv = Product(attn.qkv.weight, attn.qkv.bias, options)
        self.proj = ResidualProduct(attn.proj.weight, attn.proj.bias, options)
        self.mlp = ResidualMlp(mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias, options)

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


EPS = 1e-6


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

    def fuse_for_inference(self, options: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, options) if options.portable else FusedScaledBlock(self, options)


class FusedScaledBlock(nn.Module):
    """A `ScaledBlock` for inference: one product for queries, keys and values, one for both halves of the SwiGLU, the
    layer scale inside the last product of each branch. It computes in place, as `FusedBlock` does."""

    def __init__(self, block: ScaledBlock, options: FuseOptions) -> None:
        super().__init__()
        attn, mlp = block.attn, block.mlp
        self.heads = attn.heads
        self.attention = attention(options, attn.proj.weight.device)
        self.norm1, self.norm2, self.inner = (
            copy.deepcopy(norm).to(options.dtype) for norm in (block.norm1, block.norm2, mlp.ffn_ln)
        )
        weights = [p.weight.detach() for p in (attn.q_proj, attn.k_proj, attn.v_proj)]
        biases = [attn.q_bias.detach(), torch.zeros_like(attn.q_bias), attn.v_bias.detach()]
        self.qkv = Product(torch.cat(weights), torch.cat(biases), options)
        self.proj = ResidualProduct(*scaled(attn.proj, block.gamma_1), options)
        gates = [torch.cat([getattr(mlp.w1, name), getattr(mlp.w2, name)]).detach() for name in ("weight", "bias")]
        self.gates = Product(gates[0], gates[1], options)
        self.down = ResidualProduct(*scaled(mlp.w3, block.gamma_2), options)

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
