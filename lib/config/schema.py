"""The keys that all methods share, as users of OSTrack write them; a method adds its own by subclassing a section.

Field names are the YAML keys in lower case. Defaults are those of the OSTrack family unless a comment says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lib.config.build import InertKey, Part, as_plain, from_tree
from lib.config.tree import ConfigError, Tree

T = TypeVar("T", bound="Test")


def require(condition: bool, message: str) -> None:
    """Check the values of a section.

    Args:
        condition: True if they are accepted.
        message: Sentence that names the keys and what is expected.

    Raises:
        ValueError: They are not; `from_tree` adds file, line and section to the message.
    """
    if not condition:
        raise ValueError(message)


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Check that a value is one of several.

    Args:
        key: For the message.
        value: As the user wrote it.
        choices: At least two.

    Raises:
        ValueError: It is none of them.
    """
    expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
    require(value in choices, f"{key} must be {expected}, not {value!r}")


PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Region:
    """Crop of a template or search region in training.

    Attributes:
        size: Output side in pixels.
        factor: Side of the crop over the square root of the box's area.
        center_jitter, scale_jitter: Jitter of the box around which the crop is cut; see `lib.data.jitter_box`.
        number: Frames of this kind in a sample.
    """

    size: int = 256
    factor: float = 4.0
    center_jitter: float = 0.0
    scale_jitter: float = 0.0
    number: int = 1

    def __post_init__(self) -> None:
        positive = self.size >= 1 and self.factor > 0 and self.number >= 1
        require(positive, f"SIZE {self.size}, FACTOR {self.factor} and NUMBER {self.number} must be positive")
        require(min(self.center_jitter, self.scale_jitter) >= 0, "CENTER_JITTER and SCALE_JITTER must not be negative")


@dataclass(frozen=True)
class Augment:
    """Augmentation of training pictures; OSTrack's values.

    Attributes:
        grey, mirror: Probabilities for the whole sample.
        crop_flip: Probability for each crop by itself.
        brightness: Each crop's factor is drawn from 1 - BRIGHTNESS .. 1 + BRIGHTNESS.
        grey_rule: Pictures that become grey. `rgb_only`: of frames without a second picture, as SDSTrack was trained;
            `rgb`: the RGB picture of every frame; `rgb_and_equal_aux`: that, and the second picture where it equals the
            first, as CSTrack was trained.
        transforms: Further changes, such as {TYPE: saturation, SPREAD: 0.2}; names of `lib.data.AUGMENTATIONS`.
    """

    grey: float = 0.05
    mirror: float = 0.5
    crop_flip: float = 0.5
    brightness: float = 0.2
    grey_rule: str = "rgb_only"
    transforms: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        shares = (self.grey, self.mirror, self.crop_flip, self.brightness)
        require(all(0 <= s <= 1 for s in shares), "GREY, MIRROR, CROP_FLIP and BRIGHTNESS must lie in 0..1")
        require_choice("GREY_RULE", self.grey_rule, ("rgb_only", "rgb", "rgb_and_equal_aux"))


