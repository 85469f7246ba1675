"""IoU-Net of ATOM (Danelljan et al., CVPR 2019, sec. 3.2): scores boxes by a reference image of the target.

Boxes are x, y, w, h in crop pixels. Features come in two levels, of strides 8 and 16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data import xywh_to_xyxy
from lib.models.layers.conv_norm import folded
from lib.models.layers.fused import Convolution, FuseOptions, Product, with_fused_children
from lib.models.layers.numeric import at_least_float32, without_autocast
from lib.models.layers.precise_roi_pool import LevelPooling, precise_roi_pool

STRIDES, POOLED = (8, 16), (5, 3)
"""Crop pixels per cell, and bins along a side of a box, of the two levels."""
REFERENCE_POOLED = (3, 1)
MARGIN = 4.0
"""Crop pixels by which boxes may move before the features around them do not suffice."""


class ConvNormReLU(nn.Sequential):
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
    """Maps that boxes are scored on, or windows of them.

    Attributes:
        fine, coarse: [N, C, H, W], of strides 8 and 16.
        origins: [N, 2] x, y of each level's window in crop pixels; empty for whole maps.
        reach: [N, 4] x1, y1, x2, y2 in crop pixels; boxes within are scored as they are on whole maps.
    """

    fine: Tensor
    coarse: Tensor
    origins: tuple[Tensor, ...] = ()
    reach: Tensor | None = None


class IoUNet(nn.Module):
    """Scores boxes, and refines them by gradient ascent; module names are those of published checkpoints.

    Args:
        fine, coarse: Channels of the two feature levels.
        width: Channels C inside, and of the two modulation vectors.
    """

    def __init__(self, fine: int = 512, coarse: int = 1024, width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.conv3_1r, self.conv4_1r = ConvNormReLU(fine, width // 2), ConvNormReLU(coarse, width)
        self.fc3_1r = ConvNormReLU(width // 2, width, 3, 0)
        self.fc34_3r, self.fc34_4r = (ConvNormReLU(2 * width, width, 1, 0) for _ in range(2))
        self.conv3_1t, self.conv3_2t = ConvNormReLU(fine, width), ConvNormReLU(width, width)
        self.conv4_1t, self.conv4_2t = ConvNormReLU(coarse, width), ConvNormReLU(width, width)
        self.fc3_rt, self.fc4_rt = (LinearBlock(width * bins**2, width) for bins in POOLED)
        self.iou_predictor = nn.Linear(2 * width, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(cast("Tensor", module.bias))
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight)

    @without_autocast
    def modulation(self, fine: Tensor, coarse: Tensor, boxes_xywh: Tensor) -> Tensor:
        """Reference branch: the target's appearance as modulation vectors.

        Args:
            fine, coarse: Feature levels [N, C, H, W] of the reference images.
            boxes_xywh: [N, 4].

        Returns:
            [N, 2, C], for the fine and the coarse level.
        """
        boxes = xywh_to_xyxy(boxes_xywh)[:, None]
        blocks = (self.conv3_1r(at_least_float32(fine)), self.conv4_1r(at_least_float32(coarse)))
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

    @without_autocast
    def forward(self, modulation: Tensor, features: IoUFeatures, boxes_xywh: Tensor) -> Tensor:
        """Score boxes; differentiable in everything.

        Args:
            modulation: [N, 2, C].
            features: Of N images.
            boxes_xywh: [N, R, 4].

        Returns:
            [N, R], unbounded; trained as logarithms of a density.
        """
        boxes, rows = xywh_to_xyxy(boxes_xywh), boxes_xywh.shape[:2]
        hidden = []
        for i, block in enumerate((self.fc3_rt, self.fc4_rt)):
            level = at_least_float32((features.fine, features.coarse)[i])
            pooled = precise_roi_pool(level, boxes.to(level.dtype), POOLED[i], STRIDES[i])
            hidden.append(block((pooled * modulation[:, None, i, :, None, None]).flatten(2).flatten(0, 1)))
        return self.iou_predictor(torch.cat(hidden, dim=1)).view(rows)

    def features_near(self, fine: Tensor, coarse: Tensor, boxes_xywh: Tensor) -> IoUFeatures:
        """`features` of a window that boxes do not leave when they move a little.

        Args:
            fine, coarse: Feature levels [N, C, H, W].
            boxes_xywh: [N, R, 4].
        """
        boxes = xywh_to_xyxy(boxes_xywh)
        lowest, highest = boxes[..., :2].amin(dim=1) - MARGIN, boxes[..., 2:].amax(dim=1) + MARGIN
        levels, origins, reach = [], [], []
        for level, stride in zip((fine, coarse), STRIDES, strict=True):
            cells = torch.tensor([level.shape[3], level.shape[2]])
            # Two 3 x 3 convolutions are wrong within two cells of a cut, and a box reads a cell beyond its end.
            low = (lowest / stride).floor() - 2
            length = ((highest / stride).ceil() + 3 - low).max().nan_to_num(torch.inf)
            side = int(length.clamp(max=int(cells.min())))
            low = torch.minimum(low.nan_to_num(0.0).clamp_min(0), cells - side)
            at = enumerate(low.int().tolist())
            cuts = [level[i : i + 1, :, v : v + side, u : u + side] for i, (u, v) in at]
            levels.append(torch.cat(cuts).contiguous(memory_format=torch.channels_last))
            origins.append((low * stride).to(fine.device))
            first = torch.where(low > 0, low + 2, -torch.inf)
            reach.append(torch.cat([first, torch.where(low + side < cells, low + side - 3, torch.inf)], dim=1) * stride)
        near = self.features(*levels)
        least, most = torch.maximum(*(r[:, :2] for r in reach)), torch.minimum(*(r[:, 2:] for r in reach))
        limits = torch.cat([least, most], dim=1)
        return IoUFeatures(near.fine, near.coarse, tuple(origins), limits.to(fine.device))

    @torch.no_grad()
    def refine(
        self,
        modulation: Tensor,
        fine: Tensor,
        coarse: Tensor,
        boxes_xywh: Tensor,
        steps: int,
        step_length: float,
        decay: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Boxes after some steps of `ascend`.

        On the CPU features are computed around the boxes alone, and everywhere if a box leaves this window; on a GPU,
        where the host would have to wait for the boxes, always everywhere.

        Args:
            modulation: [N, 2, C].
            fine, coarse: Feature levels [N, C, H, W].
            boxes_xywh, steps, step_length, decay: See `ascend`.

        Returns:
            Boxes [N, R, 4] and scores [N, R], see `ascend`.
        """
        ascent = boxes_xywh.to(modulation), steps, step_length, decay
        if fine.device.type != "cpu":
            return self.ascend(modulation, self.features(fine, coarse), *ascent)[:2]
        features = self.features_near(fine, coarse, boxes_xywh)
        refined, scores, hull = self.ascend(modulation, features, *ascent)
        if features.reach is not None:
            beyond = torch.cat([hull[:, :2] < features.reach[:, :2], hull[:, 2:] > features.reach[:, 2:]], dim=1)
            if bool(beyond.any()):
                refined, scores, _ = self.ascend(modulation, self.features(fine, coarse), *ascent)
        return refined, scores

    @without_autocast
    @torch.no_grad()
    def ascend(
        self,
        modulation: Tensor,
        features: IoUFeatures,
        boxes_xywh: Tensor,
        steps: int,
        step_length: float,
        decay: float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes after steps of gradient ascent on their scores, in eval mode; no graph is recorded.

        Ascent is in (cx / w0, cy / h0, ln w, ln h), where w0 and h0 are the size of an image's first box.

        Args:
            modulation, features, boxes_xywh: See `forward`.
            steps: Their number, one at least.
            step_length: Factor of the gradient in the first step.
            decay: Factor of the step length after each step.

        Returns:
            Boxes [N, R, 4], scores [N, R] of the boxes before the last step, and the hull [N, 4] x1, y1, x2, y2 of all
            boxes that were scored.
        """
        # Pooling is linear, so the modulation may stand before it.
        maps = [
            (at_least_float32(x) * modulation[:, i, :, None, None]).contiguous(memory_format=torch.channels_last)
            for i, x in enumerate((features.fine, features.coarse))
        ]
        pool, layers, out = LevelPooling(maps, POOLED, STRIDES, features.origins), self.box_layers(), self.iou_predictor
        norm, visited = boxes_xywh[:, :1, 2:], []
        place, size = (boxes_xywh[..., :2] + boxes_xywh[..., 2:] / 2) / norm, boxes_xywh[..., 2:].log()
        for _ in range(steps):
            extent = size.exp()
            low = torch.addcmul(extent * -0.5, place, norm)
            visited += [low, low + extent]
            bins, backward = pool(low, extent)
            hidden = torch.cat([layer(x.flatten(2)) for (layer, _), x in zip(layers, bins, strict=True)], dim=2)
            grad_hidden = ((hidden > 0) * out.weight).split(self.width, dim=2)
            grad_bins = [back(x).view_as(b) for (_, back), x, b in zip(layers, grad_hidden, bins, strict=True)]
            grad_low, grad_extent = backward(grad_bins)
            place = torch.addcmul(place, norm, grad_low, value=step_length)
            size = torch.addcmul(size, extent, grad_extent.sub(grad_low, alpha=0.5), value=step_length)
            step_length *= decay
        extent = size.exp()
        corners = torch.stack(visited)
        hull = torch.cat([corners.amin(dim=(0, 2)), corners.amax(dim=(0, 2))], dim=1)
        scores = out(hidden.relu()).squeeze(2)
        return torch.cat([place * norm - extent / 2, extent], dim=2), scores, hull

    def box_layers(self, options: FuseOptions | None = None) -> list[tuple[Product, Product]]:
        """The layers behind the pooling of both levels, made of the present weights.

        Returns:
            Of each: [N, R, P * P * C], bins as `LevelPooling` gives them, -> hidden units [N, R, C] before their ReLU,
            batch norm included; and its adjoint, without the bias.
        """
        found, options = [], options or FuseOptions(self.iou_predictor.weight.dtype, pack=False)
        for block in (self.fc3_rt, self.fc4_rt):
            mean, variance = block.bn.get_buffer("running_mean"), block.bn.get_buffer("running_var")
            scale = block.bn.weight * (variance + block.bn.eps).rsqrt()
            weight = (block.linear.weight * scale[:, None]).unflatten(1, (self.width, -1)).transpose(1, 2).flatten(1)
            bias = (block.linear.bias - mean) * scale + block.bn.bias
            found.append((Product(weight, bias, options), Product(weight.t(), None, options)))
        return found

    def fuse_for_inference(self, options: FuseOptions) -> IoUNet:
        """For inference; see `lib.models.layers.fused`. What is not convolved with a map stays in float32."""
        exact = replace(options, dtype=torch.float32)
        twin = with_fused_children(self, exact)
        # Not packed: windows have no fixed size, and oneDNN is slow where weights are laid out for another one.
        plain = replace(options, pack=False)
        for name in ("conv3_1t", "conv3_2t", "conv4_1t", "conv4_2t"):
            conv, norm, _ = self.get_submodule(name).children()
            setattr(twin, name, Convolution(*folded(conv, norm), plain, relu=True))
        layers = self.box_layers(exact)
        twin.box_layers = lambda options=None: layers  # type: ignore[method-assign]
        return twin
