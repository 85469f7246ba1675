"""Objective of TransT: losses of all cells, from one template and one search region per sample."""

from __future__ import annotations

from torch import nn

from lib.data import Batch
from lib.methods.transt.config import TransTConfig
from lib.objectives import CellCriterion, Losses, Progress


class TransTObjective:
    """Cross-entropy of all cells; L1 and GIoU loss of those under the target (TransT, sec. 3.3)."""

    def __init__(self, config: TransTConfig, network: nn.Module) -> None:
        self.criterion = CellCriterion.from_config(config.train)

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        candidates = network(batch.template[:, 0], batch.search[:, 0])
        return self.criterion(candidates, batch.search_boxes[:, 0])
