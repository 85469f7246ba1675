"""Candidate elimination: search tokens with little attention from the template are dropped (OSTrack, sec. 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.models.layers.attention import attention_rows

RANGES = ("ALL", "CTR_POINT", "CTR_REC", "GT_BOX")
# Published for these grids only; the even grids have no middle cell, so these are conventions, not arithmetic.
_CENTER_POINT = {7: 3, 8: 3, 12: 5, 14: 6}
_CENTER_RECTANGLE = {7: (3, 3), 8: (3, 4), 12: (5, 6)}


def center_rows(template_range: str, grid: int) -> list[int] | None:
    """Template tokens (row-major indices) that judge the candidates; None where all do, or where a box decides.

    Raises ValueError for an unknown range and for a grid that the range is not defined for.
    """
    if template_range not in RANGES:
        raise ValueError(f"CE_TEMPLATE_RANGE {template_range!r} is unknown (known: {', '.join(RANGES)})")
    if template_range in ("ALL", "GT_BOX"):
        return None
    table = {g: (p, p) for g, p in _CENTER_POINT.items()} if template_range == "CTR_POINT" else _CENTER_RECTANGLE
    if grid not in table:
        known = ", ".join(f"{g}x{g}" for g in sorted(table))
        raise ValueError(f"CE_TEMPLATE_RANGE {template_range} is defined for template grids {known}, not {grid}x{grid}")
    first, last = table[grid]
    return [r * grid + c for r in range(first, last + 1) for c in range(first, last + 1)]


def box_rows(boxes_xywh: Tensor, size: int, stride: int) -> Tensor:
    """Template tokens that the target's box touches (range GT_BOX).

    boxes_xywh: [B, 4] in template-crop pixels, `size` the crop's side. Returns [B, (size / stride) ** 2] bool.
    """
    image = torch.zeros(len(boxes_xywh), 1, size, size)
    for i, (x, y, w, h) in enumerate(boxes_xywh.tolist()):
        image[i, 0, int(y) : int(y + h - 1), int(x) : int(x + w - 1)] = 1.0
    small = F.interpolate(image, scale_factor=1.0 / stride, mode="bilinear", align_corners=False)
    return small.flatten(1).bool().to(boxes_xywh.device)


def keep_rate(epoch: int, start: int, warm: int, base: float) -> float:
    """Share of search tokens kept in training: 1 before `start`, `base` after `start + warm`, a cosine between."""
    if epoch < start:
        return 1.0
    if epoch >= start + warm:
        return base
    return base + (1.0 - base) * (math.cos(math.pi * (epoch - start) / warm) + 1.0) / 2.0


def template_attention(q: Tensor, k: Tensor, n_template: int, rows: list[int] | None, mask: Tensor | None) -> Tensor:
    """Mean attention of the template to every search token.

    q, k: [B, heads, N, d] with the template's tokens first. rows: the template tokens that count (None: all);
    mask: [B, n_template] bool, which count in each sample (None: `rows` decides). Returns [B, N - n_template].
    """
    judges = q[:, :, :n_template] if rows is None else q[:, :, _as_slice(rows)]
    attention = attention_rows(judges, k)[..., n_template:]
    if mask is None:
        return attention.mean(dim=(1, 2))
    weights = mask.to(attention.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.einsum("bhts,bt->bhs", attention, weights).mean(dim=1)


def _as_slice(rows: list[int]) -> slice | list[int]:
    """A slice where the rows are consecutive, since that takes no copy."""
    consecutive = rows == list(range(rows[0], rows[-1] + 1))
    return slice(rows[0], rows[-1] + 1) if consecutive else rows


def drop_candidates(
    x: Tensor,
    q: Tensor,
    k: Tensor,
    index: Tensor,
    n_template: int,
    ratio: float,
    rows: list[int] | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What happens between a block's attention and its MLP.

    x: [B, n_template + L, C]; q, k: what the attention compared; index: [B, L] original positions of the search tokens.
    Returns the tokens that stay [B, n_template + keep, C], their positions [B, keep], best first, and the removed ones.
    """
    length = index.shape[1]
    keep = math.ceil(ratio * length)
    if keep == length:
        return x, index, index[:, :0]
    order = template_attention(q, k, n_template, rows, mask).sort(dim=1, descending=True).indices
    search = x[:, n_template:].gather(1, order[:, :keep, None].expand(-1, -1, x.shape[2]))
    kept, removed = index.gather(1, order).split([keep, length - keep], dim=1)
    return torch.cat([x[:, :n_template], search], dim=1), kept, removed


def put_back(search: Tensor, index: Tensor, length: int) -> Tensor:
    """Kept tokens [B, keep, C] at their original positions of [B, length, C]; zero where a token was removed."""
    full = search.new_zeros(search.shape[0], length, search.shape[2])
    return full.scatter(1, index[:, :, None].expand(-1, -1, search.shape[2]), search)
