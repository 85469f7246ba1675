"""Frame-level learning where every cell has a score and a box of its own (TransT, CVPR 2021, sec. 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.data import cxcywh_to_xyxy, xywh_to_cxcywh
from lib.models.heads import BACKGROUND, TARGET, Candidates
from lib.models.losses import cells_under, generalised_iou
from lib.objectives.base import Losses


@dataclass(frozen=True)
class CellCriterion:
    """Weighted sum of the cross-entropy of all cells, and of L1 and GIoU loss of the boxes of matched ones.

    Cells under the target are matched.

    Attributes:
        giou_weight, l1_weight, ce_weight: of the three losses.
        background_weight: of a background cell in the cross-entropy, against 1 of a matched one.
        wrap_matches: see `cells_under`.
    """

    giou_weight: float = 2.0
    l1_weight: float = 5.0
    ce_weight: float = 8.334
    background_weight: float = 0.0625
    wrap_matches: bool = False

    @classmethod
    def from_config(cls, train: Any) -> CellCriterion:
        """With TRAIN's keys of the same names."""
        return cls(**{f.name: getattr(train, f.name) for f in fields(cls)})

    def __call__(self, candidates: Candidates, target_xywh: Tensor) -> Losses:
        """target_xywh: [B, 4] in units of the search crop's side."""
        matched = self.matched(candidates.boxes, target_xywh)
        entropy = self.score_loss(candidates, matched)
        losses = self.box_losses(candidates.boxes, target_xywh, matched)
        total = self.ce_weight * entropy + losses.total
        terms = {"Loss/total": total.detach(), "Loss/ce": entropy.detach(), **losses.terms}
        return Losses(total, terms)

    def matched(self, boxes: Tensor, target_xywh: Tensor) -> Tensor:
        """[B, N] bool: the cells under their sample's target; boxes: [B, N, 4]."""
        return cells_under(target_xywh, isqrt(boxes.shape[1]), self.wrap_matches)

    def score_loss(self, candidates: Candidates, matched: Tensor) -> Tensor:
        """Mean cross-entropy over all cells, weighted by class."""
        labels = torch.where(matched, TARGET, BACKGROUND)
        logits = candidates.maps["logits"]
        weight = logits.new_tensor([1.0, self.background_weight])
        return F.cross_entropy(logits.transpose(1, 2), labels, weight)

    def box_losses(self, boxes: Tensor, target_xywh: Tensor, matched: Tensor) -> Losses:
        """The box part alone: means over all matched cells of the batch, 0 where there is none.

        boxes: [B, N, 4] cx, cy, w, h in units of the search crop's side.
        """
        rows = matched.nonzero()[:, 0]
        count = max(1, len(rows))
        predicted = boxes[matched]
        target = xywh_to_cxcywh(target_xywh)[rows].to(predicted)
        l1 = (predicted - target).abs().sum() / count
        overlap, iou = generalised_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
        giou = (1 - overlap).sum() / count
        total = self.l1_weight * l1 + self.giou_weight * giou
        terms = {"Loss/bbox": l1, "Loss/giou": giou, "IoU": iou.sum() / count}
        return Losses(total, {name: value.detach() for name, value in terms.items()})
