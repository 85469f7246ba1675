"""Frame-level learning: losses of the box and the score map of one search region."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from lib.config import Train
from lib.data import cxcywh_to_xyxy, xywh_to_xyxy
from lib.models.heads import Candidates
from lib.models.losses import focal_loss, gaussian_heatmap, giou_loss
from lib.objectives.base import Losses


@dataclass(frozen=True)
class BoxCriterion:
    """Weighted sum of GIoU loss, mean absolute corner error, and focal loss of the score map (OSTrack, sec. 3.4).

    A head without size and offset maps (corner head) has no centre map to learn; its focal loss is left out, as it is
    for the weight 0.
    """

    giou_weight: float = 2.0
    l1_weight: float = 5.0
    focal_weight: float = 1.0

    @classmethod
    def from_config(cls, train: Train, focal_weight: float = 1.0) -> BoxCriterion:
        """With TRAIN.GIOU_WEIGHT and L1_WEIGHT."""
        return cls(train.giou_weight, train.l1_weight, focal_weight)

    def __call__(self, candidates: Candidates, target_xywh: Tensor) -> Losses:
        """target_xywh: [B, 4] in units of the search crop's side."""
        return self.compare(candidates, target_xywh)[0]

    def compare(self, candidates: Candidates, target_xywh: Tensor) -> tuple[Losses, Tensor]:
        """The losses, and the overlap [B] of the boxes with their targets, through which gradients may flow."""
        predicted = cxcywh_to_xyxy(candidates.best_boxes())
        target = xywh_to_xyxy(target_xywh).clamp(0.0, 1.0)
        giou, iou = giou_loss(predicted, target)
        l1 = F.l1_loss(predicted, target)
        total = self.giou_weight * giou + self.l1_weight * l1
        terms = {"Loss/giou": giou, "Loss/l1": l1}
        if self.focal_weight and "size_map" in candidates.maps:
            score_map = candidates.maps["score_map"]
            heatmap = gaussian_heatmap(target_xywh, score_map.shape[-1])
            location = focal_loss(score_map, heatmap)
            total = total + self.focal_weight * location
            terms["Loss/location"] = location
        terms = {"Loss/total": total, **terms, "IoU": iou.mean()}
        return Losses(total, {name: value.detach() for name, value in terms.items()}), iou
