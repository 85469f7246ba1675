"""A transformer block that serves RGB, a second modality and their fusion with one set of frozen weights.

SDSTrack (Hou et al., CVPR 2024, sec. 3.2): RGB passes through the block unchanged. The second modality has bottleneck
adapters (Houlsby et al., ICML 2019) behind the attention and in parallel to the MLP. In fusion every token attends to
the tokens of the other modality only, with adapters of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.attention import Attention, split_heads
from lib.models.layers.blocks import Block, FusedBlock, Mlp
from lib.models.layers.fused import FuseOptions, ResidualMlp, with_fused_children

SCALE = 0.5
"""Scale of the adapters parallel to the MLP."""


class BottleneckAdapter(nn.Module):
    """Down to `hidden` channels, exact GELU, up again; names `D_fc1` and `D_fc2` as in published checkpoints."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(width, hidden)
        self.D_fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
        return self.D_fc2(F.gelu(self.D_fc1(x)))


class AdaptedBlock(Block):
    """Transformer block over two streams: of its rows the first are RGB, the others the second modality.

    Names of the adapters are those of published checkpoints: `X_DTE` of the second modality, `X_X_DTE` of the fusion.

    Attributes:
        fusion_is_seen: Hooks on `attn.qkv` see the fusion's pass, too. Distillation compares single-stream passes
            alone; ranges for 8 bits are taken from all of them.
    """

    fusion_is_seen = False

    def __init__(
        self, width: int, heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0, bottleneck: int = 192
    ) -> None:
        super().__init__(width, heads, mlp_ratio, drop_path)
        self.MLP_X_DTE_Adapter, self.Space_X_DTE_Adapter, self.MLP_X_X_DTE_Adapter, self.Space_X_X_DTE_Adapter = (
            BottleneckAdapter(width, bottleneck) for _ in range(4)
        )

    def attend(self, x: Tensor, rgb_rows: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """First half of a single-stream pass.

        Args:
            x: [R, N, C].
            rgb_rows: Number of RGB rows; None for all.

        Returns:
            [R, N, C], and the queries and keys [R, heads, N, d] that it used.
        """
        rgb_rows = x.shape[0] if rgb_rows is None else rgb_rows
        q, k, v = self.attn.project(self.norm1(x))
        mixed = self.attn.attend(q, k, v)
        if rgb_rows < x.shape[0]:
            aux = _aux(mixed, rgb_rows)
            mixed = _joined(mixed[:rgb_rows], aux + self.Space_X_DTE_Adapter(aux))
        return x + self.drop_path(mixed), q, k

    def feed(self, x: Tensor, rgb_rows: int | None = None) -> Tensor:
        """Second half; the MLP of the RGB stream has no stochastic depth, as published. Arguments: see `attend`."""
        rgb_rows = x.shape[0] if rgb_rows is None else rgb_rows
        y = self.norm2(x)
        hidden = self.mlp(y)
        if rgb_rows < x.shape[0]:
            aux = hidden[rgb_rows:] + SCALE * self.MLP_X_DTE_Adapter(_aux(y, rgb_rows))
            hidden = _joined(hidden[:rgb_rows], self.drop_path(aux))
        return x + hidden

    def fuse(self, x: Tensor, first: int = 0) -> Tensor:
        """Fusion: every token attends to the tokens of the other modality.

        Args:
            x: [2B, N, C], B rows of each modality.
            first: Tokens before this one are left out of the output.

        Returns:
            [2B, N - first, C].
        """
        project = self.attn.qkv if self.fusion_is_seen else self.attn.qkv.forward
        q, k, v = split_heads(project(self.norm1(x)), self.attn.heads)
        mixed = self.attn.proj(cross_attention(q[:, :, first:], k, v))
        x = x[:, first:] + self._drop_pairs(mixed + self.Space_X_X_DTE_Adapter(mixed))
        y = self.norm2(x)
        return x + self._drop_pairs(self.mlp(y) + SCALE * self.MLP_X_X_DTE_Adapter(y))

    def _drop_pairs(self, x: Tensor) -> Tensor:
        """Stochastic depth over samples: both modalities of one, or neither."""
        pairs = x.unflatten(0, (2, -1)).transpose(0, 1)
        return self.drop_path(pairs).transpose(0, 1).flatten(0, 1)

    def fuse_for_inference(self, options: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`."""
        if not options.portable:
            return FusedAdaptedBlock(self, options)
        twin = with_fused_children(self, options)
        twin.fusion_is_seen = True
        return twin


def _aux(x: Tensor, rgb_rows: int) -> Tensor:
    """The rows of the second modality, in memory of their own.

    An adapter keeps its input for the backward pass, and a view would keep the RGB rows with it.
    """
    return x[rgb_rows:].clone() if rgb_rows else x


def _joined(rgb: Tensor, aux: Tensor) -> Tensor:
    """Rows of both streams."""
    return torch.cat([rgb, aux]) if rgb.shape[0] else aux


def cross_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of every token to the tokens of the other modality only.

    The same as one attention over both token lists with the pairs of one modality masked, at half the cost.

    Args:
        q: [2B, heads, M, d], B rows of one modality, then B of the other.
        k, v: [2B, heads, N, d].

    Returns:
        [2B, M, heads * d].
    """
    (q1, q2), (k1, k2), (v1, v2) = (t.unflatten(0, (2, -1)).unbind(0) for t in (q, k, v))
    first, second = F.scaled_dot_product_attention(q1, k2, v2), F.scaled_dot_product_attention(q2, k1, v1)
    return torch.cat([first.transpose(1, 2), second.transpose(1, 2)]).flatten(2)


class FusedAdaptedBlock(FusedBlock):
    """An `AdaptedBlock` for inference: adapters become further units of their layers.

    It computes in place where it can: the tokens it is given may be overwritten.
    """

    def __init__(self, block: AdaptedBlock, options: FuseOptions) -> None:
        super().__init__(block, options)
        attn, mlp = block.attn, block.mlp
        self.aux_space = _behind(attn, block.Space_X_DTE_Adapter, options)
        self.aux_mlp = _parallel(mlp, block.MLP_X_DTE_Adapter, options)
        self.fusion_space = _behind(attn, block.Space_X_X_DTE_Adapter, options)
        self.fusion_mlp = _parallel(mlp, block.MLP_X_X_DTE_Adapter, options)

    def attend(self, x: Tensor, rgb_rows: int) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """As `AdaptedBlock.attend`."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        mixed = self.attention(q, k, v).transpose(1, 2).flatten(2)
        x.add_(self.proj(mixed))
        aux = x[rgb_rows:]
        aux.copy_(self.aux_space(aux, mixed[rgb_rows:]))
        return x, q, k

    def feed(self, x: Tensor, rgb_rows: int) -> Tensor:  # type: ignore[override]
        """As `AdaptedBlock.feed`."""
        y = self.norm2(x)
        rgb = self.mlp(x[:rgb_rows], y[:rgb_rows])
        return torch.cat([rgb, self.aux_mlp(x[rgb_rows:], y[rgb_rows:])])

    def fuse(self, x: Tensor, first: int = 0) -> Tensor:
        """As `AdaptedBlock.fuse`."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        mixed = cross_attention(q[:, :, first:], k, v)
        x = self.fusion_space(x[:, first:] + self.proj(mixed), mixed)
        return self.fusion_mlp(x, self.norm2(x))


def _behind(attn: Attention, adapter: BottleneckAdapter, options: FuseOptions) -> ResidualMlp:
    """An output projection and the adapter behind it as one perceptron."""
    down, up, proj = adapter.D_fc1, adapter.D_fc2, attn.proj
    weight = down.weight.double() @ proj.weight.double()
    bias = down.weight.double() @ proj.bias.double() + down.bias.double()
    dtype = down.weight.dtype
    return ResidualMlp(weight.to(dtype), bias.to(dtype), up.weight, up.bias, options)


def _parallel(mlp: Mlp, adapter: BottleneckAdapter, options: FuseOptions) -> ResidualMlp:
    """An MLP and its parallel adapter as one MLP with more hidden units."""
    down, up = adapter.D_fc1, adapter.D_fc2
    first = torch.cat([mlp.fc1.weight, down.weight]), torch.cat([mlp.fc1.bias, down.bias])
    second = torch.cat([mlp.fc2.weight, SCALE * up.weight], dim=1), mlp.fc2.bias + SCALE * up.bias
    return ResidualMlp(*first, *second, options)
