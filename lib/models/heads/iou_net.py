"""IoU-Net of ATOM (Danelljan et al., CVPR 2019, sec. 3.2): scores boxes by a reference image of the target.

Boxes are x, y, w, h in crop pixels. Features come in two levels, of strides 8 and 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.precise_roi_pool import pool_with_gradient, precise_roi_pool

STRIDES, POOLED = (8, 16), (5, 3)
"""Of the two levels: crop pixels per cell, bins along a side of a box."""
REFERENCE_POOLED = (3, 1)


class ConvBlock(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, padding: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, size, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU())


class LinearBlock(nn.Module):
    """Linear layer, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.bn = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[M, inputs] -> [M, outputs]."""
        return F.relu(self.bn(self.linear(x)))


@dataclass(frozen=True, slots=True)
class IoUFeatures:
    """Maps that boxes are scored on.

    Attributes:
        fine, coarse: [N, C, H, W], of strides 8 and 16.
    """

    fine: Tensor
    coarse: Tensor


@dataclass(frozen=True, slots=True)
class BoxLayer:
    """Linear layers behind the pooling of a level.

    Attributes:
        weight: [C, P * P * C] of the hidden units, bin after bin. bias: [C].
        out: [C], from the hidden units to the score.
    """

    weight: Tensor
    bias: Tensor
    out: Tensor


class IoUNet(nn.Module):
    """Scores of boxes, and boxes that climb to higher scores; module names are those of published checkpoints.

    Args:
        fine, coarse: Channels of the two feature levels.
        width: Channels C inside, and of the two modulation vectors.
    """

    def __init__(self, fine: int = 512, coarse: int = 1024, width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.conv3_1r, self.conv4_1r = ConvBlock(fine, width // 2), ConvBlock(coarse, width)
        self.fc3_1r = ConvBlock(width // 2, width, 3, 0)
        self.fc34_3r, self.fc34_4r = (ConvBlock(2 * width, width, 1, 0) for _ in range(2))
        self.conv3_1t, self.conv3_2t = ConvBlock(fine, width), ConvBlock(width, width)
        self.conv4_1t, self.conv4_2t = ConvBlock(coarse, width), ConvBlock(width, width)
        self.fc3_rt, self.fc4_rt = (LinearBlock(width * bins**2, width) for bins in POOLED)
        self.iou_predictor = nn.Linear(2 * width, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(cast("Tensor", module.bias))
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight)

    def modulation(self, fine: Tensor, coarse: Tensor, boxes_xywh: Tensor) -> Tensor:
        """Reference branch: what the target looks like.

        Args:
            fine, coarse: Feature levels [N, C, H, W] of the reference images.
            boxes_xywh: [N, 4].

        Returns:
            [N, 2, C], for the fine and the coarse level.
        """
        boxes = corners(boxes_xywh)[:, None]
        blocks = (self.conv3_1r(fine), self.conv4_1r(coarse))
        pooled = [
            precise_roi_pool(x, boxes.to(x.dtype), bins, stride)[:, 0]
            for x, bins, stride in zip(blocks, REFERENCE_POOLED, STRIDES, strict=True)
        ]
        both = torch.cat([self.fc3_1r(pooled[0]), pooled[1]], dim=1)
        return torch.stack([block(both).flatten(1) for block in (self.fc34_3r, self.fc34_4r)], dim=1)

    def features(self, fine: Tensor, coarse: Tensor) -> IoUFeatures:
        """Test branch up to the modulation.

        Args:
            fine, coarse: Feature levels [N, C, H, W].
        """
        return IoUFeatures(self.conv3_2t(self.conv3_1t(fine)), self.conv4_2t(self.conv4_1t(coarse)))

    def forward(self, modulation: Tensor, features: IoUFeatures, boxes_xywh: Tensor) -> Tensor:
        """Score boxes; differentiable in everything.

        Args:
            modulation: [N, 2, C].
            features: Of N images.
            boxes_xywh: [N, R, 4].

        Returns:
            [N, R], unbounded; trained as logarithms of a density.
        """
        boxes, rows = corners(boxes_xywh), boxes_xywh.shape[:2]
        hidden = []
        for i, block in enumerate((self.fc3_rt, self.fc4_rt)):
            level = (features.fine, features.coarse)[i]
            pooled = precise_roi_pool(level, boxes.to(level.dtype), POOLED[i], STRIDES[i])
            hidden.append(block((pooled * modulation[:, None, i, :, None, None]).flatten(2).flatten(0, 1)))
        return self.iou_predictor(torch.cat(hidden, dim=1)).view(rows)

    @torch.no_grad()
    def refine(
        self, modulation: Tensor, features: IoUFeatures, boxes_xywh: Tensor, steps: int, step_length: float
    ) -> tuple[Tensor, Tensor]:
        """Boxes after steps of gradient ascent on their scores, in eval mode; no graph is recorded.

        Ascent is in (cx / w0, cy / h0, ln w, ln h), where w0 and h0 are the size of an image's first box.

        Args:
            modulation, features, boxes_xywh: As of `forward`.
            steps: Their number, one at least.
            step_length: Factor of the gradient.

        Returns:
            Boxes [N, R, 4], and scores [N, R] of the boxes before the last step.
        """
        layers = self.box_layers()
        norm = boxes_xywh[:, :1, 2:]
        place, size = (boxes_xywh[..., :2] + boxes_xywh[..., 2:] / 2) / norm, boxes_xywh[..., 2:].log()
        for _ in range(steps):
            extent = size.exp()
            low = place * norm - extent / 2
            scores, gradient = self.scores_and_gradient(modulation, features, torch.cat([low, low + extent], 2), layers)
            by_low, by_high = gradient.split(2, dim=2)
            place = place + step_length * norm * (by_low + by_high)
            size = size + step_length * extent * (by_high - by_low) / 2
        extent = size.exp()
        return torch.cat([place * norm - extent / 2, extent], dim=2), scores

    def scores_and_gradient(
        self, modulation: Tensor, features: IoUFeatures, boxes_xyxy: Tensor, layers: Sequence[BoxLayer]
    ) -> tuple[Tensor, Tensor]:
        """Scores, and their gradient with respect to the corners in closed form.

        Args:
            modulation, features: As of `forward`.
            boxes_xyxy: [N, R, 4].
            layers: Of the two levels; see `box_layers`.

        Returns:
            [N, R] and [N, R, 4].
        """
        scores, gradient = self.iou_predictor.bias.expand(boxes_xyxy.shape[:2]), torch.zeros_like(boxes_xyxy)
        for i, (level, layer) in enumerate(zip((features.fine, features.coarse), layers, strict=True)):
            bins, pull_back = pool_with_gradient(level, boxes_xyxy, POOLED[i], STRIDES[i])
            by_channel = modulation[:, None, i].repeat(1, 1, POOLED[i] ** 2)
            hidden = F.relu(F.linear(bins.flatten(2) * by_channel, layer.weight, layer.bias))
            scores = scores + hidden @ layer.out
            on_bins = ((hidden > 0) * layer.out) @ layer.weight * by_channel
            gradient = gradient + pull_back(on_bins.view(bins.shape))
        return scores, gradient

    def box_layers(self) -> list[BoxLayer]:
        """What stands behind the pooling of either level, batch norm included, for bins as `pool_with_gradient` gives
        them."""
        found = []
        for i, block in enumerate((self.fc3_rt, self.fc4_rt)):
            mean, variance = block.bn.get_buffer("running_mean"), block.bn.get_buffer("running_var")
            scale = block.bn.weight * (variance + block.bn.eps).rsqrt()
            weight = (block.linear.weight * scale[:, None]).unflatten(1, (self.width, -1)).transpose(1, 2).flatten(1)
            bias = (block.linear.bias - mean) * scale + block.bn.bias
            found.append(BoxLayer(weight, bias, self.iou_predictor.weight[0, i * self.width : (i + 1) * self.width]))
        return found


def corners(boxes_xywh: Tensor) -> Tensor:
    """[..., 4] x, y, w, h -> x1, y1, x2, y2."""
    return torch.cat([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], dim=-1)
