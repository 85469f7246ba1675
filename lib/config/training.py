"""The section TRAIN: optimiser, learning rate, phases, checkpoints. Defaults are those of the OSTrack family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lib.config.build import Section
from lib.ranges import Choice, Count, CountOrNone, NotNegative, Positive, Range, Rate, Ratio, Share

Optimizer = Annotated[str, Choice(("ADAMW", "ADAM", "SGD"), any_case=True)]
Decay = Annotated[str, Choice(("step", "Mstep", "cosine", "log"), any_case=True)]
Warmup = Annotated[str, Choice(("ramp", "linear", "log", "step"))]


@dataclass(frozen=True)
class Schedule(Section):
    """Learning rate over the epochs; see `lib.train.schedule.lr_factor`.

    Attributes:
        type: Kind of decay.
        decay_rate: Factor of `step` with USE_DECAY_RATE.
        milestones, gamma: Epochs after which `Mstep` multiplies by GAMMA; 0 stands for the whole training.
        warmup_epochs: Length of the warm-up.
        min_lr_ratio: Share of the base rate at which `cosine` and `log` end.
        use_decay_rate: `step` multiplies by DECAY_RATE; without it by 0.1, as OSTrack's published files are read.
        warmup_type: `ramp` (by the step), or by the epoch from WARMUP_RATIO on: `linear`, `log`, `step`.
        warmup_ratio: Share of the base rate in the first epoch of such a warm-up.
    """

    type: Decay = "step"
    decay_rate: Positive = 0.1
    milestones: tuple[CountOrNone, ...] = ()
    gamma: Positive = 0.1
    warmup_epochs: NotNegative = 0.0
    min_lr_ratio: Share = 0.0
    use_decay_rate: bool = False
    warmup_type: Warmup = "ramp"
    warmup_ratio: Ratio = 0.1


@dataclass(frozen=True)
class ParamGroup(Section):
    """Optimiser settings of some parameters.

    Attributes:
        pattern: Regular expression for their names; the first group that matches wins.
        lr_multiplier: Factor of TRAIN.LR.
        weight_decay: Of these parameters; None for TRAIN.WEIGHT_DECAY.
        freeze: They are not trained.
    """

    pattern: str
    lr_multiplier: NotNegative = 1.0
    weight_decay: NotNegative | None = None
    freeze: bool = False


@dataclass(frozen=True)
class TrainPhase(Section):
    """One of TRAIN.PHASES: a stretch of epochs with its own optimiser; keys that are left out are those of TRAIN.

    Attributes:
        epochs: Their number; None: up to the next phase or the last epoch.
        start_epoch: First epoch, if it is stated.
        lr, weight_decay, optimizer, momentum, backbone_multiplier, lr_drop_epoch: See `Train`.
        grad_clip_norm, fix_bn, scheduler, param_groups: See `Train`.
        eval_modules: Regular expressions; modules with such a name stay in evaluation mode.
        continue_schedule: The learning rate is that of a schedule over all epochs of the training, not one that counts
            from the phase's first epoch.
    """

    epochs: Count | None = None
    start_epoch: Count | None = None
    lr: Positive | None = None
    weight_decay: NotNegative | None = None
    optimizer: Optimizer | None = None
    momentum: Rate | None = None
    backbone_multiplier: NotNegative | None = None
    lr_drop_epoch: Count | None = None
    grad_clip_norm: NotNegative | None = None
    fix_bn: bool | None = None
    scheduler: Schedule | None = None
    param_groups: tuple[ParamGroup, ...] | None = None
    eval_modules: tuple[str, ...] = ()
    continue_schedule: bool = False


@dataclass(frozen=True)
class Train(Section):
    """Optimisation of a network.

    Attributes:
        lr, weight_decay: Of the optimiser.
        epoch: Number of epochs.
        lr_drop_epoch: Epoch at which a `step` schedule drops the rate.
        batch_size: Per process, as in published files; the log states the total.
        num_worker: Data workers per process.
        optimizer: See `lib.train.build_optimizer`.
        backbone_multiplier: Factor of LR for the backbone.
        giou_weight, l1_weight: Weights of the box losses.
        print_interval: Steps between lines of the log.
        val_epoch_interval: Epochs between validations.
        grad_clip_norm: Largest norm of the gradient; 0 for no clipping.
        amp: As `precision: fp16`, in published files.
        scheduler: Learning rate over the epochs.
        drop_path_rate: Stochastic depth of the backbone.
        fix_bn: Batch norms stay in evaluation mode.
        precision: fp32, bf16, fp16, or tf32: float32 whose products are in TF32 on a GPU that has it. fp32 leaves that
            to convolutions, as PyTorch does.
        accumulate: Batches per step.
        param_groups: Settings of some parameters.
        seed: Of all random numbers.
        save_epoch_interval, save_epochs, save_last_n_epoch: Epochs whose weights are kept.
        state_interval_seconds, state_interval_steps: Time and steps between states within an epoch; 0 for none.
        max_bad_samples: Tolerated share of samples whose files cannot be read.
        compile: Use `torch.compile`.
        momentum: Of SGD.
        sum_gradients: Gradients of several processes are added up; without it they are averaged.
        on_nonfinite: Treatment of a step whose loss or gradient is not finite, or whose loss is above MAX_LOSS:
            `raise` ends the training, `skip` leaves the step out.
        max_loss: Bound of the loss; 0 for none.
        max_skipped: More skipped steps in a row end the training.
        phases: Stretches of epochs with an optimiser each; empty: one phase.
    """

    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-4
    epoch: Count = 500
    lr_drop_epoch: Count = 400
    batch_size: Count = 16
    num_worker: CountOrNone = 8
    optimizer: Optimizer = "ADAMW"
    backbone_multiplier: NotNegative = 0.1
    giou_weight: NotNegative = 2.0
    l1_weight: NotNegative = 5.0
    print_interval: CountOrNone = 50
    val_epoch_interval: CountOrNone = 20
    grad_clip_norm: NotNegative = 0.1
    amp: bool = False
    scheduler: Schedule = Schedule()
    drop_path_rate: Rate = 0.1
    fix_bn: bool = False
    precision: Annotated[str, Choice(("fp32", "tf32", "bf16", "fp16"))] = "fp32"
    accumulate: Count = 1
    param_groups: tuple[ParamGroup, ...] = ()
    seed: Annotated[int, Range(0, 2**63 - 1)] = 42
    save_epoch_interval: CountOrNone = 40
    save_epochs: tuple[Count, ...] = (79, 159, 239)
    save_last_n_epoch: CountOrNone = 5
    state_interval_seconds: NotNegative = 600.0
    state_interval_steps: CountOrNone = 0
    max_bad_samples: Share = 0.01
    compile: bool = False
    momentum: Rate = 0.9
    sum_gradients: bool = False
    on_nonfinite: Annotated[str, Choice(("raise", "skip"))] = "raise"
    max_loss: NotNegative = 0.0
    max_skipped: CountOrNone = 10
    phases: tuple[TrainPhase, ...] = ()
