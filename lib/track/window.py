"""Windows that favour small displacement."""

from __future__ import annotations

import torch
from torch import Tensor


def hann2d(size: int) -> Tensor:
    """[size, size] float32 outer product of Hann windows without their zeros: 0.5 (1 - cos(2 pi i / (size + 1)))."""
    steps = torch.arange(1, size + 1, dtype=torch.float32)
    one = 0.5 * (1 - torch.cos((2 * torch.pi / (size + 1)) * steps))
    return one[:, None] * one[None, :]


def hanning2d(size: int) -> Tensor:
    """[size, size] float32 outer product of symmetric Hann windows with zeros at the border (numpy's `hanning`)."""
    one = torch.hann_window(size, periodic=False, dtype=torch.float64)
    return (one[:, None] * one[None, :]).float()
