"""One optimiser step: forward, backward over one or more batches, clipping, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.data import Rows
from lib.distributed import World
from lib.objectives import Objective, Progress, SplittingObjective
from lib.train.meters import Meters
from lib.train.precision import NonFiniteLossError, Precision

TOTAL = "Loss/total"


class Learner(nn.Module):
    """Network and objective as one module, so that a data-parallel wrapper sees one forward pass per backward pass,
    however often and through whichever entry points the objective calls the network."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        # Not registered as a child: an objective may hold a frozen teacher, which is not what is trained or saved.
        self._objective = (objective,)
        check_objective(network, objective)

    @property
    def objective(self) -> Objective:
        return self._objective[0]

    def forward(self, batch: Rows, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss, and the terms with `Loss/total` among them."""
        losses = self.objective(self.network, batch, progress)
        return losses.total, {TOTAL: losses.total.detach(), **losses.terms}


def check_objective(network: nn.Module, objective: Objective) -> None:
    """Raises ValueError for trainable parameters of the objective's own: nobody would train them."""
    if isinstance(objective, nn.Module):
        own = {id(p) for p in network.parameters()}
        foreign = [n for n, p in objective.named_parameters() if p.requires_grad and id(p) not in own]
        if foreign:
            raise ValueError(
                f"the objective has trainable parameters of its own ({', '.join(foreign[:3])}); "
                "give them to the network, or freeze them"
            )


@dataclass(frozen=True)
class StepResult:
    """terms: means over the step's batches. grad_norm: before clipping. updated: False for a skipped fp16 step."""

    terms: dict[str, float]
    grad_norm: float
    samples: int
    updated: bool


class Stepper:
    """Runs optimiser steps for one process.

    model: the learner, wrapped for several processes. clip_norm: bound of the global gradient norm, 0 for none.
    current: the batch that was last worked on, for the message of a failure.
    """

    def __init__(
        self, model: nn.Module, learner: Learner, optimizer: Optimizer, precision: Precision, clip_norm: float
    ) -> None:
        self.model, self.learner = model, learner
        self.optimizer, self.precision, self.clip_norm = optimizer, precision, clip_norm
        self.parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self.current: Rows | None = None

    def step(self, next_batch: Callable[[], Rows], count: int, progress: Progress) -> StepResult:
        """Average the gradients of `count` batches and update the parameters.

        Raises NonFiniteLossError, before any update, for a loss (or, but for fp16, a gradient) that is not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        meters = Meters()
        names: list[str] = []
        samples = 0
        for i in range(count):
            self.current = batch = next_batch()
            samples += len(batch)
            names += batch.names
            meters.add(self._accumulate(batch, count, last=i == count - 1, progress=progress), len(batch))
        norm = float(self.precision.clip(self.optimizer, self.parameters, self.clip_norm))
        if not math.isfinite(norm) and self.precision.name != "fp16":
            raise NonFiniteLossError("the gradient norm", progress.epoch, progress.step, meters.means(), names)
        updated = self.precision.step(self.optimizer, norm)
        return StepResult(meters.means(), norm, samples, updated)

    def evaluate(self, batch: Rows, progress: Progress) -> dict[str, float]:
        """The terms of one batch, without gradients."""
        meters = Meters()
        for part in self._parts(batch, progress):
            with torch.no_grad(), self.precision.autocast():
                _, terms = self.learner(part, progress)
            meters.add(to_floats(terms), len(part))
        return meters.means()

    def fits(self, batch: Rows, progress: Progress) -> bool:
        """Whether forward and backward of this batch find room on the device (this process alone)."""
        self.optimizer.zero_grad(set_to_none=True)
        try:
            for part in self._parts(batch, progress):
                with self.precision.autocast():
                    total, _ = self.learner(part, progress)
                self.precision.backward(total)
        except torch.OutOfMemoryError:
            return False
        finally:
            self.optimizer.zero_grad(set_to_none=True)
        return True

    def _accumulate(self, batch: Rows, count: int, last: bool, progress: Progress) -> dict[str, float]:
        parts = self._parts(batch, progress)
        meters = Meters()
        for j, part in enumerate(parts):
            with self._meeting(last and j == len(parts) - 1):
                with self.precision.autocast():
                    total, terms = self.model(part, progress)
                self.precision.backward(total / count)
            values = to_floats(terms)
            if not math.isfinite(values[TOTAL]):
                raise NonFiniteLossError("the loss", progress.epoch, progress.step, values, part.names or batch.names)
            meters.add(values, len(part))
        return meters.means()

    def _parts(self, batch: Rows, progress: Progress) -> Sequence[Rows]:
        objective = self.learner.objective
        if not isinstance(objective, SplittingObjective):
            return [batch]
        with torch.no_grad(), self.precision.autocast():
            parts = objective.split(self.learner.network, batch, progress)
        if not parts:
            raise ValueError(f"{type(objective).__name__}.split gave no part")
        return parts

    def _meeting(self, now: bool) -> AbstractContextManager[Any]:
        """Gradients of several processes meet in the last backward pass of a step only."""
        if now or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()


def data_parallel(module: nn.Module, world: World) -> nn.Module:
    """`module` with its gradients averaged over the processes; itself when there is one process.

    Parameters that take no part in the loss (OSTrack keeps two) are found in every step. Batch normalisation uses each
    process's own statistics; the running averages are those of process 0.
    """
    return module if world.size == 1 else nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)


def to_floats(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars from the device in one transfer."""
    stacked = torch.stack([t.detach().double().reshape(()) for t in terms.values()])
    return dict(zip(terms, stacked.tolist(), strict=True))


def freeze_batch_norm(network: nn.Module) -> None:
    """Batch normalisation by its running averages, which then stay as they are (`TRAIN.FIX_BN`)."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def start_mode(learner: Learner, training: bool, fix_bn: bool) -> None:
    """Training or evaluation mode for the whole network; an objective may keep it in evaluation mode throughout."""
    objective = learner.objective
    training = training and not (isinstance(objective, SplittingObjective) and objective.keeps_eval_mode)
    learner.train(training)
    if training and fix_bn:
        freeze_batch_norm(learner.network)
