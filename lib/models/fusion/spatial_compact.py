"""Spatial Compact Module of CSTrack (ICML 2025, sec. 3.2): RGB and a second modality become one stream of tokens."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.coded_attention import KEY, QUERY, VALUE, CodedProjection
from lib.models.layers.fused import FuseOptions, Product, ResidualMlp, ResidualProduct, attention
from lib.models.layers.initial import trunc_normal_linears


class CrossAttention(nn.Module):
    """Multi-head attention with separate projections without bias; position codes for queries and keys alone."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of the number of heads {heads}")
        self.heads, self.dropout = heads, dropout
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def projection(self, which: int) -> tuple[Tensor, None]:
        """Weight and bias (there is none) of queries, keys or values, see `lib.models.layers.coded_attention`."""
        return (self.q, self.k, self.v)[which].weight, None

    def forward(self, x: Tensor, memory: Tensor, code: Tensor) -> Tensor:
        """x [B, N, C] looks at memory [B, N, C]; both have the code [N, C]."""
        q, k, v = self.q(x + code), self.k(memory + code), self.v(memory)
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class CompactMlp(nn.Module):
    """Two linear layers of one width, with GELU between."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(F.gelu(self.fc1(x))))


class SpatialCompactLayer(nn.Module):
    """RGB looks at the second modality, which then looks at RGB as it has become; post-norm.

    prompts: how many tokens each stream begins with that stay apart; all others are added place by place. The second
    stream loses the residual beside its MLP, as published networks were trained.
    """

    def __init__(self, width: int, heads: int, prompts: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.prompts = prompts
        self.cross_attn = CrossAttention(width, heads, dropout)
        self.cross_attn_det = CrossAttention(width, heads, dropout)
        self.MLP, self.MLP_det = CompactMlp(width, dropout), CompactMlp(width, dropout)
        for name in ("norm2", "norm2_det", "norm3", "norm3_det", "norm_final"):
            self.add_module(name, nn.LayerNorm(width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rgb: Tensor, aux: Tensor, code: Tensor) -> Tensor:
        """Two streams [B, P + N, C] and their code [P + N, C] -> [B, 2 P + N, C]: RGB prompts, aux prompts, tokens."""
        norm, drop = self.get_submodule, self.dropout
        rgb = norm("norm2")(rgb + drop(self.cross_attn(rgb, aux, code)))
        aux = norm("norm2_det")(aux + drop(self.cross_attn_det(aux, rgb, code)))
        rgb = norm("norm3")(rgb + drop(self.MLP(rgb)))
        alone = self.MLP_det(aux)
        aux = norm("norm3_det")(alone + drop(alone))
        return norm("norm_final")(joined(rgb, aux, self.prompts))


def joined(rgb: Tensor, aux: Tensor, prompts: int) -> Tensor:
    """[B, P + N, C] twice -> [B, 2 P + N, C]."""
    return torch.cat([rgb[:, :prompts], aux[:, :prompts], rgb[:, prompts:] + aux[:, prompts:]], dim=1)


class SpatialCompactModule(nn.Module):
    """One layer; `layers.0` is the name in published files."""

    def __init__(self, width: int, heads: int, prompts: int = 4, dropout: float = 0.1, init_std: float = 0.02) -> None:
        super().__init__()
        self.layers = nn.ModuleList([SpatialCompactLayer(width, heads, prompts, dropout)])
        trunc_normal_linears(self, init_std)

    def forward(self, rgb: Tensor, aux: Tensor, code: Tensor) -> Tensor:
        """As `SpatialCompactLayer.forward`."""
        fused: Tensor = self.layers[0](rgb, aux, code)
        return fused

    def for_code(self, code: Tensor, plan: FuseOptions) -> FusedSpatialCompact:
        """For inference with one code [P + N, C], whose share of every product is known then."""
        layer = self.layers[0]
        assert isinstance(layer, SpatialCompactLayer)
        return FusedSpatialCompact(layer, code, plan)


class FusedSpatialCompact(nn.Module):
    """A `SpatialCompactModule` for inference: each stream is projected once per state it is in; sums are in place."""

    def __init__(self, layer: SpatialCompactLayer, code: Tensor, plan: FuseOptions) -> None:
        super().__init__()
        ahead, back = layer.cross_attn, layer.cross_attn_det
        self.prompts = layer.prompts
        self.attend = attention(plan, code.device)
        self.of_rgb = CodedProjection([(ahead, QUERY)], code, plan)
        self.of_aux = CodedProjection([(ahead, KEY), (ahead, VALUE), (back, QUERY)], code, plan)
        self.of_new_rgb = CodedProjection([(back, KEY), (back, VALUE)], code, plan)
        self.proj, self.proj_det = (ResidualProduct(a.proj.weight, a.proj.bias, plan) for a in (ahead, back))
        m = layer.MLP
        self.mlp = ResidualMlp(m.fc1.weight, m.fc1.bias, m.fc2.weight, m.fc2.bias, plan)
        d = layer.MLP_det
        self.up = Product(d.fc1.weight, d.fc1.bias, plan, "gelu")
        self.down = Product(2 * d.fc2.weight.detach(), 2 * d.fc2.bias.detach(), plan)
        for name in ("norm2", "norm2_det", "norm3", "norm3_det", "norm_final"):
            self.add_module(name, copy.deepcopy(layer.get_submodule(name)).to(plan.dtype))

    def forward(self, rgb: Tensor, aux: Tensor, code: Tensor) -> Tensor:
        """As `SpatialCompactLayer.forward`, with the code that it was made for; overwrites both streams."""
        norm = self.get_submodule
        (asking,), (keys, values, queries) = self.of_rgb(rgb), self.of_aux(aux)
        mixed = self.attend(asking, keys, values)
        rgb = norm("norm2")(self.proj(rgb, mixed.transpose(1, 2).flatten(2)))
        mixed = self.attend(queries, *self.of_new_rgb(rgb))
        aux = norm("norm2_det")(self.proj_det(aux, mixed.transpose(1, 2).flatten(2)))
        rgb, aux = norm("norm3")(self.mlp(rgb, rgb)), norm("norm3_det")(self.down(self.up(aux)))
        fused: Tensor = norm("norm_final")(joined(rgb, aux, self.prompts))
        return fused
