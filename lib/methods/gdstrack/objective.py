"""Objective of GDSTrack: the box of a corner head, and in stage 2 the noise that the diffusion takes away."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lib.data import Batch
from lib.methods.gdstrack.config import GDSTrackConfig
from lib.models.fusion import DiffusionDraws
from lib.objectives import BoxCriterion, Losses, Progress


class GDSTrackObjective:
    """Losses of the first search frame in stage 1, of the second in stage 2 (GDSTrack, sec. 3.4).

    Attributes:
        criterion: Of the box.
        diffusion_weight: Of the diffusion's loss.
        draws: Random numbers of the diffusion for the next batch; None: fresh ones.
    """

    draws: DiffusionDraws | None = None

    def __init__(self, config: GDSTrackConfig, network: nn.Module) -> None:
        self.criterion = BoxCriterion.from_config(config.train, focal_weight=0.0, clamp_targets=False)
        self.diffusion_weight = config.train.diffusion_weight

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        output: Any = network(batch.template[:, 0], batch.search, self.draws)
        in_stage2 = output.diffusion_loss is not None
        target = inclusive(batch.search_boxes[:, 1 if in_stage2 else 0], batch.search.shape[-1])
        losses = self.criterion(output.candidates, target)
        if not in_stage2:
            return losses
        total = losses.total + self.diffusion_weight * output.diffusion_loss
        return Losses(total, {**losses.terms, "Loss/total": total, "Loss/diffusion": output.diffusion_loss})


def inclusive(boxes_xywh: Tensor, size: int) -> Tensor:
    """Boxes up to their last pixel, where published training has their second corner.

    Args:
        boxes_xywh: [B, 4] in units of the crop's side.
        size: Side of the crop in pixels.
    """
    return torch.cat([boxes_xywh[..., :2], boxes_xywh[..., 2:] - 1 / size], dim=-1)
