"""Frame-level learning: losses of the candidates of one search region.

Of one box and a map of centres (`BoxCriterion`), of a box and a score in every cell (`CellCriterion`), and of the same
sample as it is and with hidden patches (`SelfDistillation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.data import cxcywh_to_xyxy, xywh_to_cxcywh, xywh_to_xyxy
from lib.models.heads import BACKGROUND, TARGET, Candidates
from lib.models.losses import cells_under, focal_loss, gaussian_heatmap, generalised_iou, giou_loss
from lib.objectives.base import Losses, WeightedLosses


@dataclass(frozen=True)
class BoxCriterion(WeightedLosses):
    """Weighted sum of GIoU loss, mean absolute corner error, and focal loss of the score map (OSTrack, sec. 3.4).

    A head without size and offset maps (corner head) has no centre map to learn; its focal loss is left out, as it is
    for the weight 0.

    Attributes:
        giou_weight, l1_weight, focal_weight: Of the three losses.
        skip_swapped: See `giou_loss`.
        clamp_targets: Compare boxes with the part of the target inside the crop.
    """

    giou_weight: float = 2.0
    l1_weight: float = 5.0
    focal_weight: float = 1.0
    skip_swapped: bool = True
    clamp_targets: bool = True

    def __call__(self, candidates: Candidates, target_xywh: Tensor) -> Losses:
        """Losses of one batch.

        Args:
            candidates: Of B search regions.
            target_xywh: [B, 4] in units of the search crop's side.
        """
        return self.compare(candidates, target_xywh)[0]

    def compare(self, candidates: Candidates, target_xywh: Tensor) -> tuple[Losses, Tensor]:
        """As a call, with the overlaps of the boxes.

        Args:
            candidates: Of B search regions.
            target_xywh: [B, 4] in units of the search crop's side.

        Returns:
            The losses, and the intersection over union [B] of boxes and targets, through which gradients may flow.
        """
        predicted = cxcywh_to_xyxy(candidates.best_boxes())
        target = xywh_to_xyxy(target_xywh)
        if self.clamp_targets:
            target = target.clamp(0.0, 1.0)
        giou, iou = giou_loss(predicted, target, self.skip_swapped)
        l1 = F.l1_loss(predicted, target)
        total = self.giou_weight * giou + self.l1_weight * l1
        terms = {"Loss/giou": giou, "Loss/l1": l1}
        if self.focal_weight and "size_map" in candidates.maps:
            score_map = candidates.maps["score_map"]
            heatmap = gaussian_heatmap(target_xywh, score_map.shape[-1])
            location = focal_loss(score_map, heatmap)
            total = total + self.focal_weight * location
            terms["Loss/location"] = location
        return Losses(total, {"Loss/total": total, **terms, "IoU": iou.mean()}), iou


@dataclass(frozen=True)
class CellCriterion(WeightedLosses):
    """Weighted sum of the cross-entropy of all cells, and of L1 and GIoU loss of the boxes of matched ones.

    Cells under the target are matched (TransT, sec. 3.3).

    Attributes:
        giou_weight, l1_weight, ce_weight: Of the three losses.
        background_weight: Of a background cell in the cross-entropy, against 1 of a matched one.
        wrap_matches: See `cells_under`.
    """

    giou_weight: float = 2.0
    l1_weight: float = 5.0
    ce_weight: float = 8.334
    background_weight: float = 0.0625
    wrap_matches: bool = False

    def __call__(self, candidates: Candidates, target_xywh: Tensor) -> Losses:
        """Losses of one batch.

        Args:
            candidates: Of B search regions, with `logits`.
            target_xywh: [B, 4] in units of the search crop's side.
        """
        matched = self.matched(candidates.boxes, target_xywh)
        entropy = self.score_loss(candidates, matched)
        losses = self.box_losses(candidates.boxes, target_xywh, matched)
        total = self.ce_weight * entropy + losses.total
        return Losses(total, {"Loss/total": total, "Loss/ce": entropy, **losses.terms})

    def matched(self, boxes: Tensor, target_xywh: Tensor) -> Tensor:
        """The cells under the targets.

        Args:
            boxes: [B, N, 4], of the cells of a square grid.
            target_xywh: [B, 4] in units of the search crop's side.

        Returns:
            [B, N] bool.
        """
        return cells_under(target_xywh, isqrt(boxes.shape[1]), self.wrap_matches)

    def score_loss(self, candidates: Candidates, matched: Tensor) -> Tensor:
        """Mean cross-entropy over all cells, weighted by class.

        Args:
            candidates: Of B search regions, with `logits` [B, N, 2].
            matched: [B, N] bool, see `matched`.
        """
        labels = torch.where(matched, TARGET, BACKGROUND)
        logits = candidates.maps["logits"]
        weight = logits.new_full((2,), self.background_weight)
        weight[0] = 1
        return F.cross_entropy(logits.transpose(1, 2), labels, weight)

    def box_losses(self, boxes: Tensor, target_xywh: Tensor, matched: Tensor) -> Losses:
        """The box part alone: means over all matched cells of the batch, 0 where there is none.

        Args:
            boxes: [B, N, 4] cx, cy, w, h in units of the search crop's side.
            target_xywh: [B, 4] in the same units.
            matched: [B, N] bool, see `matched`.
        """
        rows, cells = matched.nonzero().unbind(dim=1)
        count = max(1, len(rows))
        predicted = boxes[rows, cells]
        target = xywh_to_cxcywh(target_xywh)[rows].to(predicted)
        l1 = (predicted - target).abs().sum() / count
        overlap, iou = generalised_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
        giou = (1 - overlap).sum() / count
        total = self.l1_weight * l1 + self.giou_weight * giou
        return Losses(total, {"Loss/bbox": l1, "Loss/giou": giou, "IoU": iou.sum() / count})


@dataclass(frozen=True)
class SelfDistillation(WeightedLosses):
    """Weighted sum of the losses of a clean and a masked pass, and of the difference of their tokens.

    SDSTrack (Hou et al., CVPR 2024, sec. 3.3). Nothing is detached and there is no second network: both passes have
    frame-level losses, and the mean squared difference of their tokens at each fusion is a third loss.

    Attributes:
        criterion: Of each pass.
        clean_weight, masked_weight, agreement_weight: Of the two passes and of the difference.
    """

    criterion: BoxCriterion
    clean_weight: float = 0.6
    masked_weight: float = 0.2
    agreement_weight: float = 0.1

    def __call__(self, candidates: Candidates, target_xywh: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Losses:
        """Losses of one batch.

        Args:
            candidates: 2B rows, the clean pass first.
            target_xywh: [B, 4] in units of the search crop's side.
            pairs: Tokens of the clean and the masked pass at each place of comparison, of equal shape.
        """
        clean, masked = (self.criterion(part, target_xywh) for part in candidates.chunk(2))
        difference = torch.stack([F.mse_loss(a, b) for a, b in pairs]).mean()
        total = self.clean_weight * clean.total + self.masked_weight * masked.total + self.agreement_weight * difference
        passes = {"Loss/total_f": clean.terms["Loss/total"], "Loss/total_m": masked.terms["Loss/total"]}
        overlaps = {"IoU_f": clean.terms["IoU"], "IoU_m": masked.terms["IoU"]}
        return Losses(total, {"Loss/total": total, **passes, "Loss/mse_m": difference, **overlaps})
