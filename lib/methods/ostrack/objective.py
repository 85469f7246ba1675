"""Objectives of OSTrack: frame-level losses under candidate elimination by a schedule, and those of a mask head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data import Batch, cxcywh_to_xyxy
from lib.methods.ostrack.config import OSTrackConfig
from lib.methods.ostrack.network import OSTrack
from lib.models.layers import keep_rate
from lib.models.losses import dice_loss
from lib.objectives import BoxCriterion, Losses, Progress


class OSTrackObjective:
    """Losses of one template and one search region per sample (OSTrack, sec. 3.4).

    Args:
        config: Its TRAIN section has the weights of the losses and the epochs of candidate elimination.
        network: Whose template masks and elimination ratio are used.
    """

    def __init__(self, config: OSTrackConfig, network: OSTrack) -> None:
        self.criterion = BoxCriterion.from_config(config.train)
        self.train, self.template_mask = config.train, network.template_mask
        self.keep_ratio = next(iter(network.backbone.keep_ratio.values()), None)

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        output = network(*self.inputs(batch, progress.epoch))
        return self.criterion(output.candidates, batch.search_boxes[:, 0])

    def inputs(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor, Tensor | None, float | None]:
        """Arguments of the network.

        Args:
            batch: Its first template and search region are used.
            epoch: From 1.

        Returns:
            Template, search region, template mask, keep rate; see `OSTrack.forward`.
        """
        mask = self.template_mask(batch.template_boxes[:, 0])
        return batch.template[:, 0], batch.search[:, 0], mask, self.keep_rate(epoch)

    def keep_rate(self, epoch: int) -> float | None:
        """Share of candidates that an elimination keeps in an epoch (from 1); None: the network eliminates nothing.

        1 to CE_START_EPOCH, then over CE_WARM_EPOCH epochs down to the network's ratio.
        """
        if self.keep_ratio is None:
            return None
        return keep_rate(epoch, self.train.ce_start_epoch, self.train.ce_warm_epoch, self.keep_ratio)


class MaskObjective:
    """Binary cross-entropy and Dice loss of the mask head; the tracker runs without a graph.

    A mask is drawn for the box that the tracker finds, as in tracking; a sample whose mask is unknown adds no loss.
    """

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        assert isinstance(network, OSTrack)
        assert network.mask_head is not None
        with torch.no_grad():
            features = network.search_feature(batch.template, batch.search, batch.template_boxes)
            boxes = cxcywh_to_xyxy(network.box_head(features).best_boxes())
        logits = network.mask_head(features, boxes, batch.search[:, 0]).float()
        truth = batch.extras["search_masks"][:, 0].to(logits) / 255
        logits = F.interpolate(logits[:, None], size=truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=(1, 2))
        known = batch.extras["has_masks"].to(logits)
        entropy, dice = ((x * known).sum() / known.sum().clamp(min=1) for x in (entropy, dice_loss(logits, truth)))
        total = entropy + dice
        return Losses(total, {"Loss/total": total, "Loss/entropy": entropy, "Loss/dice": dice})
