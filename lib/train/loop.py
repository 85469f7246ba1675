"""The training loop: one for all networks and objectives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lib.config import Train
from lib.data import Rows
from lib.distributed import World
from lib.models import load_into
from lib.objectives import Objective, Progress, SplittingObjective
from lib.train.checkpoint import CheckpointFolder, Position, is_kept, position_of, weights_of
from lib.train.clock import Clock, Span
from lib.train.feed import EpochLoader, Feed
from lib.train.log import TrainLog
from lib.train.memory import BatchTooLargeError, explain, largest_that_fits
from lib.train.meters import Meters
from lib.train.optim import load_optimizer_state, optimizer_state, set_lr
from lib.train.precision import Precision, precision_name
from lib.train.report import Report
from lib.train.rng import rng_state, set_rng_state
from lib.train.schedule import lr_factor
from lib.train.signals import InterruptedTraining, Interrupts
from lib.train.step import Learner, Stepper, StepResult, data_parallel, start_mode

DATA_SHARE_WARNING = 0.2
SETTLING_SECONDS = 20.0
"""At the beginning of an epoch worker processes and caches are cold; waiting then means nothing."""


@dataclass
class Parts:
    """What is trained, on what, and with what.

    prepare: brings a loaded batch to the device and normalises it. metadata: goes beside the weights (plain types).
    identity: goes into the state, to tell what it belongs to (plain types).
    """

    network: nn.Module
    objective: Objective
    optimizer: Optimizer
    train_loader: EpochLoader
    val_loader: EpochLoader | None
    prepare: Callable[[Any], Rows]
    metadata: dict[str, Any]
    identity: dict[str, Any]


class Trainer:
    """Drives an objective over the epochs of `train`; every process of `world` runs one.

    Exact resume: with the state of a run that was killed, the parameters become those of a run that was not, bit for
    bit, with the same number of processes and deterministic operators. position: where the training is.
    """

    def __init__(self, parts: Parts, train: Train, world: World, folder: CheckpointFolder, log: TrainLog) -> None:
        self.parts, self.train, self.world, self.folder, self.log = parts, train, world, folder, log
        self.precision = Precision(precision_name(train), world.device)
        self.learner = Learner(parts.network, parts.objective)
        model = data_parallel(self.learner, world)
        self.stepper = Stepper(model, self.learner, parts.optimizer, self.precision, train.grad_clip_norm)
        self.position = Position()
        self._meters, self._clock = Meters(), Clock()
        self._saved_at = time.monotonic()
        self._warned_epoch = 0
        self._interrupts = Interrupts()
        self._check_loaders()

    def restore(self, path: Path, state: dict[str, Any]) -> None:
        """Continue where the state in `path` was written.

        With another number of processes the samples go on where they stopped; random numbers and means begin anew.
        """
        load_into(self.parts.network, weights_of(path, state), source=path)
        load_optimizer_state(self.parts.optimizer, state["optimizer"])
        self.precision.load_state(state["precision"])
        self.position = position_of(state)
        if state["world_size"] != self.world.size:
            per_step = self.train.batch_size * self.world.size
            self.position = Position(self.position.epoch, state["samples_in_epoch"] // per_step)
            return
        mine = state["processes"][self.world.rank]
        self._meters = Meters.of([mine["meters"]])
        set_rng_state(mine["rng"])

    def run(self) -> None:
        """Train to the last epoch. Raises InterruptedTraining after a signal, and whatever goes wrong."""
        with self._interrupts:
            while self.position.epoch <= self.train.epoch:
                epoch = self.position.epoch
                self._train_epoch(epoch)
                interval = self.train.val_epoch_interval
                if self.parts.val_loader is not None and interval > 0 and epoch % interval == 0:
                    self._validate(epoch, self.parts.val_loader)
                self.position = Position(epoch + 1, 0)
                self._meters = Meters()
                self._save_epoch(epoch)

    # One epoch

    def _train_epoch(self, epoch: int) -> None:
        steps = len(self.parts.train_loader)
        start_mode(self.learner, training=True, fix_bn=self.train.fix_bn)
        self._clock.restart()
        if self.position.step < steps:
            feed = Feed(self.parts.train_loader, epoch, self.position.step, self.parts.prepare)
            self._clock.restart()
            while self.position.step < steps:
                self._train_step(feed, Progress(epoch, self.train.epoch, self.position.step, steps))
        self._clock.next_interval()
        self._report(
            "train", Progress(epoch, self.train.epoch, steps, steps), self._meters, self._clock, self._clock.epoch
        )

    def _train_step(self, feed: Feed, progress: Progress) -> None:
        count = min(self.train.accumulate, progress.steps - progress.step)
        last = progress.step + count - 1
        set_lr(self.parts.optimizer, lr_factor(self.train, progress.epoch, last, progress.steps))
        try:
            result = self.stepper.step(feed.next, count, progress)
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]
        else:
            self._count(result, count, feed.restart_clock())
            return
        # Outside of the handler, the frames that held the activations are gone.
        raise self._too_large(progress, reason)

    def _count(self, result: StepResult, count: int, waited: float) -> None:
        before = self.position.step
        self.position = Position(self.position.epoch, before + count)
        self._meters.add(result.terms, result.samples)
        self._clock.count(result.samples, count, waited)
        if _passed(self.train.print_interval, before, before + count):
            done = Progress(self.position.epoch, self.train.epoch, before + count, len(self.parts.train_loader))
            self._report("train", done, self._meters, self._clock, self._clock.next_interval(), result.grad_norm)
        self._save_or_stop(before, before + count)

    def _validate(self, epoch: int, loader: EpochLoader) -> None:
        start_mode(self.learner, training=False, fix_bn=False)
        steps = len(loader)
        random_numbers = rng_state()
        # Always the samples of epoch 1, so that validations can be compared with each other.
        meters, feed, clock = Meters(), Feed(loader, 1, 0, self.parts.prepare), Clock()
        for step in range(steps):
            batch = feed.next()
            meters.add(self.stepper.evaluate(batch, Progress(epoch, self.train.epoch, step, steps)), len(batch))
            clock.count(len(batch), 1, feed.restart_clock())
            (signum,) = self.world.agree(self._interrupts.received)
            if signum:
                set_rng_state(random_numbers)  # the validation will begin anew
                raise InterruptedTraining(signum, self._save_latest())
        self._report("val", Progress(epoch, self.train.epoch, steps, steps), meters, clock, clock.epoch)

    # Telling

    def _report(
        self,
        loader: str,
        done: Progress,
        meters: Meters,
        clock: Clock,
        span: Span,
        grad_norm: float | None = None,
    ) -> None:
        told = self.world.gather((meters.state(), self._bad_samples()))
        training = loader == "train"
        left = done.steps - done.step
        report = Report(
            loader=loader,
            kind="epoch" if span is clock.epoch else "step",
            epoch=done.epoch,
            epochs=done.epochs,
            step=done.step,
            steps=done.steps,
            terms=Meters.of(meters_state for meters_state, _ in told).means(),
            samples_per_second=span.samples_per_second * self.world.size,
            data_share=span.data_share,
            eta_epoch=left * clock.step_seconds if training else None,
            eta=(left + (done.epochs - done.epoch) * done.steps) * clock.step_seconds if training else None,
            seconds=clock.epoch.seconds,
            lr=[g["lr"] for g in self.parts.optimizer.param_groups] if training else [],
            grad_norm=grad_norm,
            bad_samples=sum(bad for _, bad in told),
            skipped_steps=self.precision.overflows,
            memory_gib=self._peak_memory(),
        )
        self.log.report(report)
        if training and report.kind == "step":
            self._warn_of_waiting(report)

    def _warn_of_waiting(self, report: Report) -> None:
        if report.seconds < SETTLING_SECONDS:
            return
        if report.data_share > DATA_SHARE_WARNING and self._warned_epoch != report.epoch:
            self._warned_epoch = report.epoch
            self.log.message(
                f"warning: {report.data_share:.0%} of the time is spent waiting for data; raise TRAIN.NUM_WORKER (now "
                f"{self.train.num_worker}), use LMDB stores (--use_lmdb 1), or put the data on a faster disk"
            )

    def _bad_samples(self) -> int:
        loaders = (self.parts.train_loader, self.parts.val_loader)
        return sum(loader.bad_samples for loader in loaders if loader is not None)

    def _peak_memory(self) -> float | None:
        device = self.world.device
        return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None

    def _too_large(self, progress: Progress, reason: str) -> BatchTooLargeError:
        batch = self.stepper.current
        if batch is None:
            return BatchTooLargeError(reason)
        fitting = largest_that_fits(batch, lambda part: self.stepper.fits(part, progress))
        told = explain(len(batch), fitting, self.world.size, self.train.accumulate, reason)
        if isinstance(self.parts.objective, SplittingObjective):
            told += " Fewer clips per backward pass (SLT.MICRO_BATCH) need less memory."
        return BatchTooLargeError(told)

    # Writing

    def _save_or_stop(self, before: int, after: int) -> None:
        """All processes agree whether a state is due, by the first one's clock, and whether to stop."""
        due = _passed(self.train.state_interval_steps, before, after)
        if self.world.is_main and self.train.state_interval_seconds > 0:
            due = due or time.monotonic() - self._saved_at > self.train.state_interval_seconds
        signum, save = self.world.agree(self._interrupts.received, int(due))
        if signum:
            raise InterruptedTraining(signum, self._save_latest())
        if save:
            self._save_latest()

    def _save_latest(self) -> Path | None:
        return self._save(self.folder.save_latest)

    def _save_epoch(self, epoch: int) -> None:
        write = partial(self.folder.save_epoch, epoch) if is_kept(self.train, epoch) else self.folder.save_latest
        path = self._save(write)
        (signum,) = self.world.agree(self._interrupts.received)
        if signum:
            raise InterruptedTraining(signum, path)

    def _save(self, write: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Path]) -> Path | None:
        began = time.perf_counter()
        processes = self.world.gather({"rng": rng_state(), "meters": self._meters.state()})
        path = None
        if self.world.is_main:
            epoch, step = self.position.epoch, self.position.step
            metadata = {**self.parts.metadata, "epoch": epoch - (step == 0), "step": step}
            path = write(self.parts.network.state_dict(), metadata, {**self.parts.identity, **self._state(processes)})
        self._saved_at = time.monotonic()
        self._clock.skip(time.perf_counter() - began)
        return path

    def _state(self, processes: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "position": [self.position.epoch, self.position.step],
            "samples_in_epoch": self.position.step * self.train.batch_size * self.world.size,
            "world_size": self.world.size,
            "optimizer": optimizer_state(self.parts.optimizer),
            "precision": self.precision.state(),
            "processes": processes,
        }

    def _check_loaders(self) -> None:
        lengths = [len(x) for x in (self.parts.train_loader, self.parts.val_loader) if x is not None]
        if not lengths[0]:
            raise ValueError(
                "an epoch has no batch: DATA.TRAIN.SAMPLE_PER_EPOCH is less than TRAIN.BATCH_SIZE times the processes"
            )
        everyone = self.world.gather(lengths)
        if any(other != lengths for other in everyone):
            raise ValueError(f"the processes have epochs of different length: {everyone}")


def _passed(interval: int, before: int, after: int) -> bool:
    """Whether a multiple of `interval` lies in (before, after]; 0 is never."""
    return interval > 0 and after // interval > before // interval
