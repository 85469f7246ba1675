"""How OSTrack learns: frame-level losses, with fewer and fewer candidates kept as training goes on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lib.data import Batch
from lib.methods.ostrack.network import OSTrack
from lib.models.layers import keep_rate
from lib.objectives import BoxCriterion, Losses, Progress


@dataclass(frozen=True)
class Elimination:
    """Keep rate over the epochs: 1 until `start`, then over `warm` epochs down to `base`."""

    start: int
    warm: int
    base: float

    def rate(self, epoch: int) -> float:
        """What the network is told in an epoch (from 1)."""
        return keep_rate(epoch, self.start, self.warm, self.base)


class OSTrackObjective:
    """One template and one search region per sample.

    elimination: None for a network without candidate elimination.
    template_mask: boxes [B, 4] in units of the template -> mask or None; the network's own method.
    """

    def __init__(self, criterion: BoxCriterion, network: OSTrack, elimination: Elimination | None = None) -> None:
        self.criterion = criterion
        self.template_mask = network.template_mask
        self.elimination = elimination

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        rate = None if self.elimination is None else self.elimination.rate(progress.epoch)
        mask = self.template_mask(batch.template_boxes[:, 0])
        output = network(batch.template[:, 0], batch.search[:, 0], mask, rate)
        return self.criterion(output.maps, batch.search_boxes[:, 0])
