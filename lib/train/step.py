"""One training step: forward, backward, clip, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lib.config import Train
from lib.data import Rows
from lib.distributed import World
from lib.objectives import Objective, Progress, SplittingObjective
from lib.train.optim import set_lr
from lib.train.precision import NonFiniteLossError, Precision
from lib.train.progress import MetricAverager

TOTAL = "Loss/total"


class ObjectiveModule(nn.Module):
    """Network and objective as one module, so that a data-parallel wrapper sees one forward pass per backward pass,
    however often and through whichever entry points the objective calls the network.

    Raises ValueError for trainable parameters of the objective's own, which no optimiser would get.
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

    @property
    def objective(self) -> Objective:
        return self._objective[0]

    def forward(self, batch: Rows, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss, and the terms with `Loss/total` among them."""
        losses = self.objective(self.network, batch, progress)
        return losses.total, {TOTAL: losses.total.detach(), **losses.terms}

    def split(self, batch: Rows, progress: Progress) -> Sequence[Rows]:
        """The parts of a batch that get a backward pass each: the batch itself but for a `SplittingObjective`."""
        objective = self.objective
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
        problem: Why this process had nothing to update with (`TRAIN.ON_NONFINITE: skip`); empty if all was well.
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

    def __call__(self, next_batch: Callable[[], Rows], count: int, progress: Progress, lr_factor: float) -> StepResult:
        """Update the parameters by the mean gradient of `count` batches, at the base rates times `lr_factor`.

        Raises:
            NonFiniteLossError: A loss (or, but for fp16, a gradient) is not finite and TRAIN.ON_NONFINITE is `raise`;
                the parameters are as they were.
        """
        train, skips = self.train, self.train.on_nonfinite == "skip"
        averager, names, samples = MetricAverager(), [], 0
        problem: NonFiniteLossError | None = None
        buffers = [(b, b.clone()) for b in self.module.buffers()] if skips else []
        # DDP averages over the processes; the sum is that average times their number.
        scale = (self.world.size if train.sum_gradients else 1) / count
        forward = self.parallel or self.module

        set_lr(self.optimizer, lr_factor)
        self.optimizer.zero_grad(set_to_none=True)
        for i in range(count):
            batch = next_batch()
            self.batch_size = len(batch)
            samples += len(batch)
            names += batch.names
            with self.precision.autocast():
                parts = self.module.split(batch, progress)
            for j, part in enumerate(parts):
                is_last = i == count - 1 and j == len(parts) - 1
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
        if skips and any(self.world.agree(problem is not None)):
            self.precision.skip()
            for buffer, before in buffers:
                buffer.copy_(before)
            return StepResult(samples, norm, problem="" if problem is None else str(problem), skipped=True)
        self.precision.step(self.optimizer, norm)
        return StepResult(samples, norm, averager.means())

    def evaluate(self, batch: Rows, progress: Progress) -> dict[str, float]:
        """The terms of one batch, without gradients."""
        averager = MetricAverager()
        with torch.no_grad(), self.precision.autocast():
            for part in self.module.split(batch, progress):
                _, terms = self.module(part, progress)
                averager.add(to_floats(terms), len(part))
        return averager.means()


class BatchTooLargeError(RuntimeError):
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


def to_floats(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars from the device in one transfer."""
    stacked = torch.stack([t.detach().double().reshape(()) for t in terms.values()])
    return dict(zip(terms, stacked.tolist(), strict=True))
