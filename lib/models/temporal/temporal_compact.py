"""Temporal Compact Module of CSTrack (ICML 2025, sec. 3.3): search tokens look at what is remembered of the target."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.coded_attention import KEY, QUERY, VALUE, CodedAttention, CodedProjection
from lib.models.layers.fused import FuseOptions, Product, ResidualMlp, attention
from lib.models.layers.initial import trunc_normal_linears


class TemporalLayer(nn.Module):
    """The memory looks at itself, the tokens at the memory; post-norm. Names are those of published checkpoints."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attn = CodedAttention(width, heads, dropout)
        self.multihead_attn = CodedAttention(width, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, code: Tensor, memory: Tensor, memory_code: Tensor) -> Tensor:
        """x [B, N, C] with code [N, C], memory [B, M, C] with code [M, C] -> [B, N, C]."""
        drop = self.dropout
        memory = self.norm1(memory + drop(self.self_attn(memory, memory_code, memory, memory_code)))
        x = self.norm2(x + drop(self.multihead_attn(x, code, memory, memory_code)))
        return self.norm3(x + drop(self.linear2(drop(F.relu(self.linear1(x))))))


class TemporalCompactModule(nn.Module):
    """One layer; `layers.0` is the name in published files. Queries know nothing of each other, so that a part of the
    tokens may ask for itself."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1, init_std: float = 0.02) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TemporalLayer(width, heads, hidden, dropout)])
        trunc_normal_linears(self, init_std)

    def forward(self, x: Tensor, code: Tensor, memory: Tensor, memory_code: Tensor) -> Tensor:
        """As `TemporalLayer.forward`."""
        tokens: Tensor = self.layers[0](x, code, memory, memory_code)
        return tokens

    def for_codes(self, code: Tensor, memory_code: Tensor, plan: FuseOptions) -> FusedTemporal:
        """For inference with given codes, whose share of every product is known then."""
        layer = self.layers[0]
        assert isinstance(layer, TemporalLayer)
        return FusedTemporal(layer, code, memory_code, plan)


class FusedTemporal(nn.Module):
    """A `TemporalCompactModule` for inference; what it is given stays as it was, since it is going to be remembered."""

    def __init__(self, layer: TemporalLayer, code: Tensor, memory_code: Tensor, plan: FuseOptions) -> None:
        super().__init__()
        own, across = layer.self_attn, layer.multihead_attn
        self.attend = attention(plan, code.device)
        self.own = CodedProjection([(own, QUERY), (own, KEY), (own, VALUE)], memory_code, plan)
        self.queries = CodedProjection([(across, QUERY)], code, plan)
        self.keys = CodedProjection([(across, KEY), (across, VALUE)], memory_code, plan)
        self.after_own, self.after = (Product(a.out_proj.weight, a.out_proj.bias, plan) for a in (own, across))
        up, down = layer.linear1, layer.linear2
        self.mlp = ResidualMlp(up.weight, up.bias, down.weight, down.bias, plan, "relu")
        self.norm1, self.norm2, self.norm3 = (
            copy.deepcopy(norm).to(plan.dtype) for norm in (layer.norm1, layer.norm2, layer.norm3)
        )

    def forward(self, x: Tensor, code: Tensor, memory: Tensor, memory_code: Tensor) -> Tensor:
        """As `TemporalLayer.forward`; the codes are those that it was made for."""
        mixed = self.attend(*self.own(memory))
        memory = self.norm1(self.after_own(mixed.transpose(1, 2).flatten(2)).add_(memory))
        mixed = self.attend(*self.queries(x), *self.keys(memory))
        x = self.norm2(self.after(mixed.transpose(1, 2).flatten(2)).add_(x))
        tokens: Tensor = self.norm3(self.mlp(x, x))
        return tokens
