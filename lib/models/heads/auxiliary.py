"""Heads that only training uses: quality of a box, kind of the second picture (CSTrack, ICML 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.heads.candidates import Candidates
from lib.models.heads.convolutional import ConvBranches


class ConfidenceHead(ConvBranches):
    """Overlap of the best box with the target, estimated from a centre head's maps.

    Names are those of published checkpoints; weights start as the centre head's do (Xavier).

    Args:
        grid: Side of the maps in cells.
        hidden: Width of the first linear layer.
    """

    def __init__(self, grid: int, hidden: int = 512) -> None:
        super().__init__((5, 16, 8, 4, 2), {"ctr": 1})
        self.fc1, self.fc2 = nn.Linear(grid * grid, hidden), nn.Linear(hidden, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, candidates: Candidates) -> Tensor:
        """Expected overlap of the best boxes with the target.

        Args:
            candidates: Of a centre head.

        Returns:
            [B, 1] in 0..1.
        """
        names = ("score_map", "size_map", "offset_map")
        x = self.branch("ctr", torch.cat([candidates.maps[name] for name in names], dim=1))
        return self.fc2(F.relu(self.fc1(x.flatten(1)))).sigmoid()


class TaskHead(nn.Module):
    """Modality of the second picture, classified from one token; names are those of published checkpoints.

    Args:
        width: Channels of the token.
        classes: Number of modalities.
        hidden: Width of the hidden layers.
        dropout: Rate in training.
    """

    def __init__(self, width: int, classes: int = 4, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, token: Tensor) -> Tensor:
        """token [B, C] -> logits [B, classes]."""
        x = self.dropout(F.relu(self.fc1(token)))
        return self.fc3(self.dropout(F.relu(self.fc2(x))))
