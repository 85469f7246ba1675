"""Objective of CSTrack: the box in every search frame, the modality of the sample, the overlap of the box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data import Batch, Modality, soft_masks
from lib.device import to_device
from lib.methods.cstrack.config import CSTrackConfig
from lib.methods.cstrack.network import CSTrack, CSTrackOutput
from lib.objectives import BoxCriterion, Losses, Progress, WeightedLosses

TASKS = {Modality.RGB: 0, Modality.RGBT: 1, Modality.RGBE: 2, Modality.RGBD: 3}
"""Classes of the task head in published checkpoints."""


@dataclass(frozen=True)
class CSTrackCriterion(WeightedLosses):
    """Box losses of every search frame, cross-entropy of the modality, squared error of the confidence.

    The confidence learns the overlap; the box learns through it too, as published.
    """

    boxes: BoxCriterion
    task_weight: float = 1.0
    confidence_weight: float = 1.0

    def __call__(self, output: CSTrackOutput, targets_xywh: Tensor, tasks: Tensor) -> Losses:
        """Losses of one batch.

        Args:
            output: Of Ns * B search regions, frame-major.
            targets_xywh: [Ns * B, 4] in units of the crop's side, frame-major.
            tasks: [B] int64, classes of the modalities; see `TASKS`.
        """
        losses, overlap = self.boxes.compare(output.candidates, targets_xywh)
        repeated = tasks.repeat(len(targets_xywh) // len(tasks))
        task = F.cross_entropy(output.class_logits, repeated)
        confidence = F.mse_loss(output.confidence.squeeze(1), overlap)
        total = losses.total + self.task_weight * task + self.confidence_weight * confidence
        terms = {**losses.terms, "Loss/total": total, "Loss/task": task, "Loss/confidence": confidence}
        return Losses(total, terms)


class CSTrackObjective:
    """Losses of two templates and one or more search frames per sample; see `CSTrack.forward`."""

    def __init__(self, config: CSTrackConfig, network: CSTrack) -> None:
        boxes = BoxCriterion.from_config(config.train)
        self.criterion = CSTrackCriterion.from_config(config.train, boxes=boxes)
        self.size, self.stride = network.backbone.template_size, network.backbone.stride
        self.tasks = torch.tensor([TASKS[modality] for modality in Modality])

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        output = network(batch.template, batch.search, self.foreground_masks(batch.template_boxes))
        targets = batch.search_boxes.transpose(0, 1).flatten(0, 1)
        return self.criterion(output, targets, to_device(self.tasks, batch.modality.device)[batch.modality])

    def foreground_masks(self, template_boxes: Tensor) -> Tensor:
        """Shares of the template's cells that the target covers.

        Args:
            template_boxes: [B, Nt, 4] x, y, w, h in units of the template crop's side.

        Returns:
            [B, Nt, Nz] in 0..1.
        """
        return soft_masks(template_boxes.flatten(0, 1), self.size, self.stride).unflatten(0, template_boxes.shape[:2])
