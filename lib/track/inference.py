"""How a tracker's network is to be computed; what `Tracker.prepare` is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.data import Frame
from lib.models.engines import TORCH


@dataclass(frozen=True)
class CalibrationClip:
    """A target in a few frames, to see which values a network's layers take.

    frames: the first one shows the target at boxes_xywh[0]. boxes_xywh: [N, 4] float64, image pixels, one per frame.
    """

    frames: Sequence[Frame]
    boxes_xywh: Tensor


@dataclass(frozen=True)
class Inference:
    """dtype: number format of the network's products. compiled: hand the network to `torch.compile`.

    engine: who computes; see `lib.models.engines`. clips: what an engine in 8 bits is calibrated on.
    """

    dtype: torch.dtype = torch.float32
    compiled: bool = False
    engine: str = TORCH
    clips: Sequence[CalibrationClip] = ()


PLAIN = Inference()
"""PyTorch in float32, not compiled."""
