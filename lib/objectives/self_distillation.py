"""Self-distillation: a network learns from a sample as it is and with hidden patches, and to agree with itself.

SDSTrack (Hou et al., CVPR 2024, sec. 3.3). Nothing is detached and there is no second network: both passes have
frame-level losses, and their tokens at each fusion are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.models.heads import Candidates
from lib.objectives.base import Losses
from lib.objectives.frame_level import BoxCriterion


@dataclass(frozen=True)
class SelfDistillation:
    """Weighted sum of the losses of the clean and the masked pass, and of their mean squared difference."""

    criterion: BoxCriterion
    clean_weight: float = 0.6
    masked_weight: float = 0.2
    agreement_weight: float = 0.1

    @classmethod
    def from_config(cls, train: Any) -> SelfDistillation:
        """With TRAIN's keys of the same names, and its box losses."""
        criterion = BoxCriterion.from_config(train)
        return cls(criterion, train.clean_weight, train.masked_weight, train.agreement_weight)

    def __call__(self, candidates: Candidates, target_xywh: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Losses:
        """Losses of one batch.

        Args:
            candidates: 2B rows, the clean pass first.
            target_xywh: [B, 4] in units of the search crop's side.
            pairs: tokens of the clean and the masked pass at each place of comparison, of equal shape.
        """
        clean, masked = (self.criterion(part, target_xywh) for part in candidates.chunk(2))
        difference = torch.stack([F.mse_loss(a, b) for a, b in pairs]).mean()
        total = self.clean_weight * clean.total + self.masked_weight * masked.total + self.agreement_weight * difference
        return Losses(
            total,
            {
                "Loss/total": total.detach(),
                "Loss/total_f": clean.terms["Loss/total"],
                "Loss/total_m": masked.terms["Loss/total"],
                "Loss/mse_m": difference.detach(),
                "IoU_f": clean.terms["IoU"],
                "IoU_m": masked.terms["IoU"],
            },
        )
