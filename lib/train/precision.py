"""Number formats of a training step: fp32, or autocast to bf16 or fp16, and clipping that is right in each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.config import Train
from lib.objectives import Progress

MAX_OVERFLOWS = 50


class NonFiniteLossError(RuntimeError):
    """A loss or gradient that is not finite (or above TRAIN.MAX_LOSS); the parameters were not touched by it."""

    @classmethod
    def at(cls, what: str, progress: Progress, terms: Mapping[str, float], names: Sequence[str]) -> NonFiniteLossError:
        """`what` is "the loss is not finite", for instance; `names` are those of the samples."""
        shown = ", ".join(f"{k} {v:g}" for k, v in terms.items()) or "none"
        samples = ", ".join(names) or "unnamed"
        return cls(f"{what} in epoch {progress.epoch}, step {progress.step}; terms: {shown}; samples: {samples}")


class NonFiniteWeightsError(RuntimeError):
    """A weight that is not finite, found before a checkpoint was written."""


class LossScaleError(RuntimeError):
    """fp16 gradients that overflow at any scale."""


def precision_name(train: Train) -> str:
    """``fp32``, ``bf16`` or ``fp16``; the published key `AMP: true` means fp16."""
    return "fp16" if train.amp and train.precision == "fp32" else train.precision


class Precision:
    """Autocast, loss scale and clipping for one of ``fp32``, ``bf16``, ``fp16``.

    Attributes:
        overflows: Steps that were skipped because an fp16 gradient overflowed.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.overflows = 0
        self._in_a_row = 0
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass."""
        if self.name == "fp32":
            return nullcontext()
        kind = torch.bfloat16 if self.name == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=kind)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        self._scaler.scale(loss).backward()

    def clip(self, optimizer: Optimizer, parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
        """Clip to `max_norm` (0: not at all); returns the global norm of the true, unscaled gradients before that."""
        self._scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, max_norm if max_norm > 0 else math.inf)

    def step(self, optimizer: Optimizer, grad_norm: float) -> None:
        """Update the parameters, or count an overflow if fp16 gradients are not finite.

        Raises:
            LossScaleError: More than `MAX_OVERFLOWS` steps in a row overflowed.
        """
        if self.name != "fp16":
            optimizer.step()
            return
        self._scaler.step(optimizer)
        self._scaler.update()
        if math.isfinite(grad_norm):
            self._in_a_row = 0
            return
        self.overflows += 1
        self._in_a_row += 1
        if self._in_a_row > MAX_OVERFLOWS:
            raise LossScaleError(
                f"fp16 gradients overflowed in {self._in_a_row} steps in a row; TRAIN.PRECISION bf16 or fp32 will help"
            )

    def skip(self) -> None:
        """End a step after `clip` without an update."""
        if self.name == "fp16":
            self._scaler.update()

    def state(self) -> dict[str, Any]:
        """Plain values for the training state."""
        return {"scaler": self._scaler.state_dict(), "overflows": self.overflows, "in_a_row": self._in_a_row}

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        if state["scaler"] and self.name == "fp16":
            self._scaler.load_state_dict(state["scaler"])
        self.overflows, self._in_a_row = state["overflows"], state["in_a_row"]
