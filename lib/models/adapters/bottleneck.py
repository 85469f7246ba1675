"""Bottleneck adapter (Houlsby et al., ICML 2019), without a skip connection of its own."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """Down to `hidden` channels, exact GELU, up again; names `D_fc1` and `D_fc2` as in published checkpoints."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(width, hidden)
        self.D_fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., width]."""
        return self.D_fc2(F.gelu(self.D_fc1(x)))
