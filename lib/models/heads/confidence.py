"""How good a box is, told from a centre head's maps (CSTrack, ICML 2025): a training signal, trackers do not ask it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.heads.boxes import BoxMaps
from lib.models.heads.branches import conv_bn_relu


class ConfidenceHead(nn.Module):
    """grid: side of the maps. Names are those of published checkpoints. Xavier weights, as the centre head has them."""

    WIDTHS = (5, 16, 8, 4, 2)

    def __init__(self, grid: int, hidden: int = 512) -> None:
        super().__init__()
        for i in range(4):
            self.add_module(f"conv{i + 1}_ctr", conv_bn_relu(self.WIDTHS[i], self.WIDTHS[i + 1]))
        self.conv5_ctr = nn.Conv2d(self.WIDTHS[-1], 1, 1)
        self.fc1, self.fc2 = nn.Linear(grid * grid, hidden), nn.Linear(hidden, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, maps: BoxMaps) -> Tensor:
        """Maps of score, size and offset -> expected overlap with the target [B, 1], in 0..1."""
        if maps.size_map is None or maps.offset_map is None:
            raise ValueError("confidence is told from maps of score, size and offset, which this head does not give")
        x = torch.cat([maps.score_map, maps.size_map, maps.offset_map], dim=1)
        for i in range(1, 6):
            x = self.get_submodule(f"conv{i}_ctr")(x)
        return self.fc2(F.relu(self.fc1(x.flatten(1)))).sigmoid()
