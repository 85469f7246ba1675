"""Temporal Compact Module of CSTrack (ICML 2025, sec. 3.3): search tokens attend to a memory of target tokens.

The memory is a tensor [B, T, K, C] of T entries of K tokens. Entry 0 keeps the tokens of the first frame, the others
are a queue.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.attention import KEY, QUERY, VALUE, PosEmbedAttention, PosEmbedProjection
from lib.models.layers.blocks import AfterAttention, FeedForward, trunc_normal_linears
from lib.models.layers.fused import FuseOptions, choose_attention


@torch.no_grad()
def inverse_affinity(search: Tensor, others: Tensor, over_batch: bool = False) -> Tensor:
    """Weight of each search token for the memory: inverse of its affinity to the other tokens.

    The mean row of ``others ((s s^T) s)^T``, inverted and scaled to 0..1, by products with vectors alone.

    Args:
        search: s, [B, N, C].
        others: [B, M, C].
        over_batch: Scale over the whole batch, as published training does, instead of row by row.

    Returns:
        [B, N] float32 in 0..1.
    """
    s = search.float()
    mean = others.float().mean(dim=1)[:, :, None]
    # Beyond half precision's range, which autocast would take for products of float32 tensors too.
    with torch.autocast(search.device.type, enabled=False):
        raw = (s @ (s.transpose(1, 2) @ (s @ mean))).squeeze(2)
    high, low = (raw.max(), raw.min()) if over_batch else (raw.amax(1, keepdim=True), raw.amin(1, keepdim=True))
    return (high - raw) / (high - low)


@torch.no_grad()
def box_prior(boxes_cxcywh: Tensor, grid: int) -> Tensor:
    """Gaussian round boxes, with their width and height as deviations.

    Cells stand for their top-left corners; there is no half-cell shift.

    Args:
        boxes_cxcywh: [B, 4] in units of the crop's side.
        grid: Side of the map in cells.

    Returns:
        [B, grid * grid] float32, row-major.
    """
    cx, cy, w, h = (boxes_cxcywh.float() * grid)[..., None].unbind(1)
    steps = torch.arange(grid, device=boxes_cxcywh.device, dtype=torch.float32)
    across, down = ((steps - cx) / w) ** 2, ((steps - cy) / h) ** 2
    return torch.exp(-0.5 * (down[:, :, None] + across[:, None, :])).flatten(1)


def best_tokens(tokens: Tensor, weight: Tensor, count: int) -> Tensor:
    """Tokens with the largest weights, in their own order.

    Args:
        tokens: [B, N, C].
        weight: [B, N].
        count: Number of tokens.

    Returns:
        [B, count, C].
    """
    index = best_places(weight, count)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))


def best_places(weight: Tensor, count: int) -> Tensor:
    """Positions of the largest weights.

    Args:
        weight: [B, N].
        count: Number of positions.

    Returns:
        [B, count], ascending.
    """
    return weight.topk(count, dim=1).indices.sort(dim=1).values


def memory_init(entry: Tensor, length: int) -> Tensor:
    """Memory after the first frame: all its entries are that frame's.

    Args:
        entry: [B, K, C].
        length: Number of entries.

    Returns:
        [B, length, K, C], a view.
    """
    return entry[:, None].expand(-1, length, -1, -1)


def memory_push(memory: Tensor, entry: Tensor) -> Tensor:
    """Memory with one more entry at its end; the oldest but the first is dropped.

    Args:
        memory: [B, T, K, C].
        entry: [B, K, C].

    Returns:
        [B, T, K, C].
    """
    return torch.cat([memory[:, :1], memory[:, 2:], entry[:, None]], dim=1)


def where_first(first: Tensor, initial: Tensor, memory: Tensor) -> Tensor:
    """Memories of rows of which some are at their first frame.

    Args:
        first: [B] bool.
        initial: [B, T, K, C], for rows at their first frame.
        memory: [B, T, K, C], for the others.

    Returns:
        [B, T, K, C].
    """
    return torch.where(first[:, None, None, None], initial, memory)


class TemporalLayer(nn.Module):
    """Self-attention of the memory, then cross-attention of the tokens to it; post-norm.

    Names are those of published checkpoints.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attn = PosEmbedAttention(width, heads, dropout)
        self.multihead_attn = PosEmbedAttention(width, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, pos_embed: Tensor, memory: Tensor, memory_pos_embed: Tensor) -> Tensor:
        """Attention to the memory.

        Args:
            x: [B, N, C], with `pos_embed` [N, C].
            memory: [B, M, C], its entries one after another, with `memory_pos_embed` [M, C].

        Returns:
            [B, N, C].
        """
        drop = self.dropout
        memory = self.norm1(memory + drop(self.self_attn(memory, memory_pos_embed, memory, memory_pos_embed)))
        x = self.norm2(x + drop(self.multihead_attn(x, pos_embed, memory, memory_pos_embed)))
        return self.norm3(x + drop(self.linear2(drop(F.relu(self.linear1(x))))))


class TemporalCompactModule(nn.Module):
    """One layer; `layers.0` is the name in published files.

    Queries do not attend to each other, so that it can be computed for a part of the tokens.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1, init_std: float = 0.02) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TemporalLayer(width, heads, hidden, dropout)])
        trunc_normal_linears(self, init_std)

    def forward(self, x: Tensor, pos_embed: Tensor, memory: Tensor, memory_pos_embed: Tensor) -> Tensor:
        """As `TemporalLayer.forward`."""
        return self.layers[0](x, pos_embed, memory, memory_pos_embed)


class FusedTemporal(nn.Module):
    """A `TemporalCompactModule` for inference.

    Args:
        module: The module.
        pos_embed, memory_pos_embed: [N, C] and [M, C], whose share of every product is computed here.
        options: Number format and packing.
    """

    def __init__(
        self, module: TemporalCompactModule, pos_embed: Tensor, memory_pos_embed: Tensor, options: FuseOptions
    ) -> None:
        super().__init__()
        layer = cast("TemporalLayer", module.layers[0])
        own, across = layer.self_attn, layer.multihead_attn
        self.attend = choose_attention(options, pos_embed.device)
        self.own = PosEmbedProjection([(own, QUERY), (own, KEY), (own, VALUE)], memory_pos_embed, options)
        self.queries = PosEmbedProjection([(across, QUERY)], pos_embed, options)
        self.keys = PosEmbedProjection([(across, KEY), (across, VALUE)], memory_pos_embed, options)
        self.after_own = AfterAttention(own.out_proj, layer.norm1, options)
        self.after = AfterAttention(across.out_proj, layer.norm2, options)
        self.feed = FeedForward(layer.linear1, layer.linear2, layer.norm3, options, "relu")

    def forward(self, x: Tensor, pos_embed: Tensor, memory: Tensor, memory_pos_embed: Tensor) -> Tensor:
        """As `TemporalLayer.forward`; the pos_embeds are those that it was made for."""
        memory = self.after_own(memory, self.attend(*self.own(memory)))
        return self.feed(self.after(x, self.attend(*self.queries(x), *self.keys(memory))))
