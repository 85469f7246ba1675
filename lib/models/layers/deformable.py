"""Deformable convolution and deformable RoI pooling (Dai et al., Deformable ConvNets, ICCV 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import FuseOptions, fused_form_of

SAMPLES = 4
"""Samples along each side of a bin."""
REACH = 0.1
"""Share of a RoI's side by which an offset of 1 moves a bin."""
SMALLEST_SIDE = 0.1
"""Of a RoI, in cells."""


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
    """The convolution with given offsets.

    Args:
        x: [B, K, H, W].
        offsets: [B, 18, H, W], see `DeformConv`.
        weight: [C, K, 3, 3].

    Returns:
        [B, C, H, W].
    """
    from torchvision.ops import deform_conv2d

    return deform_conv2d(x, offsets, weight, padding=1)


@fused_form_of(DeformConv)
class FusedDeformConv(nn.Module):
    """A `DeformConv` for inference, always in float32: its operator has no other format on every device."""

    def __init__(self, layer: DeformConv, options: FuseOptions) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().float(), requires_grad=False)
        self.offset_weight, self.offset_bias = (
            nn.Parameter(p.detach().float(), requires_grad=False) for p in layer.conv_offset.parameters()
        )

    def forward(self, x: Tensor) -> Tensor:
        """As `DeformConv.forward`, in the input's number format."""
        exact = x.float().contiguous()
        offsets = F.conv2d(exact, self.offset_weight, self.offset_bias, padding=1)
        return deform_conv(exact, offsets, self.weight).to(x.dtype)


def deform_roi_pool(
    features: Tensor, rows: Tensor, rois_xyxy: Tensor, size: int, scale: float, offsets: Tensor | None = None
) -> Tensor:
    """Mean of 4 x 4 bilinear samples in each of the size x size bins of RoIs, each bin moved by its offset.

    The corners of a RoI are rounded half away from zero. Samples begin at the upper left of a bin; those more than half
    a cell outside the map are left out, others are moved to its border. A bin without samples is 0.

    The samples of a bin lie on a lattice, so that its weights on the cells are products of weights along both axes: a
    bin is a weighted bag of at most 64 cells, and no sample of all channels is ever held.

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
    height, width = features.shape[-2:]
    corners = rois_xyxy.detach().to(features)
    corners = torch.sign(corners) * torch.floor(corners.abs() + 0.5)
    low, high = corners[:, :2] * scale - 0.5, (corners[:, 2:] + 1) * scale - 0.5
    sides = (high - low).clamp(min=SMALLEST_SIDE)
    bins = torch.arange(size, device=features.device, dtype=features.dtype)
    starts = low[..., None] + bins * (sides / size)[..., None]
    across, down = starts[:, 0, None, :], starts[:, 1, :, None]
    if offsets is not None:
        moved = offsets * (sides * REACH)[..., None, None]
        across, down = across + moved[:, 0], down + moved[:, 1]
    columns, column_weights = _axis(across, sides[:, 0] / size, width)
    lines, line_weights = _axis(down, sides[:, 1] / size, height)
    cells = lines[..., :, None] * width + columns[..., None, :] + (rows * height * width)[:, None, None, None, None]
    weights = line_weights[..., :, None] * column_weights[..., None, :]
    table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    bags = F.embedding_bag(
        cells.flatten(0, 2).flatten(1), table, mode="sum", per_sample_weights=weights.flatten(0, 2).flatten(1)
    )
    return bags.view(len(rois_xyxy), size, size, features.shape[1]).permute(0, 3, 1, 2)


def _axis(starts: Tensor, lengths: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Cells and weights of the samples along one axis.

    Args:
        starts: [N, P or 1, P or 1] first sample of each bin, in cells.
        lengths: [N] length of a bin in cells.
        cells: Along the axis.

    Returns:
        Cells [N, ..., 8] int64, and their weights in the mean over those samples that count.
    """
    steps = torch.arange(SAMPLES, device=starts.device, dtype=starts.dtype) / SAMPLES
    places = starts[..., None] + (lengths[:, None] * steps)[:, None, None]
    counted = ((places >= -0.5) & (places <= cells - 0.5)).to(places)
    places = places.clamp(0, cells - 1)
    first, last = places.detach().floor(), places.detach().ceil()
    share = places - first
    weights = counted / counted.sum(dim=-1, keepdim=True).clamp(min=1)
    both = torch.cat([first, last], dim=-1).long()
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
