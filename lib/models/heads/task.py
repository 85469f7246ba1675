"""Which kind of second picture a network looks at, told from one token (CSTrack, ICML 2025)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class TaskHead(nn.Module):
    """Three linear layers; names `fc1` .. `fc3` are those of published checkpoints."""

    def __init__(self, width: int, classes: int = 4, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, token: Tensor) -> Tensor:
        """token [B, C] -> logits [B, classes]."""
        x = self.dropout(F.relu(self.fc1(token)))
        return self.fc3(self.dropout(F.relu(self.fc2(x))))
