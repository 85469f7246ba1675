"""Transformer blocks with their fused forms, stochastic depth, and initial weights.

`Block` is the pre-norm block of a plain ViT (Dosovitskiy et al., ICLR 2021). `ScaledBlock` is that of EVA and iTPN:
biases on queries and values alone, SwiGLU with a norm inside, layer scale (Fang et al., EVA-02, 2023, sec. 2.1; Tian
et al., Fast-iTPN, TPAMI 2024). Parameter names are the published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.attention import Attention, SplitAttention, split_heads
from lib.models.layers.fused import FuseOptions, Product, ResidualMlp, choose_attention, fuse_module, fused_form_of

EPS = 1e-6
"""`eps` of layer norms."""


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training, the branch of a sample is zeroed at random.

    Args:
        rate: Probability, in [0, 1); branches that stay are scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of a branch.

        Args:
            x: [B, ...], the output of the branch.

        Returns:
            [B, ...]; `x` itself in eval mode.
        """
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * kept / keep


def linear_std(width: int, from_scratch: bool) -> float:
    """Standard deviation of the initial weights of linear layers.

    Args:
        width: Of a token.
        from_scratch: The network is not pre-trained.

    Returns:
        0.02, the usual one at width 768; for networks that start from scratch it grows as 1 / sqrt(width), since narrow
        ones learn several times more slowly with 0.02.
    """
    return 0.02 * (768 / width) ** 0.5 if from_scratch else 0.02


def trunc_normal_linears(module: nn.Module, std: float) -> None:
    """Initialise every linear layer below a module: truncated normal weights, zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Mlp(nn.Module):
    """Two linear layers with exact GELU, and dropout of the hidden units, between."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.fc2, self.dropout = nn.Linear(width, hidden), nn.Linear(hidden, width), dropout

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
        hidden = F.gelu(self.fc1(x))
        return self.fc2(F.dropout(hidden, self.dropout, self.training) if self.dropout else hidden)


class Block(nn.Module):
    """x += attn(norm1(x)); x += mlp(norm2(x)); both branches through stochastic depth."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """The block, for some of the tokens.

        Args:
            x: [B, N, C].
            first: Tokens before this one are attended to, but not part of the output.

        Returns:
            [B, N - first, C].
        """
        x = x[:, first:] + self.drop_path(self.attn(self.norm1(x), first))
        return self.feed(x)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First half of `forward`.

        Args:
            x: [B, N, C].

        Returns:
            [B, N, C], and the queries and keys [B, heads, N, d] that it used.
        """
        q, k, v = self.attn.project(self.norm1(x))
        return x + self.drop_path(self.attn.attend(q, k, v)), q, k

    def feed(self, x: Tensor) -> Tensor:
        """Second half of `forward`.

        Args:
            x: [B, N, C], from `attend`.

        Returns:
            [B, N, C].
        """
        return x + self.drop_path(self.mlp(self.norm2(x)))


