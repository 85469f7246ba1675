"""One training step in one place: forward, backward, clip, update; its number format and the means of its terms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lib.config import Train
from lib.data import Rows
from lib.distributed import World
from lib.objectives import Objective, Progress, SplittingObjective

TOTAL = "Loss/total"
MAX_OVERFLOWS = 50


class ObjectiveModule(nn.Module):
    """Network and objective as one module.

    A data-parallel wrapper sees one forward pass per backward pass, however often and through whichever entry points
    the objective calls the network.

    Args:
        network: What is trained.
        objective: One of `lib.objectives`.

    Raises:
        ValueError: The objective has trainable parameters of its own, which no optimiser would get.
    """

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        # Not registered as a child: an objective may hold a frozen teacher, which is not what is trained or saved.
        self._objective = (objective,)
        if isinstance(objective, nn.Module):
            own = {id(p) for p in network.parameters()}
            foreign = [n for n, p in objective.named_parameters() if p.requires_grad and id(p) not in own]
            if foreign:
                raise ValueError(
                    f"the objective has trainable parameters of its own ({', '.join(foreign[:3])}); "
                    "give them to the network, or freeze them"
                )

    def forward(self, batch: Rows, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the objective.

        Args:
            batch: On the device, normalised; a part of a batch for a `SplittingObjective`.
            progress: Position in the training.

        Returns:
            The total loss, a scalar with gradients, and all terms by name, `Loss/total` among them.
        """
        (objective,) = self._objective
        losses = objective(self.network, batch, progress)
        terms = {TOTAL: losses.total, **losses.terms}
        return losses.total, {name: value.detach() for name, value in terms.items()}

    def split(self, batch: Rows, progress: Progress) -> Sequence[Rows]:
        """The parts of a batch that get a backward pass each.

        Args:
            batch: On the device, normalised.
            progress: Position in the training.

        Returns:
            The batch itself, except for a `SplittingObjective`.

        Raises:
            ValueError: The objective gave no part.
        """
        (objective,) = self._objective
        if not isinstance(objective, SplittingObjective):
            return [batch]
        with torch.no_grad():
            parts: Sequence[Rows] = objective.split(self.network, batch, progress)
        if not parts:
            raise ValueError(f"{type(objective).__name__}.split gave no part")
        return parts


@dataclass(frozen=True)
class StepResult:
    """Outcome of one training step.

    Attributes:
        samples: Number of samples of this process.
        grad_norm: Global gradient norm before clipping.
        terms: Means over the step's batches; empty if the step was skipped.
        problem: Reason for which this process had nothing to update with (`TRAIN.ON_NONFINITE: skip`); empty if all
            was well.
        skipped: True in all processes when one of them had a problem.
    """

    samples: int
    grad_norm: float
    terms: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    skipped: bool = False


