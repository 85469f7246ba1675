"""Objective of OSTrack: frame-level losses, with fewer candidates kept as training goes on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lib.data import Batch
from lib.methods.ostrack.config import OSTrackConfig, OSTrackTrain
from lib.methods.ostrack.network import OSTrack
from lib.models.layers import keep_rate
from lib.objectives import BoxCriterion, Losses, Progress


@dataclass(frozen=True)
class CESchedule:
    """Keep rate of candidate elimination: 1 to `ce_start_epoch`, then over `ce_warm_epoch` epochs down to its ratio."""

    ce_start_epoch: int
    ce_warm_epoch: int
    ce_keep_ratio: float

    @classmethod
    def from_config(cls, train: OSTrackTrain, network: OSTrack) -> CESchedule | None:
        """With TRAIN's epochs; None for a network that eliminates nothing."""
        ratios = list(network.backbone.keep_ratio.values())
        return cls(train.ce_start_epoch, train.ce_warm_epoch, ratios[0]) if ratios else None

    def keep_rate(self, epoch: int) -> float:
        """The rate of an epoch (from 1)."""
        return keep_rate(epoch, self.ce_start_epoch, self.ce_warm_epoch, self.ce_keep_ratio)


class OSTrackObjective:
    """Losses of one template and one search region per sample.

    Args:
        criterion: of the network's maps.
        network: whose template masks are used.
        schedule: of candidate elimination; None for a network without.
    """

    def __init__(self, criterion: BoxCriterion, network: OSTrack, schedule: CESchedule | None = None) -> None:
        self.criterion = criterion
        self.template_mask = network.template_mask
        self.schedule = schedule

    @classmethod
    def from_config(cls, config: OSTrackConfig, network: OSTrack) -> OSTrackObjective:
        """With TRAIN's weights and epochs."""
        schedule = CESchedule.from_config(config.train, network)
        return cls(BoxCriterion.from_config(config.train), network, schedule)

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        rate = None if self.schedule is None else self.schedule.keep_rate(progress.epoch)
        mask = self.template_mask(batch.template_boxes[:, 0])
        output = network(batch.template[:, 0], batch.search[:, 0], mask, rate)
        return self.criterion(output.candidates, batch.search_boxes[:, 0])