@fused_form_of(Block)
class FusedBlock(nn.Module):
    """A `Block` for inference in eight operations: biases, GELU and one residual sum belong to the products.

    It computes in place: the tokens it is given are overwritten by those it returns.
    """

    def __init__(self, block: Block, options: FuseOptions) -> None:
        super().__init__()
        attn, mlp = block.attn, block.mlp
        self.heads = attn.heads
        self.attention = choose_attention(options, attn.qkv.weight.device)
        self.norm1, self.norm2 = (fuse_module(norm, options) for norm in (block.norm1, block.norm2))
        self.qkv = Product(attn.qkv.weight, attn.qkv.bias, options)
        self.proj = Product(attn.proj.weight, attn.proj.bias, options)
        self.mlp = ResidualMlp.of_linears(mlp.fc1, mlp.fc2, options)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """As `Block.forward`, in place."""
        if not first:
            return self.feed(self.attend(x)[0])
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        mixed = self.attention(q[:, :, first:], k, v)
        return self.feed(x[:, first:] + self.proj(mixed.transpose(1, 2).flatten(2)))

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Block.attend`, in place."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        mixed = self.attention(q, k, v)
        return x.add_(self.proj(mixed.transpose(1, 2).flatten(2))), q, k

    def feed(self, x: Tensor) -> Tensor:
        """As `Block.feed`, in place."""
        return self.mlp(x, self.norm2(x))


class AfterAttention(nn.Module):
    """Output projection of an attention, sum and norm, for inference."""

    def __init__(self, proj: nn.Linear, norm: nn.Module, options: FuseOptions) -> None:
        super().__init__()
        self.proj, self.norm = Product(proj.weight, proj.bias, options), fuse_module(norm, options)

    def forward(self, stream: Tensor, mixed: Tensor) -> Tensor:
        """stream [B, N, C], mixed [B, heads, N, d] -> [B, N, C]."""
        return self.norm(self.proj(mixed.transpose(1, 2).flatten(2)).add_(stream))


class FeedForward(nn.Module):
    """Perceptron of two linear layers, sum and norm, for inference; the tokens are overwritten."""

    def __init__(self, up: nn.Module, down: nn.Module, norm: nn.Module, options: FuseOptions, act: str) -> None:
        super().__init__()
        self.mlp, self.norm = ResidualMlp.of_linears(up, down, options, act), fuse_module(norm, options)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, N, C] -> [B, N, C]."""
        return self.norm(self.mlp(x, x))


class SwiGLU(nn.Module):
    """w3(norm(SiLU(w1 x) * w2 x)) (Shazeer, GLU variants, 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.ffn_ln = nn.LayerNorm(hidden, eps=EPS)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
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
        """The block, for some of the tokens.

        Args:
            x: [B, N, C].
            first: Tokens before this one are attended to, but not part of the output.

        Returns:
            [B, N - first, C].
        """
        x = x[:, first:] + self.drop_path(self.gamma_1 * self.attn(self.norm1(x), first))
        return x + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x)))


@fused_form_of(ScaledBlock)
class FusedScaledBlock(nn.Module):
    """A `ScaledBlock` for inference.

    One product for queries, keys and values, one for both halves of the SwiGLU; the layer scale is inside the last
    product of each branch. It computes in place, as `FusedBlock` does.
    """

    def __init__(self, block: ScaledBlock, options: FuseOptions) -> None:
        super().__init__()
        attn, mlp = block.attn, block.mlp
        self.heads = attn.heads
        self.attention = choose_attention(options, attn.proj.weight.device)
        norms = block.norm1, block.norm2, mlp.ffn_ln
        self.norm1, self.norm2, self.inner = (fuse_module(norm, options) for norm in norms)
        weights = [p.weight.detach() for p in (attn.q_proj, attn.k_proj, attn.v_proj)]
        biases = [attn.q_bias.detach(), torch.zeros_like(attn.q_bias), attn.v_bias.detach()]
        self.qkv = Product(torch.cat(weights), torch.cat(biases), options)
        gates = [torch.cat([getattr(mlp.w1, name), getattr(mlp.w2, name)]).detach() for name in ("weight", "bias")]
        self.gates = Product(gates[0], gates[1], options)
        self.proj, self.down = (
            Product(layer.weight.detach() * gamma[:, None], layer.bias.detach() * gamma, options)
            for layer, gamma in ((attn.proj, block.gamma_1.detach()), (mlp.w3, block.gamma_2.detach()))
        )

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """As `ScaledBlock.forward`, in place."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        mixed = self.attention(q[:, :, first:], k, v)
        x = x[:, first:].contiguous() if first else x
        x = x.add_(self.proj(mixed.transpose(1, 2).flatten(2)))
        gate, value = self.gates(self.norm2(x)).chunk(2, dim=-1)
        return x.add_(self.down(self.inner(F.silu(gate).mul_(value))))
