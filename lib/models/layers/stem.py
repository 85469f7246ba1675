"""From pictures to tokens."""

from __future__ import annotations

import itertools

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row-major (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, (H / patch) * (W / patch), width]."""
        return self.proj(image).flatten(2).transpose(1, 2)


class ConvStem(nn.Module):
    """Overlapping 3 x 3 convolutions of stride 2 down to the patch grid (Xiao et al., NeurIPS 2021).

    A small network that starts from random weights learns to match template and search region much sooner with it:
    patches that do not overlap look different wherever the target lies on the grid.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        halvings = patch.bit_length() - 1
        if patch != 2**halvings or halvings < 1:
            raise ValueError(f"a convolutional stem needs a stride that is a power of 2, not {patch}")
        widths = [3, *(max(8, width >> i) for i in range(halvings - 1, -1, -1))]
        self.proj = nn.Sequential(
            *(self._halve(a, b) for a, b in itertools.pairwise(widths)), nn.Conv2d(width, width, 1)
        )

    @staticmethod
    def _halve(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, (H / patch) * (W / patch), width]."""
        return self.proj(image).flatten(2).transpose(1, 2)