@dataclass(frozen=True)
class DataMix:
    """A mixture of data sets.

    Attributes:
        datasets_name: Names of the data sets; published files write `[null]` for none.
        datasets_ratio: Weights by which they are drawn.
        sample_per_epoch: Samples of an epoch, over all processes.
    """

    datasets_name: tuple[str | None, ...] = ()
    datasets_ratio: tuple[float, ...] = ()
    sample_per_epoch: int = 0

    def __post_init__(self) -> None:
        names, ratios = len(self.datasets_name), len(self.datasets_ratio)
        found = f"DATASETS_NAME has {names} entries and DATASETS_RATIO {ratios}"
        require(names == ratios, f"{found}; one ratio per data set is expected")

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets without `null`."""
        return tuple(n for n in self.datasets_name if n is not None)


@dataclass(frozen=True)
class Data:
    """Training samples, and what tracking shares with them.

    Attributes:
        sampler_mode: Choice of the frames of a sample; a name of `lib.data.FRAME_SAMPLERS`.
        multi_modal_vision: Frames of plain RGB sets show their picture twice, as RGB and as the second modality; needed
            where RGB and RGB-X sets are mixed.
        augment: Augmentation.
        box_unit: Boxes are divided by the crop's side (`size`), or by one pixel less (`size_minus_one`, CSTrack).
        reject_all_padding: Crops that show nothing but padding are drawn again.
        crop_style: Geometry of crops and content beyond the image's border, in training and in tracking; a name of
            `lib.data.CROP_STYLES`, such as `area` (OSTrack) or `context` (TransT).
        masks: Samples carry the masks of the targets.
        collate: Function that makes a batch of samples; a name of `lib.data.COLLATES`.
        channels: Order in which the network reads a picture, RGB or BGR; MEAN and STD are in this order.
        mean, std: Normalisation, per channel of values in 0..1.
        max_sample_interval: Largest distance of template and search frames in frames.
        search, template: Their crops.
        train, val: The mixtures of data sets.
    """

    sampler_mode: str = "causal"
    multi_modal_vision: bool = False
    augment: Augment = Augment()
    box_unit: str = "size"
    reject_all_padding: bool = True
    crop_style: str = "area"
    masks: bool = False
    collate: str = "stack"
    channels: str = "RGB"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    max_sample_interval: int | tuple[int, ...] = 200
    search: Region = Region(number=1)
    template: Region = Region(size=128, factor=2.0)
    train: DataMix = DataMix()
    val: DataMix = DataMix()

    def __post_init__(self) -> None:
        require_choice("BOX_UNIT", self.box_unit, ("size", "size_minus_one"))
        require_choice("CHANNELS", self.channels, ("RGB", "BGR"))


@dataclass(frozen=True)
class Model:
    """Parts of a network.

    Attributes:
        pretrain_file: Weights to begin with; see `lib.models.locate` for where they are looked for.
        backbone, head: Registered parts.
    """

    pretrain_file: str = ""
    backbone: Part = Part("vit_base_patch16_224")
    head: Part = Part("CENTER")


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the epochs; see `lib.train.schedule.lr_factor`.

    Attributes:
        type: Kind of decay.
        decay_rate: Factor of `step` with USE_DECAY_RATE.
        milestones, gamma: Epochs after which `Mstep` multiplies by GAMMA.
        warmup_epochs: Length of the warm-up.
        min_lr_ratio: Share of the base rate at which `cosine` and `log` end.
        use_decay_rate: `step` multiplies by DECAY_RATE; without it by 0.1, as OSTrack's published files are read.
        warmup_type: `ramp` (by the step), or by the epoch from WARMUP_RATIO on: `linear`, `log`, `step`.
        warmup_ratio: Share of the base rate in the first epoch of such a warm-up.
    """

    type: str = "step"
    decay_rate: float = 0.1
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    min_lr_ratio: float = 0.0
    use_decay_rate: bool = False
    warmup_type: str = "ramp"
    warmup_ratio: float = 0.1


@dataclass(frozen=True)
class ParamGroup:
    """Optimiser settings of some parameters.

    Attributes:
        pattern: Regular expression for their names; the first group that matches wins.
        lr_multiplier: Factor of TRAIN.LR.
        weight_decay: Of these parameters; None for TRAIN.WEIGHT_DECAY.
        freeze: They are not trained.
    """

    pattern: str
    lr_multiplier: float = 1.0
    weight_decay: float | None = None
    freeze: bool = False


@dataclass(frozen=True)
class TrainPhase:
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

    epochs: int | None = None
    start_epoch: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    optimizer: str | None = None
    momentum: float | None = None
    backbone_multiplier: float | None = None
    lr_drop_epoch: int | None = None
    grad_clip_norm: float | None = None
    fix_bn: bool | None = None
    scheduler: Schedule | None = None
    param_groups: tuple[ParamGroup, ...] | None = None
    eval_modules: tuple[str, ...] = ()
    continue_schedule: bool = False


