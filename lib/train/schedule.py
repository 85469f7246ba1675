"""Phases of a training and their learning rates, as pure functions of the position: resuming needs no scheduler."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, fields, replace

from lib.config import ConfigError, Train, TrainPhase

STEP_GAMMA = 0.1


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one optimiser.

    Attributes:
        number: From 1.
        first: Its first epoch, counted from 1 over the whole training.
        last: Its last epoch.
        train: TRAIN with the values of this phase; EPOCH is the number of epochs of its learning-rate schedule.
        schedule_from: Epoch that the schedule counts from.
        eval_modules: Regular expressions; modules with such a name stay in evaluation mode.
    """

    number: int
    first: int
    last: int
    train: Train
    schedule_from: int = 1
    eval_modules: tuple[str, ...] = ()

    def lr_factor(self, epoch: int, step: int, steps: int) -> float:
        """Factor of the base learning rates in this phase; see the function `lr_factor`.

        Args:
            epoch: Counted from 1 over the whole training.
            step: The last batch that goes into the update, from 0.
            steps: Batches of the epoch.
        """
        return lr_factor(self.train, epoch - self.schedule_from + 1, step, steps)


def phases_of(train: Train) -> list[Phase]:
    """The phases of a training.

    Args:
        train: TRAIN with its PHASES.

    Returns:
        One phase for each of TRAIN.PHASES, in order; without them a single one that is all of TRAIN.

    Raises:
        ConfigError: Phases overlap, leave a gap, do not add up to TRAIN.EPOCH, or a schedule is unusable.
    """
    phases: list[Phase] = []
    first = 1
    for i, spec in enumerate(train.phases or (TrainPhase(),)):
        key, last = f"TRAIN.PHASES[{i}]", train.epoch
        if spec.start_epoch not in (None, first):
            problem = "overlaps the phase before it" if spec.start_epoch < first else "leaves a gap before it"
            raise ConfigError(f"{key}.START_EPOCH {spec.start_epoch} {problem}; it has to begin at epoch {first}")
        if spec.epochs is not None:
            last = first + spec.epochs - 1
        elif i + 1 < len(train.phases):
            following = train.phases[i + 1].start_epoch
            if following is None:
                raise ConfigError(f"{key} needs EPOCHS, or the phase after it START_EPOCH")
            last = following - 1
        if last < first:
            raise ConfigError(f"{key} has no epoch: it would begin at epoch {first} and end at {last}")
        own = {f.name: getattr(spec, f.name) for f in fields(spec) if hasattr(train, f.name)}
        values = {name: value for name, value in own.items() if value is not None}
        span = train.epoch if spec.continue_schedule else last - first + 1
        phase_train = replace(train, **values, phases=(), epoch=span)
        start = 1 if spec.continue_schedule else first
        phases.append(Phase(i + 1, first, last, phase_train, start, spec.eval_modules))
        first = last + 1
    if phases[-1].last != train.epoch:
        raise ConfigError(f"TRAIN.PHASES end at epoch {phases[-1].last}, but TRAIN.EPOCH is {train.epoch}")
    for phase in phases:
        phase.lr_factor(phase.first, 0, 1)  # an unusable schedule is an error now, not when its first step is due
    return phases


def lr_factor(train: Train, epoch: int, step: int = 0, steps: int = 1) -> float:
    """Factor of the base learning rates.

    Decay, by TRAIN.SCHEDULER.TYPE:

    * ``step``: 0.1 for every LR_DROP_EPOCH finished epochs (OSTrack, ECCV 2022, whose files state a DECAY_RATE that is
      not read), or SCHEDULER.DECAY_RATE in place of 0.1 where SCHEDULER.USE_DECAY_RATE is set;
    * ``Mstep``: SCHEDULER.GAMMA for every one of SCHEDULER.MILESTONES that is finished;
    * ``cosine``: half a cosine from 1, after the warm-up, to SCHEDULER.MIN_LR_RATIO after the last epoch;
    * ``log``: log-spaced from 1, after the warm-up, to SCHEDULER.MIN_LR_RATIO in the last epoch (PySOT).

    Warm-up over SCHEDULER.WARMUP_EPOCHS, by SCHEDULER.WARMUP_TYPE:

    * ``ramp``: linear over the steps; the last step has the whole rate. It multiplies the decay;
    * ``linear``, ``log``: the epochs' rates are spaced so from WARMUP_RATIO to 1, both included; the decay begins with
      the 1;
    * ``step``: epoch k of n has WARMUP_RATIO ** (1 - k / n), k from 0 (PySOT).

    Args:
        train: TRAIN; its EPOCH is what the schedule spans.
        epoch: Counted from 1.
        step: The last batch that goes into the update, from 0.
        steps: Batches of the epoch.

    Raises:
        ConfigError: The type lacks keys.
    """
    schedule, finished = train.scheduler, epoch - 1
    warm = math.floor(schedule.warmup_epochs)
    decay = _decay(train, finished, warm)
    if schedule.warmup_type == "ramp":
        warm_steps = schedule.warmup_epochs * steps
        done = finished * steps + step
        return decay * (done + 1) / warm_steps if done + 1 < warm_steps else decay
    span = warm if schedule.warmup_type == "step" else max(1, warm - 1)
    share = finished / max(1, span)
    if finished >= warm or share == 1:
        return decay
    if schedule.warmup_type in ("step", "log"):
        return schedule.warmup_ratio ** (1 - share)
    return schedule.warmup_ratio + (1 - schedule.warmup_ratio) * share


def _decay(train: Train, finished: int, warm: int) -> float:
    """Factor of the decay.

    Args:
        train: TRAIN with its SCHEDULER.
        finished: Number of finished epochs.
        warm: Number of warm-up epochs, which the cosine and the log schedule leave out.

    Raises:
        ConfigError: The type lacks keys.
    """
    schedule, kind = train.scheduler, train.scheduler.type.lower()
    if kind == "step":
        gamma = schedule.decay_rate if schedule.use_decay_rate else STEP_GAMMA
        return gamma ** (finished // train.lr_drop_epoch)
    if kind == "mstep":
        if not schedule.milestones:
            raise ConfigError("TRAIN.SCHEDULER.TYPE Mstep needs TRAIN.SCHEDULER.MILESTONES, such as [80, 120]")
        return schedule.gamma ** bisect_right(sorted(schedule.milestones), finished)
    if kind == "cosine":
        share = max(0, finished - warm) / max(1, train.epoch - warm)
        return schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * (1 + math.cos(math.pi * share)) / 2
    if schedule.min_lr_ratio <= 0:
        raise ConfigError("TRAIN.SCHEDULER.TYPE log needs TRAIN.SCHEDULER.MIN_LR_RATIO above 0, such as 0.1")
    return schedule.min_lr_ratio ** (max(0, finished - warm) / max(1, train.epoch - warm - 1))
