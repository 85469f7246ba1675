"""Heads that draw masks or refine boxes.

On regions of interest (SiamAttn, CVPR 2020, sec. 3.3 and 3.4), and on the features of a whole search region.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.conv_norm import ConvModule
from lib.models.layers.deformable import DeformRoIPool
from lib.models.layers.fused import FuseOptions, with_fused_children

BOX_BINS, MASK_BINS, UPSAMPLING = 4, 16, 4
"""Bins along a side of a pooled region for boxes and for masks; pixels of a mask per bin."""
MASK_SIDE = MASK_BINS * UPSAMPLING
"""Pixels along a side of a mask."""
MOVE_SCALE, SIZE_SCALE = 0.1, 0.2
"""Units of predicted changes: dx, dy in sides of the box, dw, dh as logarithms (Faster R-CNN)."""


class RefineHead(nn.Module):
    """Changes of a box from the features in it; always in float32 at inference, since places are regressed.

    Args:
        width: Channels of the features.
        scale: Cells per image pixel.
    """

    exact = True
    """See `lib.deploy.record_ranges`."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        hidden = 2 * width
        first, second = nn.Linear(BOX_BINS**2 * width, hidden), nn.Linear(hidden, hidden)
        self.tail_det = nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))
        self.tail_det_box = nn.Linear(hidden, 4)
        self.roi_pool_b = DeformRoIPool(width, BOX_BINS, scale, 4 * width)
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.tail_det_box.weight, std=0.001)
        nn.init.zeros_(self.tail_det_box.bias)

    def forward(self, features: Tensor, rows: Tensor, rois_xyxy: Tensor) -> Tensor:
        """Predict changes.

        Args:
            features: [B, width, g, g].
            rows: [N] int64, the map of each box.
            rois_xyxy: [N, 4] boxes in pixels of the search crop.

        Returns:
            [N, 4] in units of `MOVE_SCALE` and `SIZE_SCALE`, see `changed_boxes`.
        """
        features = features.to(self.tail_det_box.weight)
        pooled = self.roi_pool_b(features, rows, rois_xyxy)
        return self.tail_det_box(self.tail_det(pooled.flatten(1)))

    def fuse_for_inference(self, options: FuseOptions) -> RefineHead:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, replace(options, dtype=torch.float32))