class TrainStep:
    """Performs training steps in one process, for one phase of the training.

    Attributes:
        module: Network and objective.
        parallel: The same, wrapped for several processes; None in a single one.
        train: The configuration; GRAD_CLIP_NORM 0 stands for no clipping.
        batch_size: Samples of the batch that was last worked on, for the message of a failure.
    """

    def __init__(
        self, module: ObjectiveModule, optimizer: Optimizer, precision: Precision, train: Train, world: World
    ) -> None:
        self.module, self.optimizer, self.precision, self.train, self.world = module, optimizer, precision, train, world
        # Parameters that take no part in a loss (OSTrack keeps two) are found in every step.
        self.parallel = None if world.size == 1 else DistributedDataParallel(module, find_unused_parameters=True)
        self.parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self.batch_size = 0

    def __call__(self, batches: Sequence[Rows], progress: Progress, lr_factor: float) -> StepResult:
        """Update the parameters by the mean gradient of the batches.

        Args:
            batches: On the device, normalised; more than one where gradients are accumulated.
            progress: Position of the first batch.
            lr_factor: Multiplies the base learning rate of every parameter group.

        Raises:
            NonFiniteLossError: A loss (or, but for fp16, a gradient) is not finite and TRAIN.ON_NONFINITE is `raise`;
                the parameters are as they were.
        """
        train, skips = self.train, self.train.on_nonfinite == "skip"
        averager, names, samples = MetricAverager(), [], 0
        problem: NonFiniteLossError | None = None
        buffers = [(b, b.clone()) for b in self.module.buffers()] if skips else []
        # DDP averages over the processes; the sum is that average times their number.
        scale = (self.world.size if train.sum_gradients else 1) / len(batches)
        forward = self.parallel or self.module

        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * lr_factor
        self.optimizer.zero_grad(set_to_none=True)
        for i, batch in enumerate(batches):
            self.batch_size = len(batch)
            samples += len(batch)
            names += batch.names
            with self.precision.autocast():
                parts = self.module.split(batch, progress)
            for j, part in enumerate(parts):
                is_last = i == len(batches) - 1 and j == len(parts) - 1
                # Gradients of several processes meet in the last backward pass of a step only.
                with nullcontext() if is_last or self.parallel is None else self.parallel.no_sync():
                    with self.precision.autocast():
                        total, terms = forward(part, progress)
                    self.precision.backward(total * scale)
                values = to_floats(terms)
                if not math.isfinite(values[TOTAL]) or 0 < train.max_loss < values[TOTAL]:
                    fault = "is above TRAIN.MAX_LOSS" if math.isfinite(values[TOTAL]) else "is not finite"
                    problem = NonFiniteLossError.at(f"the loss {fault}", progress, values, part.names or batch.names)
                    if not skips:
                        raise problem
                averager.add(values, len(part))
        norm = float(self.precision.clip(self.optimizer, self.parameters, train.grad_clip_norm))
        if not math.isfinite(norm) and self.precision.name != "fp16":
            problem = problem or NonFiniteLossError.at(
                "the gradient norm is not finite", progress, averager.means(), names
            )
            if not skips:
                raise problem
        if skips and any(self.world.all_reduce_max(problem is not None)):
            self.precision.skip()
            for buffer, before in buffers:
                buffer.copy_(before)
            return StepResult(samples, norm, problem="" if problem is None else str(problem), skipped=True)
        self.precision.step(self.optimizer, norm)
        return StepResult(samples, norm, averager.means())

    def evaluate(self, batch: Rows, progress: Progress) -> dict[str, float]:
        """The terms of one batch, without gradients.

        Args:
            batch: On the device, normalised.
            progress: Position in the validation.

        Returns:
            Means over the samples of the batch, by name.
        """
        averager = MetricAverager()
        with torch.no_grad(), self.precision.autocast():
            for part in self.module.split(batch, progress):
                _, terms = self.module(part, progress)
                averager.add(to_floats(terms), len(part))
        return averager.means()


def precision_name(train: Train) -> str:
    """``fp32``, ``tf32``, ``bf16`` or ``fp16``; the published key `AMP: true` means fp16."""
    return "fp16" if train.amp and train.precision == "fp32" else train.precision


