"""The contract of an objective: how a network learns from one batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from lib.data.types import Batch


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training is. `epoch` counts from 1, `step` (in the epoch) from 0."""

    epoch: int
    epochs: int
    step: int = 0
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Losses:
    """total: scalar to be differentiated. terms: named scalars for the log, detached, unweighted (``Loss/giou``)."""

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """One way to learn: frame level, self-distillation, teacher and student, clip level, sequence level.

    `network` is called through its `forward`, so that data-parallel wrappers see the call. `batch` is on the network's
    device and normalised. The same object serves validation (the loop sets eval mode and switches gradients off).
    """

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses: ...
