"""A memory of the target's tokens (CSTrack, ICML 2025, sec. 3.3): which search tokens are kept, and for how long.

Memory is a tensor [B, T, K, C] of T entries of K tokens. Entry 0 stays what the first frame gave, the others move up.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def relation(search: Tensor, others: Tensor, over_batch: bool = False) -> Tensor:
    """How little each search token [B, N, C] has to do with the other tokens [B, M, C]: [B, N] in 0..1, float32.

    The mean row of ``others ((s s^T) s)^T``, inverted and stretched to 0..1, by products with vectors alone.
    over_batch: stretched over the whole batch, as published training does it, not row by row.
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
    """Gaussian round boxes [B, 4] in units of the crop's side, as wide as they are: [B, grid * grid], row-major.

    Cells stand for their top-left corners; there is no half-cell shift.
    """
    cx, cy, w, h = (boxes_cxcywh.float() * grid)[..., None].unbind(1)
    steps = torch.arange(grid, device=boxes_cxcywh.device, dtype=torch.float32)
    across, down = ((steps - cx) / w) ** 2, ((steps - cy) / h) ** 2
    return torch.exp(-0.5 * (down[:, :, None] + across[:, None, :])).flatten(1)


def best_tokens(tokens: Tensor, weight: Tensor, count: int) -> Tensor:
    """The `count` tokens of [B, N, C] with the largest weight [B, N], in their own order: [B, count, C]."""
    index = best_places(weight, count)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))


def best_places(weight: Tensor, count: int) -> Tensor:
    """Positions [B, count] of the largest weights [B, N], ascending."""
    return weight.topk(count, dim=1).indices.sort(dim=1).values


def filled(entry: Tensor, length: int) -> Tensor:
    """The memory [B, length, K, C] of a first frame, which is all that there is to remember: entry [B, K, C]."""
    return entry[:, None].expand(-1, length, -1, -1)


def remembered(memory: Tensor, entry: Tensor) -> Tensor:
    """The memory with one more entry [B, K, C]: the oldest one but the first goes."""
    return torch.cat([memory[:, :1], memory[:, 2:], entry[:, None]], dim=1)


def where_first(first: Tensor, begun: Tensor, memory: Tensor) -> Tensor:
    """Row by row: `begun` where `first` [B] says so, else `memory`."""
    return torch.where(first[:, None, None, None], begun, memory)
