"""The contract of an objective: how a network learns from one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn


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


@dataclass(frozen=True)
class WeightedLosses:
    """Base of weighted sums of losses; subclasses are dataclasses whose weights have the names of TRAIN's keys."""

    @classmethod
    def from_config(cls, train: Any, **given: Any) -> Self:
        """An instance by TRAIN's keys of the same names; `given` goes before them, other fields keep their defaults."""
        values = {f.name: getattr(train, f.name) for f in fields(cls) if hasattr(train, f.name)}
        return cls(**{**values, **given})


class Objective(Protocol):
    """One way to learn: frame level, self-distillation, teacher and student, clip level, sequence level.

    `batch` is what the loader gives: a `lib.data.types.Batch`, on the network's device and normalised, unless the
    objective takes something else apart by itself (`SplittingObjective`). The same object serves validation (the loop
    sets eval mode and switches gradients off).
    """

    def __call__(self, network: nn.Module, batch: Any, progress: Progress) -> Losses: ...


@runtime_checkable
class SplittingObjective(Protocol):
    """An objective that turns a batch into several, each with a backward pass of its own; their gradients add up.

    Sequence-level training explores with the batch in `split` (which runs without gradients) and learns from the parts.
    keeps_eval_mode: the network stays in eval mode while it learns.
    """

    keeps_eval_mode: bool

    def split(self, network: nn.Module, batch: Any, progress: Progress) -> Sequence[Any]: ...
