"""The learning rate as a pure function of the position in the training: a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from bisect import bisect_right

from lib.config import ConfigError, Train
from lib.registry import suggest

STEP_GAMMA = 0.1
KINDS = ("step", "Mstep", "cosine")


def lr_factor(train: Train, epoch: int, step: int = 0, steps: int = 1) -> float:
    """What the base learning rates are multiplied by.

    epoch counts from 1; step from 0: of the epoch's `steps` batches, the last one that goes into the update.
    Without warm-up the factor is constant over an epoch:

    * ``step``: 0.1 for every LR_DROP_EPOCH finished epochs (DECAY_RATE is not read, as in OSTrack, ECCV 2022);
    * ``Mstep``: SCHEDULER.GAMMA for every one of SCHEDULER.MILESTONES that is finished;
    * ``cosine``: half a cosine from 1, after the warm-up, to SCHEDULER.MIN_LR_RATIO after the last epoch.

    SCHEDULER.WARMUP_EPOCHS lays a linear ramp over the first steps; its last step has the whole rate.
    Raises ConfigError for an unknown SCHEDULER.TYPE or one that lacks its keys.
    """
    factor = _epoch_factor(train, epoch - 1)
    warm_steps = train.scheduler.warmup_epochs * steps
    done = (epoch - 1) * steps + step
    if done + 1 < warm_steps:
        factor *= (done + 1) / warm_steps
    return factor


def _epoch_factor(train: Train, finished: int) -> float:
    schedule = train.scheduler
    kind = {k.lower(): k for k in KINDS}.get(schedule.type.lower())
    if kind == "step":
        if train.lr_drop_epoch < 1:
            raise ConfigError(f"TRAIN.LR_DROP_EPOCH must be at least 1, not {train.lr_drop_epoch}")
        return STEP_GAMMA ** (finished // train.lr_drop_epoch)
    if kind == "Mstep":
        if not schedule.milestones:
            raise ConfigError("TRAIN.SCHEDULER.TYPE Mstep needs TRAIN.SCHEDULER.MILESTONES, such as [80, 120]")
        return schedule.gamma ** bisect_right(sorted(schedule.milestones), finished)
    if kind == "cosine":
        warm = math.floor(schedule.warmup_epochs)
        share = max(0, finished - warm) / max(1, train.epoch - warm)
        return schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * (1 + math.cos(math.pi * share)) / 2
    near = suggest(schedule.type, list(KINDS))
    raise ConfigError(f"unknown TRAIN.SCHEDULER.TYPE {schedule.type!r}{near} (known: {', '.join(KINDS)})")
