"""How TransT learns: from one template and one search region per sample."""

from __future__ import annotations

from torch import nn

from lib.data import Batch
from lib.objectives import CellCriterion, Losses, Progress


class TransTObjective:
    """Scores and boxes of all cells in every step."""

    def __init__(self, criterion: CellCriterion) -> None:
        self.criterion = criterion

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        cells = network(batch.template[:, 0], batch.search[:, 0])
        return self.criterion(cells, batch.search_boxes[:, 0])
