"""Deformable convolution and deformable RoI pooling (Dai et al., Deformable ConvNets, ICCV 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lib.models.layers.fused import Convolution, FuseOptions
from lib.models.layers.numeric import at_least_float32

SAMPLES = 4
"""Samples along each side of a bin."""
REACH = 0.1
"""Share of a RoI's side by which an offset of 1 moves a bin."""
SMALLEST_SIDE = 0.1
"""Least side of a RoI in cells."""
CHUNK = 16
"""RoIs that are pooled at a time where gradients are needed."""


class DeformConv(nn.Module):
    """3 x 3 convolution without bias whose nine taps are moved by learned offsets; it keeps the size.

    Offsets are pairs dy, dx of each tap, in cells, from a convolution of their own that begins with zeros.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width, 3, 3))
        nn.init.uniform_(self.weight, -1 / math.sqrt(9 * width), 1 / math.sqrt(9 * width))
        self.conv_offset = nn.Conv2d(width, 18, 3, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """x [B, width, H, W] -> [B, width, H, W]."""
        return deform_conv(x, self.conv_offset(x), self.weight)


def deform_conv(x: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """The convolution with given offsets, by torchvision.

    Args:
        x: [B, K, H, W].
        offsets: [B, 18, H, W], see `DeformConv`.
        weight: [C, K, 3, 3].

    Returns:
        [B, C, H, W].
    """
    from torchvision.ops import deform_conv2d

    # The operator reads outside its memory where an offset is NaN: it is given 0, and the result NaN.
    # In float32 under autocast too, which torchvision sees to on a GPU alone.
    exact, places, kernel = (at_least_float32(t) for t in (x, offsets, weight))
    found = deform_conv2d(exact, places.nan_to_num(), kernel, padding=1).to(x.dtype)
    return found + 0 * offsets.sum(dim=1, keepdim=True)


class FusedDeformConvs(nn.Module):
    """Several `DeformConv`, each for a map of its own, for inference; always in float32, as places are regressed.

    A tap is a weighted sum of four cells (`F.embedding_bag`): torchvision's operator reads channel by channel on
    processors, and on a GPU replays of a CUDA graph with it gave wrong boxes without an error (torchvision 0.26).

    Args:
        layers: L of them.
        options: Packing of the convolution that predicts the offsets.
    """

    def __init__(self, layers: Sequence[DeformConv], options: FuseOptions) -> None:
        super().__init__()
        weight = torch.stack([layer.weight.detach().float() for layer in layers])
        self.weight = nn.Parameter(weight.permute(0, 3, 4, 2, 1).flatten(1, 3).contiguous(), requires_grad=False)
        offsets, biases = zip(*(layer.conv_offset.parameters() for layer in layers), strict=True)
        exact = replace(options, dtype=torch.float32)
        self.offsets = Convolution(torch.cat(offsets), torch.cat(biases), exact, groups=len(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: [B, L, K, H, W] float32.

        Returns:
            [B, L, K, H, W] float32.
        """
        rows, levels, width, height, breadth = x.shape
        # Places of the taps, [B * L, H * W, 9, 2] y and x in cells. No tensor has more than five dimensions: OpenVINO
        # computes this wrongly with seven, without an error.
        offsets = self.offsets(x.flatten(1, 2)).reshape(rows * levels, 9, 2, height * breadth).permute(0, 3, 1, 2)
        taps = _tap_places(height, breadth, x.device)
        places, zero, last = offsets + taps, taps[0, 4, :, None], taps[-1, 4, :, None]
        # The cells before and after a place along both axes, and their bilinear weights; 0 outside the map.
        low = places.floor()
        share = places - low
        ends = torch.stack([low, low + 1], dim=-1)
        inside = torch.clamp(ends, zero, last)
        weights = torch.stack([1 - share, share], dim=-1) * (inside == ends)
        cells = inside[..., 0, :, None] * breadth + inside[..., 1, None, :]
        first = torch.arange(0, rows * levels * height * breadth, height * breadth, device=x.device)
        # A NaN offset reads cell 0 with the weight NaN, so that other rows are not touched.
        bags = cells.long().clamp(min=0) + first.view(-1, 1, 1, 1, 1)
        shares = weights[..., 0, :, None] * weights[..., 1, None, :]
        table = x.permute(0, 1, 3, 4, 2).reshape(-1, width)
        columns = _weighted_bags(table, bags.view(-1, 4), shares.view(-1, 4))
        convolved = columns.view(rows, levels, -1, 9 * width) @ self.weight
        return convolved.transpose(2, 3).view_as(x)


@cache
def _tap_places(height: int, width: int, device: torch.device) -> Tensor:
    """[height * width, 9, 2] y and x of the taps of every cell, not moved."""
    axes = (torch.arange(n)[:, None] + torch.arange(-1, 2) for n in (height, width))
    lines, columns = torch.meshgrid(*(a.flatten().float() for a in axes), indexing="ij")
    taps = torch.stack([lines, columns], dim=-1).view(height, 3, width, 3, 2).transpose(1, 2)
    return taps.reshape(height * width, 9, 2).to(device)