@dataclass(frozen=True)
class Train:
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
        freeze_layers: Layers of the backbone that are not trained, as published files list them.
        print_interval: Steps between lines of the log.
        val_epoch_interval: Epochs between validations.
        grad_clip_norm: Largest norm of the gradient; 0 for no clipping.
        amp: As `precision: fp16`, in published files.
        scheduler: Learning rate over the epochs.
        drop_path_rate: Stochastic depth of the backbone.
        fix_bn: Batch norms stay in evaluation mode.
        precision: fp32, bf16 or fp16.
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

    lr: float = 1e-4
    weight_decay: float = 1e-4
    epoch: int = 500
    lr_drop_epoch: int = 400
    batch_size: int = 16
    num_worker: int = 8
    optimizer: str = "ADAMW"
    backbone_multiplier: float = 0.1
    giou_weight: float = 2.0
    l1_weight: float = 5.0
    freeze_layers: tuple[int, ...] = (0,)
    print_interval: int = 50
    val_epoch_interval: int = 20
    grad_clip_norm: float = 0.1
    amp: bool = False
    scheduler: Schedule = Schedule()
    drop_path_rate: float = 0.1
    fix_bn: bool = False
    precision: str = "fp32"
    accumulate: int = 1
    param_groups: tuple[ParamGroup, ...] = ()
    seed: int = 42
    save_epoch_interval: int = 40
    save_epochs: tuple[int, ...] = (79, 159, 239)
    save_last_n_epoch: int = 5
    state_interval_seconds: float = 600.0
    state_interval_steps: int = 0
    max_bad_samples: float = 0.01
    compile: bool = False
    momentum: float = 0.9
    sum_gradients: bool = False
    on_nonfinite: str = "raise"
    max_loss: float = 0.0
    max_skipped: int = 10
    phases: tuple[TrainPhase, ...] = ()

    def __post_init__(self) -> None:
        require_choice("PRECISION", self.precision, PRECISIONS)
        require_choice("ON_NONFINITE", self.on_nonfinite, ("raise", "skip"))
        least = min(self.epoch, self.batch_size, self.accumulate)
        require(least >= 1, "EPOCH, BATCH_SIZE and ACCUMULATE must be at least 1")


@dataclass(frozen=True)
class Test:
    """Settings of a tracker.

    Attributes:
        template_factor, search_factor: Side of a crop over the square root of the box's area.
        template_size, search_size: Sides of the resized crops in pixels.
        epoch: Epoch whose checkpoint is tested.
        by_benchmark: Benchmark, as ``--dataset`` takes it in capitals -> TEST settings that hold on this benchmark.
    """

    template_factor: float = 2.0
    template_size: int = 128
    search_factor: float = 4.0
    search_size: int = 256
    epoch: int = 500
    by_benchmark: Tree = field(default_factory=Tree, metadata={"section": True})

    def for_benchmark(self: T, benchmark: str | None) -> T:
        """The section with the BY_BENCHMARK settings of one benchmark laid over it.

        Args:
            benchmark: Name as ``--dataset`` takes it, in any case; None for none.

        Raises:
            ConfigError: Names file, line and key of a setting that does not fit the section.
        """
        name = {name.lower(): name for name in self.by_benchmark.values}.get((benchmark or "").lower())
        if name is None:
            return self
        over, path = self.by_benchmark.values[name], f"TEST.BY_BENCHMARK.{name}"
        if not isinstance(over, Tree):
            raise ConfigError(f"{self.by_benchmark.where[name]}: {path}: expected a mapping of keys, found {over!r}")
        tree = Tree.of(as_plain(self), "TEST")
        tree.merge(over)
        return from_tree(type(self), tree, f"{path}.")


@dataclass(frozen=True)
class Teacher:
    """Another experiment whose trained network teaches this one.

    DATA describes the teacher's crops; the student's sizes are TEST.SEARCH_SIZE and TEST.TEMPLATE_SIZE.

    Attributes:
        script, config: The experiment.
        checkpoint: Its weights; see `lib.models.locate`. Empty: those of its trained network.
        precision: Of the teacher's forward pass.
    """

    script: str
    config: str
    checkpoint: str = ""
    precision: str = "fp32"

    def __post_init__(self) -> None:
        require_choice("PRECISION", self.precision, PRECISIONS)


@dataclass(frozen=True)
class KD:
    """Losses of a student against its teacher; LoReTrack's values (weights 0.75 and 0.25 under the GOT-10k protocol).

    Attributes:
        temperature: Of the softmax over channels.
        layers: Blocks whose queries, keys and values are compared, -1 the last.
        saliency_threshold: Mean square of the teacher's feature from which a position counts as foreground.
        foreground_weight, background_weight: Weights of the two kinds of positions.
        disc_weight, qkv_weight: Weights of the two losses; 0 leaves one out.
    """

    temperature: float = 4.0
    layers: tuple[int, ...] = (-1,)
    saliency_threshold: float = 0.2
    foreground_weight: float = 0.6
    background_weight: float = 0.4
    disc_weight: float = 0.01
    qkv_weight: float = 0.01

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"TEMPERATURE {self.temperature} must be positive")
        least = min(self.foreground_weight, self.background_weight, self.disc_weight, self.qkv_weight)
        keys = "FOREGROUND_WEIGHT, BACKGROUND_WEIGHT, DISC_WEIGHT and QKV_WEIGHT"
        require(least >= 0, f"{keys} must not be negative")


