"""The training loop: one for all networks and objectives."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lib.config import ConfigError, Train
from lib.data import BatchLoader, Rows
from lib.distributed import World
from lib.models import load_into, nonfinite_tensors, require_finite
from lib.objectives import Objective, PicturingObjective, Progress, SplittingObjective
from lib.train.checkpoint import CheckpointFolder, Position, is_kept, position_of, weights_of
from lib.train.epoch import EpochIterator, Interval, ThroughputMeter
from lib.train.log import EpochPictures, Report, TrainLog
from lib.train.optim import (
    build_optimizer,
    check_eval_modules,
    load_optimizer_state,
    moment_tensors,
    optimizer_state,
    parameter_groups,
    set_train_mode,
)
from lib.train.process import InterruptedTraining, Interrupts, rng_state, set_rng_state
from lib.train.schedule import Phase, phases_of
from lib.train.step import (
    BatchTooLargeError,
    MetricAverager,
    NonFiniteLossError,
    NonFiniteWeightsError,
    ObjectiveModule,
    Precision,
    TrainStep,
    precision_name,
)

SHOWN_SAMPLES = 4
"""Samples of an epoch that pictures are logged of."""
DATA_SHARE_WARNING = 0.2
SETTLING_SECONDS = 20.0
"""At the beginning of an epoch worker processes and caches are cold; waiting then means nothing."""


@dataclass
class TrainingSetup:
    """A network, its objective and its data.

    Attributes:
        network: On the device of this process.
        objective: One of `lib.objectives`.
        train_loader: Batches of this process.
        val_loader: None without validation.
        prepare: Brings a loaded batch to the device and normalises it.
        metadata: Stored with the weights (plain types); its `config` and `config_hash` also in the state.
    """

    network: nn.Module
    objective: Objective
    train_loader: BatchLoader[Any]
    val_loader: BatchLoader[Any] | None
    prepare: Callable[[Any], Rows]
    metadata: dict[str, Any]


class Trainer:
    """Trains over the epochs and phases of a configuration; every process runs one.

    Exact resume: with the state of a run that was killed, the parameters become those of a run that was not, bit for
    bit, with the same number of processes and deterministic operators.

    Args:
        setup: Network, objective and data of this process.
        train: TRAIN of the configuration.
        world: This process among all.
        folder: Where checkpoints are written.
        log: Where reports and messages are written.

    Raises:
        ValueError: Epochs differ in length between the processes.
        ConfigError: An unusable phase.

    Attributes:
        position: Epoch and step of the training.
        phase: The phase of `position`; `optimizer` and `train_step` are its own.
    """

    phase: Phase
    optimizer: Optimizer
    train_step: TrainStep

    def __init__(
        self, setup: TrainingSetup, train: Train, world: World, folder: CheckpointFolder, log: TrainLog
    ) -> None:
        self.setup, self.train, self.world, self.folder, self.log = setup, train, world, folder, log
        self.precision = Precision(precision_name(train), world.device)
        self.module = ObjectiveModule(setup.network, setup.objective)
        self.position = Position()
        self._averager, self._meter = MetricAverager(), ThroughputMeter()
        self._skipped = self._skipped_in_a_row = 0
        self._saved_at = time.monotonic()
        self._warned_epoch = 0
        self._interrupts = Interrupts()
        lengths = [len(x) for x in (setup.train_loader, setup.val_loader) if x is not None]
        everyone = world.gather(lengths)
        if everyone != [lengths] * world.size:
            raise ValueError(f"the processes have epochs of different length: {everyone}")
        # A phase may freeze what the next one trains; what the method itself froze stays frozen.
        self._trainable = [p for p in setup.network.parameters() if p.requires_grad]
        self._phases = phases_of(train)
        for phase in self._phases[1:]:  # an unusable later phase is an error now
            self._groups(phase)
        self._enter_phase(1)

    def restore(self, path: Path, state: dict[str, Any]) -> None:
        """Continue where a training state was written.

        With another number of processes the samples continue where they stopped; random numbers and means begin again.

        Args:
            path: File of the state; the weights are in it or lie next to it.
            state: Its content, from `read_state`.

        Raises:
            ValueError: The state holds moments of other parameters than those trained now.
            WeightsError: Weights or moments do not fit, or are not finite.
        """
        load_into(self.setup.network, weights_of(path, state), source=path)
        self.position = position_of(state)
        self._enter_phase(self.position.epoch)
        if state.get("phase", 1) == self.phase.number:  # else it was written exactly on a boundary
            require_finite(moment_tensors(state["optimizer"]), path)
            load_optimizer_state(self.optimizer, state["optimizer"])
        self.precision.load_state(state["precision"])
        self._skipped, self._skipped_in_a_row = state.get("skipped", (0, 0))
        if state["world_size"] != self.world.size:
            per_step = self.train.batch_size * self.world.size
            self.position = Position(self.position.epoch, state["samples_in_epoch"] // per_step)
            return
        mine = state["processes"][self.world.rank]
        self._averager = MetricAverager([mine["meters"]])
        set_rng_state(mine["rng"])

    def run(self) -> None:
        """Train to the last epoch.

        Raises:
            InterruptedTraining: A signal arrived; the state is written.
            NonFiniteLossError: A loss is not finite, or more than TRAIN.MAX_SKIPPED steps in a row were skipped.
            NonFiniteWeightsError: Weights or moments are not finite when a checkpoint is due.
            BatchTooLargeError: The device's memory does not hold a batch.
        """
        with self._interrupts.noted():
            while self.position.epoch <= self.train.epoch:
                epoch = self.position.epoch
                if self._enter_phase(epoch):
                    for line in self.describe_phase():
                        self.log.write(line)
                self._train_epoch(epoch)
                interval = self.train.val_epoch_interval
                if self.setup.val_loader is not None and interval > 0 and epoch % interval == 0:
                    self._validate(epoch, self.setup.val_loader)
                self.position = Position(epoch + 1, 0)
                self._averager = MetricAverager()
                kept = is_kept(self.train, epoch)
                path = self._save(partial(self.folder.save_epoch, epoch) if kept else self.folder.save_latest)
                (signum,) = self.world.all_reduce_max(self._interrupts.received)
                if signum:
                    raise InterruptedTraining(signum, path)

    def describe_phase(self) -> list[str]:
        """Describe the present phase for the log.

        Returns:
            Lines: the phase and its epochs where there are several, numbers of parameters, and each parameter group
            with its number of tensors and values, learning rate and weight decay.
        """
        phase, parameters = self.phase, list(self.setup.network.parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        lines = [f"parameters: {trained:,} of {sum(p.numel() for p in parameters):,} are trained"]
        if len(self._phases) > 1:
            lines.insert(0, f"phase {phase.number} of {len(self._phases)}: epochs {phase.first} to {phase.last}")
        if self.train.sum_gradients and self.world.size > 1:
            lines.append(f"gradients are summed over {self.world.size} processes")
        for i, group in enumerate(self.optimizer.param_groups):
            size = f"{len(group['params'])} tensors, {sum(p.numel() for p in group['params']):,} values"
            rates = f"lr {group['base_lr']:g}, weight decay {group['weight_decay']:g}"
            lines.append(f"group {i} ({group['name']}): {size}, {rates}")
        return lines

    # Phases

    def _groups(self, phase: Phase) -> list[dict[str, Any]]:
        """Parameter groups of a phase; freezes what the phase freezes and nothing else."""
        for parameter in self._trainable:
            parameter.requires_grad_(True)
        check_eval_modules(self.setup.network, phase.eval_modules)
        try:
            return parameter_groups(self.setup.network, phase.train)
        except ConfigError as error:
            if len(self._phases) == 1:
                raise
            raise ConfigError(f"TRAIN.PHASES[{phase.number - 1}]: {error}") from None

    def _enter_phase(self, epoch: int) -> bool:
        """Make parameter groups, optimiser and data-parallel wrapper of the phase of `epoch`.

        Args:
            epoch: Counted from 1 over the whole training; later ones than the last belong to the last phase.

        Returns:
            False where this phase is the present one already.
        """
        phase = next((p for p in self._phases if epoch <= p.last), self._phases[-1])
        if hasattr(self, "train_step"):
            if phase is self.phase:
                return False
            del self.train_step
            gc.collect()  # the hooks of the old wrapper go with it
        self.setup.network.zero_grad(set_to_none=True)
        self.optimizer = build_optimizer(self._groups(phase), phase.train)
        self.train_step = TrainStep(self.module, self.optimizer, self.precision, phase.train, self.world)
        self.phase = phase
        return True

    # One epoch

    def _train_epoch(self, epoch: int) -> None:
        """Train from the present step to the end of the epoch and report its means."""
        steps = len(self.setup.train_loader)
        set_train_mode(self.setup.network, self.setup.objective, self.phase.train.fix_bn, self.phase.eval_modules)
        batches = EpochIterator(self.setup.train_loader, epoch, self.position.step, self.setup.prepare)
        self._meter.restart()  # leaves out the start of the worker processes and the first batch
        while self.position.step < steps:
            self._train_batches(batches, Progress(epoch, self.train.epoch, self.position.step, steps))
        self._meter.next_interval()
        self._report("train", Progress(epoch, self.train.epoch, steps, steps), self._averager, self._meter.epoch)

    def _train_batches(self, batches: EpochIterator, progress: Progress) -> None:
        """One training step over up to ACCUMULATE batches; after it report, state and interruption where due.

        Args:
            batches: Of the epoch.
            progress: Position before the step.

        Raises:
            BatchTooLargeError: The device's memory does not hold a batch.
            InterruptedTraining: A signal arrived; the state is written.
            NonFiniteLossError: More than TRAIN.MAX_SKIPPED steps in a row were skipped.
        """
        count = min(self.train.accumulate, progress.steps - progress.step)
        factor = self.phase.lr_factor(progress.epoch, progress.step + count - 1, progress.steps)
        try:
            taken, waited = batches.take(count)
            result = self.train_step(taken, progress, factor)
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]
            splits = isinstance(self.setup.objective, SplittingObjective)
            size = self.train_step.batch_size or self.train.batch_size
            raise BatchTooLargeError(size, self.train, self.world.size, splits, reason) from None
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if result.skipped else 0
        if result.skipped:
            self._skipped += 1
            problems = "; ".join(p for p in self.world.gather(result.problem) if p)
            if self._skipped_in_a_row > self.train.max_skipped:
                skipped = f"{self._skipped_in_a_row} steps in a row had to be skipped (TRAIN.MAX_SKIPPED)"
                raise NonFiniteLossError(f"{skipped}; the last: {problems}")
            self.log.write(f"warning: step skipped: {problems}")
        before, after = progress.step, progress.step + count
        self.position, done = Position(progress.epoch, after), replace(progress, step=after)
        self._averager.add(result.terms, result.samples)
        self._meter.count(result.samples, count, waited)

        def passes(interval: int) -> bool:
            return interval > 0 and after // interval > before // interval

        if passes(self.train.print_interval):
            self._report("train", done, self._averager, self._meter.next_interval(), result.grad_norm)

        if after == progress.steps and self.world.is_main and isinstance(self.setup.objective, PicturingObjective):
            self._show(taken[-1], done)

        # All processes agree whether a state is due, by the clock of rank 0, and whether to stop.
        due = passes(self.train.state_interval_steps)
        if self.world.is_main and self.train.state_interval_seconds > 0:
            due = due or time.monotonic() - self._saved_at > self.train.state_interval_seconds
        signum, save = self.world.all_reduce_max(self._interrupts.received, int(due))
        if signum:
            raise InterruptedTraining(signum, self._save(self.folder.save_latest))
        if save:
            self._save(self.folder.save_latest)

    def _validate(self, epoch: int, loader: BatchLoader[Any]) -> None:
        """Report the means of the objective over the validation data, in evaluation mode."""
        self.module.eval()
        steps = len(loader)
        random_numbers = rng_state()
        # Always the samples of epoch 1, so that validations can be compared with each other.
        batches = EpochIterator(loader, 1, 0, self.setup.prepare)
        averager, meter = MetricAverager(), ThroughputMeter()
        for step in range(steps):
            (batch,), waited = batches.take(1)
            terms = self.train_step.evaluate(batch, Progress(epoch, self.train.epoch, step, steps))
            averager.add(terms, len(batch))
            meter.count(len(batch), 1, waited)
            (signum,) = self.world.all_reduce_max(self._interrupts.received)
            if signum:
                set_rng_state(random_numbers)  # the validation will begin again
                raise InterruptedTraining(signum, self._save(self.folder.save_latest))
        self._report("val", Progress(epoch, self.train.epoch, steps, steps), averager, meter.epoch)

    # Reports

    def _report(
        self, loader: str, done: Progress, averager: MetricAverager, span: Interval, grad_norm: float | None = None
    ) -> None:
        """Log the means of all processes.

        Args:
            loader: ``train`` or ``val``.
            done: Position after the last finished batch.
            averager: Means of this process.
            span: The print interval that ended, or the whole epoch.
            grad_norm: Global gradient norm of the last step.
        """
        loaders = (self.setup.train_loader, self.setup.val_loader)
        bad_samples = sum(x.bad_samples for x in loaders if x is not None)
        processes = self.world.gather((averager.state(), bad_samples))
        training, device = loader == "train", self.world.device
        left, step_seconds = done.steps - done.step, self._meter.step_seconds
        is_step = training and span is not self._meter.epoch
        report = Report(
            loader=loader,
            kind="step" if is_step else "epoch",
            **asdict(done),
            terms=MetricAverager(state for state, _ in processes).means(),
            samples_per_second=span.samples / span.seconds * self.world.size,
            data_share=min(1.0, span.waited / span.seconds),
            eta_epoch=left * step_seconds if training else None,
            eta=(left + (done.epochs - done.epoch) * done.steps) * step_seconds if training else None,
            seconds=(self._meter.epoch if training else span).seconds,
            lr=[g["lr"] for g in self.optimizer.param_groups] if training else [],
            grad_norm=grad_norm,
            bad_samples=sum(bad for _, bad in processes),
            skipped_steps=self.precision.overflows,
            nonfinite_steps=self._skipped or None,
            memory_gib=torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        )
        self.log.write(report)
        if is_step:
            self._warn_of_waiting(report)

    def _show(self, batch: Any, done: Progress) -> None:
        """Log what the objective has to show of the first samples of a batch, at a position of the training."""
        objective = self.setup.objective
        assert isinstance(objective, PicturingObjective)
        self.module.eval()
        with torch.no_grad(), self.precision.autocast():
            images = objective.pictures(self.setup.network, batch.select(range(min(SHOWN_SAMPLES, len(batch)))))
        set_train_mode(self.setup.network, objective, self.phase.train.fix_bn, self.phase.eval_modules)
        self.log.show(EpochPictures(done.epoch, (done.epoch - 1) * done.steps + done.step, images))

    def _warn_of_waiting(self, report: Report) -> None:
        """Warn where a good part of the time is spent waiting for data.

        Args:
            report: Of a print interval; the first seconds of an epoch do not count, nor a second warning in it.
        """
        settled = report.seconds >= SETTLING_SECONDS and self._warned_epoch != report.epoch
        if settled and report.data_share > DATA_SHARE_WARNING:
            self._warned_epoch = report.epoch
            self.log.write(
                f"warning: {report.data_share:.0%} of the time is spent waiting for data; raise TRAIN.NUM_WORKER (now "
                f"{self.train.num_worker}), use LMDB stores (--use_lmdb 1), or put the data on a faster disk"
            )

    # Checkpoints

    def _save(self, write: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Path]) -> Path | None:
        """Write weights and state in rank 0.

        Args:
            write: Method of the folder; takes weights, metadata and state.

        Returns:
            Path of the state; None in other processes.
        """
        began = time.perf_counter()
        processes = self.world.gather({"rng": rng_state(), "meters": self._averager.state()})
        path = None
        if self.world.is_main:
            weights, moments = self.setup.network.state_dict(), optimizer_state(self.optimizer)
            if bad := nonfinite_tensors({**weights, **moment_tensors(moments)}):
                raise NonFiniteWeightsError(f"not finite, so that no checkpoint was written: {'; '.join(bad[:10])}")
            epoch, step = self.position.epoch, self.position.step
            state = {
                "config": self.setup.metadata["config"],
                "config_hash": self.setup.metadata["config_hash"],
                "position": [epoch, step],
                "phase": self.phase.number,
                "samples_in_epoch": step * self.train.batch_size * self.world.size,
                "world_size": self.world.size,
                "optimizer": moments,
                "precision": self.precision.state(),
                "skipped": [self._skipped, self._skipped_in_a_row],
                "processes": processes,
            }
            metadata = {**self.setup.metadata, "epoch": epoch - (step == 0), "step": step}
            path = write(weights, metadata, state)
        self._saved_at = time.monotonic()
        self._meter.exclude(time.perf_counter() - began)
        return path