class Precision:
    """Autocast, loss scale and clipping; on a GPU also the number format of products of float32, for the whole process.

    Args:
        name: What `precision_name` gives.
        device: Where the network is.

    Attributes:
        overflows: Steps that were skipped because an fp16 gradient overflowed.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.overflows = 0
        self._in_a_row = 0
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            torch.backends.cudnn.allow_tf32 |= name == "tf32"

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass."""
        if self.name in ("fp32", "tf32"):
            return nullcontext()
        kind = torch.bfloat16 if self.name == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=kind)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        self._scaler.scale(loss).backward()

    def clip(self, optimizer: Optimizer, parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
        """Clip the gradients.

        Args:
            optimizer: Its gradients are unscaled first.
            parameters: All that it trains.
            max_norm: Largest global norm; 0 for no clipping.

        Returns:
            Scalar, the global norm of the true, unscaled gradients before clipping.
        """
        self._scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, max_norm if max_norm > 0 else math.inf)

    def step(self, optimizer: Optimizer, grad_norm: float) -> None:
        """Update the parameters, or count an overflow if fp16 gradients are not finite.

        Args:
            optimizer: After `clip`.
            grad_norm: What `clip` returned.

        Raises:
            TrainingError: More than `MAX_OVERFLOWS` steps in a row overflowed.
        """
        self._scaler.step(optimizer)  # `optimizer.step()`, but for fp16
        self._scaler.update()
        if math.isfinite(grad_norm):
            self._in_a_row = 0
            return
        self.overflows += 1
        self._in_a_row += 1
        if self._in_a_row > MAX_OVERFLOWS:
            raise TrainingError(
                f"fp16 gradients overflowed in {self._in_a_row} steps in a row; TRAIN.PRECISION bf16 or fp32 will help"
            )

    def skip(self) -> None:
        """End a step after `clip` without an update."""
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """Plain values for the training state."""
        return {"scaler": self._scaler.state_dict(), "overflows": self.overflows, "in_a_row": self._in_a_row}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a training state.

        Args:
            state: What `state` returned; a loss scale is used by fp16 only.
        """
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self.overflows, self._in_a_row = state["overflows"], state["in_a_row"]


class MetricAverager:
    """Means of named values, weighted by the number of samples; a name may be absent from some steps."""

    def __init__(self, states: Iterable[Mapping[str, list[float]]] = ()) -> None:
        """Start from the `state` of other averagers: of earlier steps, or of other processes."""
        self._sums: dict[str, list[float]] = {}
        for state in states:
            for name, (total, weight) in state.items():
                self._count(name, total, weight)

    def _count(self, name: str, total: float, weight: float) -> None:
        entry = self._sums.setdefault(name, [0.0, 0.0])
        entry[0] += total
        entry[1] += weight

    def add(self, values: Mapping[str, float], weight: float) -> None:
        """Count values.

        Args:
            values: By name.
            weight: Number of samples that they are means of.
        """
        for name, value in values.items():
            self._count(name, value * weight, weight)

    def means(self) -> dict[str, float]:
        """The means so far."""
        return {name: total / weight for name, (total, weight) in self._sums.items()}

    def state(self) -> dict[str, list[float]]:
        """Sums and weights, as plain values."""
        return {name: list(entry) for name, entry in self._sums.items()}


def to_floats(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars from the device in one transfer.

    Args:
        terms: Tensors of one element by name; at least one.

    Returns:
        The same names and values.
    """
    joined = torch.cat([t.detach().reshape(1) for t in terms.values()])
    return dict(zip(terms, joined.tolist(), strict=True))


class TrainingError(RuntimeError):
    """A failure in the middle of a training that its message explains, so that no traceback is needed."""


class NonFiniteLossError(TrainingError):
    """A loss or gradient that is not finite (or above TRAIN.MAX_LOSS); the parameters were not touched by it."""

    @classmethod
    def at(cls, what: str, progress: Progress, terms: Mapping[str, float], names: Sequence[str]) -> NonFiniteLossError:
        """The error for one step.

        Args:
            what: Such as "the loss is not finite".
            progress: Position of the step.
            terms: Terms of the loss by name.
            names: Names of the samples.
        """
        shown = ", ".join(f"{k} {v:g}" for k, v in terms.items()) or "none"
        samples = ", ".join(names) or "unnamed"
        return cls(f"{what} in epoch {progress.epoch}, step {progress.step}; terms: {shown}; samples: {samples}")


class NonFiniteWeightsError(TrainingError):
    """A weight that is not finite, found before a checkpoint was written."""


class BatchTooLargeError(TrainingError):
    """A batch that the device's memory does not hold; the message says what to set instead."""

    def __init__(self, batch_size: int, train: Train, processes: int, splits: bool, reason: str) -> None:
        total = batch_size * processes * train.accumulate
        advice = ["TRAIN.PRECISION=bf16 needs less memory"]
        if batch_size > 1:
            divisor = next(d for d in range(2, batch_size + 1) if batch_size % d == 0)
            advice.insert(
                0,
                f"for the same total batch: TRAIN.BATCH_SIZE={batch_size // divisor} "
                f"TRAIN.ACCUMULATE={train.accumulate * divisor}",
            )
        if splits:
            advice.append("so do fewer clips per backward pass (SLT.MICRO_BATCH)")
        super().__init__(
            f"the device has no room for TRAIN.BATCH_SIZE {batch_size} ({processes} processes, ACCUMULATE "
            f"{train.accumulate}: total batch {total}); {'; '.join(advice)}. {reason}"
        )
