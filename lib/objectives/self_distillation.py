"""Self-distillation: a network sees a sample as it is and with hidden patches, and shall think the same of both.

SDSTrack (Hou et al., CVPR 2024, sec. 3.3). Nothing is detached and there is no second network: both passes are taught
by the frame-level losses, and what they give at each fusion is drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.models.heads import BoxMaps
from lib.objectives.base import Losses
from lib.objectives.frame_level import BoxCriterion


@dataclass(frozen=True)
class SelfDistillation:
    """clean * losses of the clean pass + hidden * losses of the other + agreement * mean squared difference."""

    criterion: BoxCriterion
    clean: float = 0.6
    hidden: float = 0.2
    agreement: float = 0.1

    def __call__(self, maps: BoxMaps, target_xywh: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Losses:
        """maps: 2B rows, the clean pass first. target_xywh: [B, 4] in units of the search crop's side.

        pairs: what the clean and the other pass gave at each place of comparison, of equal shape; averaged over places.
        """
        clean, hidden = (self.criterion(part, target_xywh) for part in maps.chunk(2))
        difference = torch.stack([F.mse_loss(a, b) for a, b in pairs]).mean()
        total = self.clean * clean.total + self.hidden * hidden.total + self.agreement * difference
        return Losses(
            total,
            {
                "Loss/total": total.detach(),
                "Loss/total_f": clean.terms["Loss/total"],
                "Loss/total_m": hidden.terms["Loss/total"],
                "Loss/mse_m": difference.detach(),
                "IoU_f": clean.terms["IoU"],
                "IoU_m": hidden.terms["IoU"],
            },
        )
