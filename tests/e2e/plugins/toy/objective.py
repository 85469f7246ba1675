"""Frame-level losses, as they are in the library."""

from __future__ import annotations

from torch import nn

from lib.data import Batch
from lib.objectives import BoxCriterion, Losses, Progress


class ToyObjective:
    def __init__(self, criterion: BoxCriterion) -> None:
        self.criterion = criterion

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        return self.criterion(network(batch.template[:, 0], batch.search[:, 0]), batch.search_boxes[:, 0])