def deform_roi_pool(
    features: Tensor, rows: Tensor, rois_xyxy: Tensor, size: int, scale: float, offsets: Tensor | None = None
) -> Tensor:
    """Mean of 4 x 4 bilinear samples in each of the size x size bins of RoIs, each bin moved by its offset.

    The corners of a RoI are rounded half away from zero. Samples begin at the upper left of a bin; those more than half
    a cell outside the map are left out, others are moved to its border. A bin without samples is 0. Where gradients are
    needed, few RoIs are pooled at a time, and again in the backward pass, which keeps nothing but the arguments.

    Args:
        features: [B, C, H, W].
        rows: [N] int64, the map of each RoI.
        rois_xyxy: [N, 4] corners in image pixels; no gradient goes to them.
        size: Bins along a side.
        scale: Cells per image pixel.
        offsets: [N, 2, size, size] x and y of each bin in units of a tenth of the RoI's sides; None: zeros.

    Returns:
        [N, C, size, size], differentiable in features and offsets.
    """
    rois = rois_xyxy.detach()
    if not torch.is_grad_enabled() or len(rows) <= CHUNK:
        return _pooled(features, rows, rois, size, scale, offsets)

    def pooled(maps: Sequence[Tensor], rows: Tensor, rois: Tensor, offsets: Tensor | None) -> Tensor:
        return _pooled(torch.stack(list(maps)), rows, rois, size, scale, offsets)

    parts, maps, numbers = [], features.unbind(), rows.tolist()
    for first in range(0, len(rows), CHUNK):
        part = slice(first, first + CHUNK)
        low, high = min(numbers[part]), max(numbers[part])
        given = maps[low : high + 1], rows[part] - low, rois[part], None if offsets is None else offsets[part]
        parts.append(checkpoint(pooled, *given, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(parts)


def _pooled(
    features: Tensor, rows: Tensor, rois_xyxy: Tensor, size: int, scale: float, offsets: Tensor | None
) -> Tensor:
    """`deform_roi_pool` of all RoIs at once.

    The samples of a bin lie on a lattice, so that its weights on the cells are products of weights along both axes: a
    bin is a weighted sum of at most 64 cells, and no sample of all channels is held in memory. Places are computed in
    float32 at least, since half precision is too coarse for them.
    """
    (height, width), exact = features.shape[-2:], torch.promote_types(features.dtype, torch.float32)
    corners = rois_xyxy.to(exact)
    corners = torch.trunc(corners.add(corners.sign(), alpha=0.5))
    low, high = corners[:, :2] * scale - 0.5, (corners[:, 2:] + 1) * scale - 0.5
    sides = (high - low).clamp(min=SMALLEST_SIDE)
    bins = torch.arange(size, device=features.device, dtype=exact)
    places = torch.stack([bins.expand(size, size), bins[:, None].expand(size, size)])
    starts = low[..., None, None] + places * (sides / size)[..., None, None]
    if offsets is not None:
        starts = starts + offsets * (sides * REACH)[..., None, None]
    lattice, weights = _lattice(starts, sides / size, (width, height))
    cells = lattice[:, 1, ..., :, None] * width + lattice[:, 0, ..., None, :]
    cells = cells + (rows * (height * width))[:, None, None, None, None]
    weights = (weights[:, 1, ..., :, None] * weights[:, 0, ..., None, :]).to(features.dtype)
    table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    bags = _weighted_bags(table, cells.flatten(0, 2).flatten(1), weights.flatten(0, 2).flatten(1))
    return bags.view(-1, size, size, features.shape[1]).permute(0, 3, 1, 2)


def _weighted_bags(table: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
    """[N, C] sums of K rows of a table [M, C], `cells` [N, K] int64, each with its weight [N, K]."""
    if torch.compiler.is_exporting():  # other runtimes have no such operator
        return torch.bmm(weights[:, None], table[cells])[:, 0]
    return F.embedding_bag(cells, table, mode="sum", per_sample_weights=weights)


def _lattice(starts: Tensor, lengths: Tensor, cells_wh: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Cells and weights of the samples along both axes.

    Args:
        starts: [N, 2, P, P] x and y of the first sample of each bin, in cells.
        lengths: [N, 2] sides of a bin in cells.
        cells_wh: Along both axes.

    Returns:
        Cells [N, 2, P, P, 8] int64, and their weights in the mean over those samples that count.
    """
    steps = torch.arange(SAMPLES, device=starts.device, dtype=starts.dtype) / SAMPLES
    places = starts[..., None] + (lengths[..., None] * steps)[:, :, None, None]
    last = torch.stack([starts.new_full((1, 1, 1), cells - 1) for cells in cells_wh])
    exact, places = places.detach(), torch.clamp(places, torch.zeros_like(last), last)
    counted = ((exact - places.detach()).abs() <= 0.5).to(places)
    low, high = places.detach().floor(), places.detach().ceil()
    share = places - low
    weights = counted / counted.sum(dim=-1, keepdim=True).clamp(min=1)
    # A NaN offset reads cell 0 with the weight NaN, so that other RoIs are not touched.
    both = torch.cat([low, high], dim=-1).long().clamp(min=0)
    return both, torch.cat([weights * (1 - share), weights * share], dim=-1)


class DeformRoIPool(nn.Module):
    """Deformable RoI pooling whose offsets come from the RoI pooled without them.

    Args:
        width: Channels.
        size: Bins along a side.
        scale: Cells per image pixel.
        hidden: Width of the perceptron that gives the offsets.
    """

    def __init__(self, width: int, size: int, scale: float, hidden: int) -> None:
        super().__init__()
        self.size, self.scale = size, scale
        last = nn.Linear(hidden, 2 * size * size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        first = nn.Linear(size * size * width, hidden)
        self.offset_fc = nn.Sequential(
            first, nn.ReLU(inplace=True), nn.Linear(hidden, hidden), nn.ReLU(inplace=True), last
        )

    def forward(self, features: Tensor, rows: Tensor, rois_xyxy: Tensor) -> Tensor:
        """Pool.

        Args:
            features, rows, rois_xyxy: See `deform_roi_pool`.

        Returns:
            [N, width, size, size].
        """
        where = rows, rois_xyxy, self.size, self.scale
        offsets = self.offset_fc(deform_roi_pool(features, *where).flatten(1))
        return deform_roi_pool(features, *where, offsets.view(-1, 2, self.size, self.size))
