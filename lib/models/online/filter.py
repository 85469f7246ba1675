"""A correlation filter that is learned on the samples of one sequence (Bhat et al., DiMP, ICCV 2019, sec. 3).

Filters are [B, C, k, k], samples [B, n, C, H, W]: n feature maps in each of B sequences, with boxes [B, n, 4] x, y, w,
h in crop pixels. A filter is applied with k // 2 zeros around the map, which an even k makes one cell larger.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.numeric import without_autocast
from lib.models.layers.precise_roi_pool import mean_rows

LEAST_REGULARISATION, LEAST_CURVATURE = 1e-6, 1e-8


@without_autocast
def apply_filter(features: Tensor, weights: Tensor) -> Tensor:
    """Correlation of each sequence's maps with its filter.

    One product for all positions, whose k * k numbers each are then added up where they belong.

    Args:
        features: [B, n, C, H, W].
        weights: [B, C, k, k].

    Returns:
        Scores [B, n, H', W'], H' = H + 1 for an even k.
    """
    (height, width), size = features.shape[-2:], weights.shape[-1]
    taps = weights.flip(2, 3).flatten(2).transpose(1, 2)[:, None] @ features.flatten(3)
    grown, around = (size + 1) % 2, size - 1 - size // 2
    scores = F.fold(taps.flatten(0, 1), (height + grown, width + grown), size, padding=around)
    return scores.view(*features.shape[:2], *scores.shape[-2:])


def adjoint_filter(features: Tensor, scores: Tensor, size: int) -> Tensor:
    """Adjoint of `apply_filter` with respect to the filter, summed over the maps of each sequence.

    Args:
        features: [B, n, C, H, W].
        scores: [B, n, H', W'].
        size: k.

    Returns:
        [B, C, k, k].
    """
    patches = F.unfold(scores.flatten(0, 1)[:, None], size, padding=size - 1 - size // 2)
    patches = patches.view(*features.shape[:2], size * size, -1)
    taps = (features.flatten(3) @ patches.transpose(2, 3)).sum(dim=1)
    return taps.view(*taps.shape[:2], size, size).flip(2, 3)


class FilterInitializer(nn.Module):
    """First filter: a 3 x 3 convolution, pooled over the target's box, the mean over a sequence's samples (sec. 3.3).

    Both are linear, so the neighbourhoods are pooled first and the convolution is one small product.

    Args:
        width: Channels C.
        size: k of the filter.
        stride: Crop pixels per cell.
    """

    def __init__(self, width: int, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.filter_conv = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.filter_conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.filter_conv.get_parameter("bias"))

    @without_autocast
    def forward(self, features: Tensor, boxes_xywh: Tensor) -> Tensor:
        """The filters.

        Args:
            features: [B, n, C, H, W].
            boxes_xywh: [B, n, 4] targets in crop pixels.

        Returns:
            [B, C, k, k].
        """
        conv, (rows, count, channels, height, width), size = self.filter_conv, features.shape, self.size
        low = boxes_xywh[..., :2] / self.stride
        high = low + boxes_xywh[..., 2:] / self.stride
        down, across = (mean_rows(low[..., i], high[..., i], size, cells) for i, cells in ((1, height), (0, width)))
        # Share of each bin within the map, where the convolution adds its bias.
        inside = (down.sum(dim=3)[..., :, None] * across.sum(dim=3)[..., None, :]).mean(dim=1)
        # A bin of the convolution's output is made of the input's bins, moved by the nine taps.
        down, across = (
            torch.stack([F.pad(r, (d, 2 - d))[..., 1:-1] for d in range(3)], dim=2).flatten(2, 3)
            for r in (down, across)
        )
        columns = down @ features.permute(0, 1, 3, 4, 2).flatten(3)
        columns = columns.view(rows, count, 3 * size, width, channels)
        bins = (across[:, :, None] @ columns).mean(dim=1).view(rows, 3, size, 3, size, channels)
        weights = bins.permute(0, 2, 4, 5, 1, 3).flatten(3) @ conv.weight.flatten(1).t()
        return weights.permute(0, 3, 1, 2) + conv.get_parameter("bias")[:, None, None] * inside[:, None]


class SteepestDescent(nn.Module):
    """Steepest descent with the step length of Gauss-Newton on a robust least-squares loss (sec. 3.1, 3.2).

    Label, target mask and spatial weight of a cell are functions of its distance to the target, piecewise linear
    between `bins` distances. Everything is differentiable through all iterations.

    Args:
        size: k of the filter.
        stride: Crop pixels per cell.
        sigma: Deviation of the first label in cells.
        iterations: Where no number is given.
        bins, displacement: Number of the distances, and their spacing in cells.
    """

    def __init__(
        self, size: int, stride: int, sigma: float, iterations: int = 5, bins: int = 100, displacement: float = 0.1
    ) -> None:
        super().__init__()
        self.size, self.stride, self.iterations, self.displacement = size, stride, iterations, displacement
        self.log_step_length = nn.Parameter(torch.full((1,), math.log(0.9)))
        self.filter_reg = nn.Parameter(torch.full((1,), 0.1))
        self.label_map_predictor = nn.Conv2d(bins, 1, 1, bias=False)
        self.target_mask_predictor = nn.Sequential(nn.Conv2d(bins, 1, 1, bias=False))
        self.spatial_weight_predictor = nn.Conv2d(bins, 1, 1, bias=False)
        distances = torch.arange(bins) * displacement
        label = torch.exp(-0.5 * (distances / sigma) ** 2)
        first = (label - label.min(), 3 * torch.tanh(2 - distances), torch.ones(bins))
        with torch.no_grad():
            for table, values in zip(self._tables(), first, strict=True):
                table.copy_(values.view_as(table))

    @without_autocast
    def forward(
        self,
        weights: Tensor,
        features: Tensor,
        boxes_xywh: Tensor,
        sample_weights: Tensor | None = None,
        iterations: int | None = None,
    ) -> list[Tensor]:
        """Improve the filters.

        Args:
            weights: [B, C, k, k].
            features: [B, n, C, H, W]; rows with fewer samples are filled up with any finite ones of weight zero.
            boxes_xywh: [B, n, 4] in crop pixels.
            sample_weights: [B, n], 1 / n by default.
            iterations: Number of steps.

        Returns:
            The filters before the first step and after every one.
        """
        label, mask, weight = self._maps(boxes_xywh.to(features.dtype), features.shape[-2:])
        count = features.shape[1]
        weight = weight * (count**-0.5 if sample_weights is None else sample_weights.sqrt()[..., None, None])
        reg = (self.filter_reg * self.filter_reg).clamp_min(LEAST_REGULARISATION)
        step = self.log_step_length.exp()
        scores, iterates = apply_filter(features, weights), [weights]
        for _ in range(self.iterations if iterations is None else iterations):
            slope = (1 - mask) / 2 * scores.detach().sign() + (1 + mask) / 2
            residual = weight * (slope * scores - label)
            slope = slope * weight
            gradient = adjoint_filter(features, slope * residual, self.size) + reg * weights
            change = apply_filter(features, gradient)
            squared = gradient.flatten(1).square().sum(dim=1)
            curvature = (slope * change).flatten(1).square().sum(dim=1) + reg * squared
            length = (step * squared / curvature.clamp_min(LEAST_CURVATURE))[:, None, None, None]
            weights, scores = weights - length * gradient, scores - length * change
            iterates.append(weights)
        return iterates

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Label, mask before its sigmoid, and spatial weight by distance, [1, bins, 1, 1] each."""
        mask = self.target_mask_predictor.get_submodule("0").get_parameter("weight")
        return self.label_map_predictor.weight, mask, self.spatial_weight_predictor.weight

    def _maps(self, boxes_xywh: Tensor, shape_hw: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
        """Label, mask and spatial weight of every cell of the score map, [B, n, H', W'] each."""
        centre = (boxes_xywh[..., :2] + boxes_xywh[..., 2:] / 2) / self.stride - (self.size % 2) / 2
        across, down = (
            torch.arange(side + (self.size + 1) % 2, device=centre.device, dtype=centre.dtype) - centre[..., i, None]
            for i, side in ((0, shape_hw[1]), (1, shape_hw[0]))
        )
        distance = (down[..., :, None].square() + across[..., None, :].square()).sqrt() / self.displacement
        tables = torch.cat([t.flatten(1) for t in self._tables()])
        place = distance.clamp_max(tables.shape[1] - 1)
        low = place.floor().clamp_max(tables.shape[1] - 2)
        index = low.long()
        maps = torch.lerp(tables[:, index], tables[:, index + 1], place - low)
        return maps[0], maps[1].sigmoid(), maps[2]
