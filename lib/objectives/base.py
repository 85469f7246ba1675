"""The contract of an objective: the losses of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

W = TypeVar("W", bound="WeightedLosses")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training is.

    Attributes:
        epoch, epochs: Number of the epoch, from 1, and of all epochs.
        step, steps: Number of the step in the epoch, from 0, and of the epoch's steps.
    """

    epoch: int
    epochs: int
    step: int = 0
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of one batch.

    Attributes:
        total: Scalar to be differentiated.
        terms: Scalars for the log by name (``Loss/giou``), without their weights; the training step detaches them.
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightedLosses:
    """Base of weighted sums of losses; subclasses are dataclasses whose weights have the names of TRAIN's keys."""

    @classmethod
    def from_config(cls: type[W], train: Any, **given: Any) -> W:
        """An instance by TRAIN's keys of the same names; `given` goes before them, other fields keep their defaults."""
        values = {f.name: getattr(train, f.name) for f in fields(cls) if hasattr(train, f.name)}
        return cls(**{**values, **given})


class Objective(Protocol):
    """One way to learn: frame level, self-distillation, teacher and student, clip level, sequence level.

    The same object serves validation (the loop sets eval mode and switches gradients off).
    """

    def __call__(self, network: nn.Module, batch: Any, progress: Progress) -> Losses:
        """Losses of one batch.

        Args:
            network: The one that learns, possibly in a wrapper of several processes, whose `forward` is to be called.
            batch: What the loader gives, a `lib.data.Batch` on the network's device and normalised; a part of
                `SplittingObjective.split`, where the objective has it.
            progress: Where the training is.
        """


@runtime_checkable
class SplittingObjective(Protocol):
    """An objective that turns a batch into several, each with a backward pass of its own; their gradients add up.

    Sequence-level training explores with the batch in `split` and learns from the parts.

    Attributes:
        keeps_eval_mode: The network stays in eval mode while it learns.
    """

    keeps_eval_mode: bool

    def split(self, network: nn.Module, batch: Any, progress: Progress) -> Sequence[Any]:
        """The parts of a batch, each of which `__call__` takes in its place.

        Runs without gradients; network, batch, progress: see `Objective`.
        """


@runtime_checkable
class PicturingObjective(Protocol):
    """An objective that can show what it learns from; the log has its pictures at the end of every epoch."""

    def pictures(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Pictures of a few samples, the same ones at every call with the same network and batch.

        Args:
            network, batch: See `Objective`; the network is in evaluation mode.

        Returns:
            Name -> [B, 3, H, W] in 0..1.
        """