class MaskHead(nn.Module):
    """Mask of the target from the features in its box.

    Args:
        width: Channels of the features.
        scale: Cells per image pixel.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(ConvModule(width, width, 3) for _ in range(4)))
        self.conv_logits = nn.Conv2d(width, 1, 1)
        self.upsample = nn.ConvTranspose2d(width, width, UPSAMPLING, stride=UPSAMPLING)
        self.roi_pool_m = DeformRoIPool(width, MASK_BINS, scale, 4 * width)
        nn.init.kaiming_normal_(self.conv_logits.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.conv_logits.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, rows: Tensor, rois_xyxy: Tensor) -> Tensor:
        """Draw masks.

        Args:
            features, rows, rois_xyxy: See `RefineHead.forward`.

        Returns:
            Logits [N, 64, 64] over each box.
        """
        drawn = self.convs(self.roi_pool_m(features, rows, rois_xyxy))
        return self.conv_logits(F.relu(self.upsample(drawn), inplace=True))[:, 0]


class SearchMaskHead(nn.Module):
    """Mask of the target in a whole search region, from the features that its box head reads.

    The map is enlarged by two, several times; at each size the tracked box and the region's pixels are read too, which
    bring back the edges that patches have lost. What is drawn is a correction of the box.

    Args:
        inputs: Channels of the features.
        width: Channels of the head.
        doublings: Times that the map is enlarged.
        pictures: Channels of the region's pixels that are read; 0 for none.
    """

    def __init__(self, inputs: int, width: int = 64, doublings: int = 2, pictures: int = 3) -> None:
        super().__init__()
        self.pictures = pictures
        self.reduce = ConvModule(inputs, width, 3)
        first = 1 + pictures
        self.details = nn.ModuleList(
            nn.Sequential(ConvModule(first, width // 2, 3), ConvModule(width // 2, width // 2, 3))
            for _ in range(doublings)
        )
        self.joined = nn.ModuleList(ConvModule(width + width // 2, width, 3) for _ in range(doublings))
        self.logits = nn.Conv2d(width, 1, 1)
        self.box_logit = nn.Parameter(torch.tensor(2.0))

    def forward(self, features: Tensor, boxes_xyxy: Tensor, pictures: Tensor) -> Tensor:
        """Draw masks.

        Args:
            features: [B, inputs, g, g].
            boxes_xyxy: [B, 4] tracked boxes in units of the region's side.
            pictures: [B, C, S, S] the regions, normalised.

        Returns:
            Logits [B, s, s] with s = g * 2 ** doublings.
        """
        x = self.reduce(features.to(self.logits.weight.dtype))
        for details, join in zip(self.details, self.joined, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            side = x.shape[-1]
            alongside = [share_of_cells(boxes_xyxy, side)[:, None].to(x)]
            if self.pictures:
                alongside.append(F.adaptive_avg_pool2d(pictures.to(x), side))
            x = join(torch.cat([x, details(torch.cat(alongside, dim=1))], dim=1))
        box: Tensor = 2 * share_of_cells(boxes_xyxy, x.shape[-1]).to(x) - 1
        return self.logits(x)[:, 0] + self.box_logit * box


def share_of_cells(boxes_xyxy: Tensor, side: int) -> Tensor:
    """Share of every cell of a map that a box covers.

    Args:
        boxes_xyxy: [B, 4] in units of the map's side.
        side: Of the map, in cells.

    Returns:
        [B, side, side] in 0..1.
    """
    low, high = (boxes_xyxy * side)[..., None].split(2, dim=1)
    cells = torch.arange(side, dtype=boxes_xyxy.dtype, device=boxes_xyxy.device)
    columns, rows = (torch.minimum(high, cells + 1) - torch.maximum(low, cells)).clamp(0, 1).unbind(dim=1)
    return rows[:, :, None] * columns[:, None, :]


def changed_boxes(boxes: Tensor, changes: Tensor) -> Tensor:
    """Boxes after predicted changes.

    Args:
        boxes: [..., 4] cx, cy, w, h.
        changes: [..., 4] from `RefineHead`.

    Returns:
        [..., 4] cx, cy, w, h.
    """
    moves, growth = changes[..., :2] * MOVE_SCALE, changes[..., 2:] * SIZE_SCALE
    return torch.cat([boxes[..., :2] + moves * boxes[..., 2:], boxes[..., 2:] * growth.exp()], dim=-1)


def changes_between(rois_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Targets of a `RefineHead`: the inverse of `changed_boxes`.

    Args:
        rois_xyxy, target_xyxy: [..., 4] corners.

    Returns:
        [..., 4] in units of `MOVE_SCALE` and `SIZE_SCALE`.
    """
    (low, high), (first, last) = rois_xyxy.split(2, dim=-1), target_xyxy.split(2, dim=-1)
    size, extent = high - low, last - first
    moves = ((first + last) - (low + high)) / 2 / size
    return torch.cat([moves / MOVE_SCALE, (extent / size).log() / SIZE_SCALE], dim=-1)


def masks_in_boxes(masks: Tensor, rows: Tensor, rois_xyxy: Tensor, side: int = MASK_SIDE) -> Tensor:
    """Targets of a `MaskHead`: the part of a mask in each box, by nearest pixels.

    Args:
        masks: [B, H, W] 0..1.
        rows: [N] int64, the mask of each box.
        rois_xyxy: [N, 4] in pixels; corners are cut to whole pixels inside the mask, both included.
        side: Of the result.

    Returns:
        [N, side, side].
    """
    height, width = masks.shape[-2:]
    steps = torch.arange(side, device=masks.device)
    last = torch.full((4,), width - 1, device=masks.device)
    last[1::2] = height - 1
    corners = torch.minimum(rois_xyxy.to(masks.device).long().clamp(min=0), last)
    low, count = corners[:, :2], corners[:, 2:] - corners[:, :2] + 1
    columns, lines = (low[..., None] + steps * count[..., None] // side).unbind(dim=1)
    return masks[rows[:, None, None], lines[:, :, None], columns[:, None, :]]
