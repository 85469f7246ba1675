"""Candidate elimination: search tokens with little attention from the template are dropped (OSTrack, sec. 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.device import to_device
from lib.models.layers.numeric import without_autocast

# Published for these grids only; the even grids have no middle cell, so these are conventions, not arithmetic.
_CENTER_POINT = {7: 3, 8: 3, 12: 5, 14: 6}
_CENTER_RECTANGLE = {7: (3, 3), 8: (3, 4), 12: (5, 6)}


def center_rows(template_range: str, grid: int) -> list[int] | None:
    """Template tokens that score the candidates.

    Args:
        template_range: See `ViTOptions`.
        grid: Side of the template in tokens.

    Returns:
        Row-major indices; None where all tokens do (ALL), or where a box decides (GT_BOX).

    Raises:
        ValueError: The range is not defined for the grid.
    """
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

    Args:
        boxes_xywh: [B, 4] in pixels of the template crop.
        size: Side of the crop in pixels.
        stride: Side of a token in pixels.

    Returns:
        [B, (size / stride) ** 2] bool, row-major.
    """
    image = torch.zeros(len(boxes_xywh), 1, size, size)
    for i, (x, y, w, h) in enumerate(boxes_xywh.tolist()):
        image[i, 0, int(y) : int(y + h - 1), int(x) : int(x + w - 1)] = 1.0
    small = F.interpolate(image, scale_factor=1.0 / stride, mode="bilinear", align_corners=False)
    return to_device(small.flatten(1).bool(), boxes_xywh.device)


def keep_rate(epoch: int, start: int, warm: int, base: float) -> float:
    """Share of search tokens that an eliminating block keeps in training.

    Args:
        epoch: The present epoch.
        start: Elimination begins with this epoch; the share is 1 before.
        warm: Epochs over which the share falls to `base`, by a cosine.
        base: The share from then on.
    """
    if epoch < start:
        return 1.0
    if epoch >= start + warm:
        return base
    return base + (1.0 - base) * (math.cos(math.pi * (epoch - start) / warm) + 1.0) / 2.0


@torch.no_grad()
@without_autocast
def template_attention(q: Tensor, k: Tensor, n_template: int, rows: list[int] | None, mask: Tensor | None) -> Tensor:
    """Mean attention of the template to every search token.

    Args:
        q, k: [B, heads, N, d], the template's tokens first.
        n_template: Number of template tokens.
        rows: Template tokens that count; None for all.
        mask: [B, n_template] bool, those that count in each sample; None where `rows` decides.

    Returns:
        [B, N - n_template] float32.
    """
    if rows is not None:
        first, last = rows[0], rows[-1] + 1
        # A slice takes no copy.
        queries = q[:, :, first:last] if rows == list(range(first, last)) else q[:, :, rows]
    else:
        queries = q[:, :, :n_template]
    scores = (queries * queries.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    attention = scores.softmax(dim=-1, dtype=torch.float32)[..., n_template:]
    if mask is None:
        return attention.mean(dim=(1, 2))
    weights = mask.to(attention.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.einsum("bhts,bt->bhs", attention, weights).mean(dim=1)


def drop_candidates(
    x: Tensor, q: Tensor, k: Tensor, index: Tensor, ratio: float, rows: list[int] | None, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidate elimination between a block's attention and its MLP.

    Args:
        x: [B, Nz + L, C], the template's tokens first.
        q, k: [B, heads, Nz + L, d], queries and keys of the attention.
        index: [B, L], original positions of the search tokens.
        ratio: Share of the search tokens that stay, rounded up.
        rows, mask: See `template_attention`.

    Returns:
        The tokens that stay [B, Nz + keep, C], their positions [B, keep], best first, and those removed
        [B, L - keep].
    """
    length = index.shape[1]
    n_template, keep = x.shape[1] - length, math.ceil(ratio * length)
    if keep == length:
        return x, index, index[:, :0]
    order = template_attention(q, k, n_template, rows, mask).sort(dim=1, descending=True).indices
    search = x[:, n_template:].gather(1, order[:, :keep, None].expand(-1, -1, x.shape[2]))
    kept, removed = index.gather(1, order).split([keep, length - keep], dim=1)
    return torch.cat([x[:, :n_template], search], dim=1), kept, removed


def put_back(search: Tensor, index: Tensor, length: int) -> Tensor:
    """Kept search tokens at their original positions.

    Args:
        search: [B, keep, C].
        index: [B, keep], their positions.
        length: Number of search tokens before elimination.

    Returns:
        [B, length, C], zero where a token was removed.
    """
    full = search.new_zeros(search.shape[0], length, search.shape[2])
    return full.scatter(1, index[:, :, None].expand(-1, -1, search.shape[2]), search)
