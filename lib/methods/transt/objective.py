"""Objective of TransT: losses of all cells, from one template and one search region per sample."""

from __future__ import annotations

from torch import nn

from lib.data import Batch
from lib.methods.transt.config import TransTConfig
from lib.methods.transt.network import TransT
from lib.objectives import CellCriterion, Losses, Progress


class TransTObjective:
    """Cross-entropy of all cells; L1 and GIoU of those under the target."""

    def __init__(self, criterion: CellCriterion) -> None:
        self.criterion = criterion

    @classmethod
    def from_config(cls, config: TransTConfig, network: TransT) -> TransTObjective:
        """With TRAIN's weights."""
        return cls(CellCriterion.from_config(config.train))

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        cells = network(batch.template[:, 0], batch.search[:, 0])
        return self.criterion(cells, batch.search_boxes[:, 0])
