"""A Siamese correlation network small enough to be read in one breath."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.models.heads import Candidates, CenterHead


class Toy(nn.Module):
    """One strided convolution for both regions; the template's mean feature weighs the search feature."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 8, stride=8)
        self.box_head = CenterHead(2 * channels, 32)

    def encode_template(self, template: Tensor) -> Tensor:
        """template [B, 3, T, T] -> [B, 1, C]."""
        return self.stem(template).flatten(2).mean(dim=2)[:, None]

    def locate(self, template: Tensor, search: Tensor) -> Candidates:
        """template [B, 1, C], search [B, 3, S, S]."""
        feature = self.stem(search)
        weighed = feature * template.transpose(1, 2)[..., None]
        return self.box_head(torch.cat([feature, weighed], dim=1))

    def forward(self, template: Tensor, search: Tensor) -> Candidates:
        return self.locate(self.encode_template(template), search)
