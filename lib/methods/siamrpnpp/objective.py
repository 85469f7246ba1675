"""Objective of SiamRPN++: scores and boxes of some anchors, from one template and one search region per sample."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lib.data import Batch
from lib.methods.siamrpnpp.config import CORRELATED, STRIDE, SiamRPNConfig, cells_of
from lib.models.heads import AnchorMatcher, AnchorTargets, Candidates
from lib.models.losses import balanced_cross_entropy, weighted_l1
from lib.objectives import Losses, Progress


@dataclass(frozen=True)
class AnchorCriterion:
    """Weighted sum of the balanced cross-entropy of anchors and of the L1 distance of matched ones (PySOT).

    Attributes:
        matcher: Which anchors learn what, drawn for every batch.
        search_size: Side of the search region in pixels.
        cls_weight, loc_weight: Of the two losses.
    """

    matcher: AnchorMatcher
    search_size: int
    cls_weight: float = 1.0
    loc_weight: float = 1.2

    @classmethod
    def from_config(cls, config: SiamRPNConfig) -> AnchorCriterion:
        """By TRAIN's weights and thresholds, for search regions of DATA.SEARCH.SIZE."""
        t, side = config.train, config.data.search.size
        thresholds = t.thr_high, t.thr_low, t.pos_num, t.total_num, t.neg_num
        matcher = AnchorMatcher(config.model.anchors, STRIDE, cells_of(side) - CORRELATED, side // 2, *thresholds)
        return cls(matcher, side, t.cls_weight, t.loc_weight)

    def targets(self, boxes_xywh: Tensor, negative: Tensor | None = None) -> AnchorTargets:
        """Targets of the anchors.

        Args:
            boxes_xywh: [B, 4] in units of the search region's side.
            negative: [B] bool, see `AnchorMatcher`.
        """
        return self.matcher(boxes_xywh * self.search_size, negative)

    def __call__(self, candidates: Candidates, targets: AnchorTargets) -> Losses:
        """Losses of one batch.

        Args:
            candidates: Of B search regions, with ``cls`` and ``loc``.
            targets: What `targets` gave.
        """
        cls = balanced_cross_entropy(candidates.maps["cls"], targets.labels)
        boxes = self.box_losses(candidates, targets)
        total = self.cls_weight * cls + boxes.total
        return Losses(total, {"Loss/total": total, "Loss/cls": cls, **boxes.terms})

    def box_losses(self, candidates: Candidates, targets: AnchorTargets) -> Losses:
        """The box part alone.

        Args:
            candidates, targets: See `__call__`.
        """
        loc = weighted_l1(candidates.maps["loc"], targets.changes, targets.weights)
        return Losses(self.loc_weight * loc, {"Loss/loc": loc})


class SiamRPNObjective:
    """Losses of all pairs; negative pairs have background scores alone (SiamRPN++; DaSiamRPN, ECCV 2018)."""

    def __init__(self, config: SiamRPNConfig, network: nn.Module) -> None:
        self.criterion = AnchorCriterion.from_config(config)

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        candidates = network(batch.template[:, 0], batch.search[:, 0])
        return self.criterion(candidates, self.criterion.targets(batch.search_boxes[:, 0], batch.negative))


@dataclass(frozen=True)
class AnchorBoxLoss:
    """Auxiliary loss of anchors in sequence-level training: boxes alone, since scores learn by the policy."""

    criterion: AnchorCriterion

    def __call__(self, candidates: Candidates, targets_xywh: Tensor) -> Losses:
        return self.criterion.box_losses(candidates, self.criterion.targets(targets_xywh))