@dataclass(frozen=True)
class Init:
    """Weights of an earlier stage to begin with, in place of MODEL.PRETRAIN_FILE.

    Attributes:
        script, config: The experiment of the earlier stage.
        checkpoint: Its weights; see `lib.models.locate`. Empty: those of its trained network.
    """

    script: str = ""
    config: str = ""
    checkpoint: str = ""

    def __post_init__(self) -> None:
        named = self.checkpoint or (self.script and self.config)
        require(bool(named), "INIT must name a CHECKPOINT, or a SCRIPT and its CONFIG")


@dataclass(frozen=True)
class SLT:
    """Sequence-level training on roll-outs of the tracker; published values (Kim et al., ECCV 2022).

    TRAIN.BATCH_SIZE and DATA.TRAIN.SAMPLE_PER_EPOCH count clips.

    Attributes:
        start: Weights to begin with: a file, also in the `pretrained` folder, loaded strictly; empty:
            MODEL.PRETRAIN_FILE, --load or --script_prv.
        frames: Per clip; the first one gives the box only.
        micro_batch: Clips per backward pass, 0 for all.
        average: Gradients of these passes are averaged, not added up.
        clip_sampler: Choice of the frames of a clip, a name of `lib.data.CLIP_SAMPLERS`.
        max_gap, max_interval, interval_prob, reverse: See `lib.data.VisibleClipSampler`.
        mirror, grey: Probabilities, for a whole clip.
        temperature, epsilon: Of the default policy; may be given in POLICY too.
        policy: {TYPE: softmax_logit} (the default), softmax of TEMPERATURE * logit of windowed scores kept EPSILON off
            0 and 1, or another one of `lib.objectives.POLICIES`.
        policy_weight: Of the policy's loss, which is added to the method's box losses by their TRAIN weights.
    """

    start: str = ""
    frames: int = 24
    micro_batch: int = 2
    average: bool = False
    clip_sampler: str = "visible"
    max_gap: int = 300
    max_interval: int = 10
    interval_prob: float = 0.3
    reverse: float = 0.0
    mirror: float = 0.0
    grey: float = 0.0
    temperature: float = 4.0
    epsilon: float = 0.01
    policy: Part | None = field(default=None, metadata={"section": True})
    policy_weight: float = 15.0

    def __post_init__(self) -> None:
        counts = self.frames >= 2 and self.micro_batch >= 0 and self.max_interval >= 1
        require(counts, "FRAMES must be at least 2, MAX_INTERVAL at least 1, MICRO_BATCH not negative")
        shares = (self.interval_prob, self.reverse, self.mirror, self.grey)
        require(all(0 <= s <= 1 for s in shares), "INTERVAL_PROB, REVERSE, MIRROR and GREY must lie in 0..1")
        policy = f"TEMPERATURE {self.temperature} must be positive, EPSILON {self.epsilon} in 0..0.5"
        require(self.temperature > 0 and 0 < self.epsilon < 0.5, policy)


@dataclass(frozen=True)
class Config:
    """A whole experiment.

    Attributes:
        data, model, train, test: Sections that every experiment has.
        teacher, kd: For distillation, of any method with a one-stream network.
        slt: For sequence-level training, of any method whose tracker has the stages of a step.
        init: For training that begins with the weights of another experiment.
        published: Benchmark, as ``--dataset`` takes it in capitals -> label of a score -> figure in percent of the
            publication, which tables show beside what is measured. It describes this file alone: a file that has it as
            BASE does not inherit it, and no hash of a configuration changes with it.
    """

    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    test: Test = Test()
    teacher: Teacher | None = field(default=None, metadata={"section": True})
    kd: KD | None = field(default=None, metadata={"section": True})
    slt: SLT | None = field(default=None, metadata={"section": True})
    init: Init | None = field(default=None, metadata={"section": True})
    published: dict[str, dict[str, float]] = field(default_factory=dict, metadata={"remark": True})

    def __post_init__(self) -> None:
        for benchmark, figures in self.published.items():
            for label, value in figures.items():
                found = f"PUBLISHED.{benchmark}.{label} is {value}"
                require(0 <= value <= 100, f"{found}; a figure in percent is expected, 0..100")
        require(self.kd is None or self.teacher is not None, "KD is given without a TEACHER")
        both = self.slt is not None and self.teacher is not None
        require(not both, "SLT and TEACHER are given; sequence-level training cannot be joined by a teacher")


INERT_KEYS = {
    f"MODEL.{name}": InertKey("published files switch it off", usual=(off,), refused=True)
    for name, off in (("EXTRA_MERGER", False), ("RETURN_INTER", False), ("RETURN_STAGES", []))
}
"""Keys of the OSTrack family's files that nothing reads."""
