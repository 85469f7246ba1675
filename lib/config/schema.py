"""The keys that all methods share, as users of OSTrack write them; a method adds its own by subclassing a section.

Field names are the YAML keys in lower case. Defaults are those of the OSTrack family unless a comment says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from lib.config.build import InertKey, Part, as_plain, from_tree
from lib.config.tree import ConfigError, Tree


@dataclass(frozen=True)
class Region:
    """Crop of a template or search region in training.

    Attributes:
        size: output side in pixels.
        factor: side of the crop over the square root of the box's area.
        center_jitter, scale_jitter: of the box that is cropped round; see `lib.data.jitter_box`.
        number: frames of this kind in a sample.
    """

    size: int = 256
    factor: float = 4.0
    center_jitter: float = 0.0
    scale_jitter: float = 0.0
    number: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or self.factor <= 0 or self.number < 1:
            raise ValueError(f"SIZE {self.size}, FACTOR {self.factor} and NUMBER {self.number} must be positive")
        if min(self.center_jitter, self.scale_jitter) < 0:
            raise ValueError("CENTER_JITTER and SCALE_JITTER must not be negative")


T = TypeVar("T", bound="Test")

GREY_RULES = ("rgb_only", "rgb", "rgb_and_equal_aux")


@dataclass(frozen=True)
class Augment:
    """Augmentation of training pictures; OSTrack's values.

    Attributes:
        grey, mirror: probabilities for the whole sample.
        crop_flip: probability for each crop by itself.
        brightness: each crop's factor is drawn from 1 - BRIGHTNESS .. 1 + BRIGHTNESS.
        grey_rule: what becomes grey. `rgb_only`: frames without a second picture, as SDSTrack was trained; `rgb`: the
            RGB picture of every frame; `rgb_and_equal_aux`: that, and the second picture where it equals the first, as
            CSTrack was trained.
        transforms: further changes, such as {TYPE: saturation, SPREAD: 0.2}; names of `lib.data.AUGMENTATIONS`.
    """

    grey: float = 0.05
    mirror: float = 0.5
    crop_flip: float = 0.5
    brightness: float = 0.2
    grey_rule: str = "rgb_only"
    transforms: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.grey, self.mirror, self.crop_flip, self.brightness)):
            raise ValueError("GREY, MIRROR, CROP_FLIP and BRIGHTNESS must lie in 0..1")
        if self.grey_rule not in GREY_RULES:
            raise ValueError(f"GREY_RULE must be {', '.join(GREY_RULES[:-1])} or {GREY_RULES[-1]}")


BOX_UNITS = ("size", "size_minus_one")


@dataclass(frozen=True)
class DataMix:
    """A mixture of data sets.

    Attributes:
        datasets_name: names of the data sets; published files write `[null]` for none.
        datasets_ratio: weights by which they are drawn.
        sample_per_epoch: samples of an epoch, over all processes.
    """

    datasets_name: tuple[str | None, ...] = ()
    datasets_ratio: tuple[float, ...] = ()
    sample_per_epoch: int = 0

    def __post_init__(self) -> None:
        if len(self.datasets_ratio) != len(self.datasets_name):
            raise ValueError(
                f"DATASETS_NAME has {len(self.datasets_name)} entries and DATASETS_RATIO {len(self.datasets_ratio)}; "
                "one ratio per data set is expected"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets without `null`."""
        return tuple(n for n in self.datasets_name if n is not None)


@dataclass(frozen=True)
class Data:
    """Training samples, and what tracking shares with them.

    Attributes:
        sampler_mode: which frames make a sample; a name of `lib.data.FRAME_SAMPLERS`.
        multi_modal_vision: frames of plain RGB sets show their picture twice, as RGB and as the second modality; needed
            where RGB and RGB-X sets are mixed.
        augment: augmentation.
        box_unit: boxes are divided by the crop's side (`size`), or by one pixel less (`size_minus_one`, CSTrack).
        reject_all_padding: crops that show nothing but padding are drawn again.
        crop_style: geometry of crops and what surrounds the image, in training and in tracking; a name of
            `lib.data.CROP_STYLES`, such as `area` (OSTrack) or `context` (TransT).
        channels: order in which the network reads a picture, RGB or BGR; MEAN and STD are in this order.
        mean, std: of the normalisation, per channel of values in 0..1.
        masks: samples carry the masks of the targets.
        collate: how samples become a batch; a name of `lib.data.COLLATES`.
        max_sample_interval: how many frames apart template and search frames may lie.
        search, template: their crops.
        train, val: the mixtures of data sets.
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
        if self.box_unit not in BOX_UNITS:
            raise ValueError(f"BOX_UNIT must be {' or '.join(BOX_UNITS)}, not {self.box_unit!r}")
        if self.channels not in ("RGB", "BGR"):
            raise ValueError(f"CHANNELS must be RGB or BGR, not {self.channels!r}")


@dataclass(frozen=True)
class Model:
    """Parts of a network.

    Attributes:
        pretrain_file: weights to begin with; see `lib.models.locate` for where they are looked for.
        backbone, head: registered parts.
    """

    pretrain_file: str = ""
    backbone: Part = Part("vit_base_patch16_224")
    head: Part = Part("CENTER")


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the epochs; see `lib.train.schedule.lr_factor` for the types.

    USE_DECAY_RATE: `step` multiplies by DECAY_RATE; without it by 0.1, as OSTrack's published files are read.
    WARMUP_TYPE: `ramp` (by the step), or by the epoch from WARMUP_RATIO on: `linear`, `log`, `step`.
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
    """Parameters whose name meets `pattern` (regular expression; the first group that meets wins)."""

    pattern: str
    lr_multiplier: float = 1.0
    weight_decay: float | None = None
    freeze: bool = False


@dataclass(frozen=True)
class TrainPhase:
    """One of TRAIN.PHASES: a stretch of epochs with its own optimiser; keys that are left out are those of TRAIN.

    EPOCHS: how many; left out, up to the next phase or the last epoch. START_EPOCH: may state where it begins.
    EVAL_MODULES: regular expressions; modules with such a name stay in evaluation mode. CONTINUE_SCHEDULE: the learning
    rate is that of a schedule over all epochs of the training, not one that counts from the phase's first epoch.
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


ON_NONFINITE = ("raise", "skip")


def _check_precision(name: str) -> None:
    if name not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"PRECISION must be fp32, bf16 or fp16, not {name!r}")


@dataclass(frozen=True)
class Train:
    """How a network learns. BATCH_SIZE is per process, as in published files; the log states the total.

    MOMENTUM: of SGD. SUM_GRADIENTS: gradients of several processes are added up; without it they are averaged.
    ON_NONFINITE: what becomes of a step whose loss or gradient is not finite, or whose loss is above MAX_LOSS (0: no
    bound): `raise` ends the training, `skip` leaves the step out; more than MAX_SKIPPED of them in a row end it, too.
    PHASES: stretches of epochs with an optimiser each; none: one phase.
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
        _check_precision(self.precision)
        if self.on_nonfinite not in ON_NONFINITE:
            raise ValueError(f"ON_NONFINITE must be {' or '.join(ON_NONFINITE)}, not {self.on_nonfinite!r}")
        if min(self.epoch, self.batch_size, self.accumulate) < 1:
            raise ValueError("EPOCH, BATCH_SIZE and ACCUMULATE must be at least 1")


@dataclass(frozen=True)
class Test:
    """Settings of a tracker.

    Attributes:
        template_factor, search_factor: side of a crop over the square root of the box's area.
        template_size, search_size: sides of the resized crops in pixels.
        epoch: which checkpoint is tested.
        by_benchmark: benchmark, as ``--dataset`` takes it in capitals -> TEST settings that hold on this benchmark.
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
            benchmark: name as ``--dataset`` takes it, in any case; None for none.

        Raises:
            ConfigError: names file, line and key of a setting that does not fit the section.
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
        script, config: the experiment.
        checkpoint: its weights; see `lib.models.locate`. Empty: those of its trained network.
        precision: of the teacher's forward pass.
    """

    script: str
    config: str
    checkpoint: str = ""
    precision: str = "fp32"

    def __post_init__(self) -> None:
        _check_precision(self.precision)


@dataclass(frozen=True)
class KD:
    """Losses of a student against its teacher; LoReTrack's values (weights 0.75 and 0.25 under the GOT-10k protocol).

    Attributes:
        temperature: of the softmax over channels.
        layers: blocks whose queries, keys and values are compared, -1 the last.
        saliency_threshold: mean square of the teacher's feature from which a position counts as foreground.
        foreground_weight, background_weight: of the two kinds of positions.
        disc_weight, qkv_weight: of the two losses; 0 leaves one out.
    """

    temperature: float = 4.0
    layers: tuple[int, ...] = (-1,)
    saliency_threshold: float = 0.2
    foreground_weight: float = 0.6
    background_weight: float = 0.4
    disc_weight: float = 0.01
    qkv_weight: float = 0.01

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"TEMPERATURE {self.temperature} must be positive")
        weights = (self.foreground_weight, self.background_weight, self.disc_weight, self.qkv_weight)
        if min(weights) < 0:
            raise ValueError("FOREGROUND_WEIGHT, BACKGROUND_WEIGHT, DISC_WEIGHT and QKV_WEIGHT must not be negative")


@dataclass(frozen=True)
class Init:
    """Weights of an earlier stage to begin with, in place of MODEL.PRETRAIN_FILE.

    Attributes:
        script, config: the experiment of the earlier stage.
        checkpoint: its weights; see `lib.models.locate`. Empty: those of its trained network.
    """

    script: str = ""
    config: str = ""
    checkpoint: str = ""

    def __post_init__(self) -> None:
        if not self.checkpoint and not (self.script and self.config):
            raise ValueError("INIT must name a CHECKPOINT, or a SCRIPT and its CONFIG")


@dataclass(frozen=True)
class SLT:
    """Sequence-level training: the network learns from what its tracker's decisions lead to. Published values.

    TRAIN.BATCH_SIZE counts clips then, and DATA.TRAIN.SAMPLE_PER_EPOCH too. START: weights to begin with, a file, also
    in the `pretrained` folder, loaded strictly; empty: MODEL.PRETRAIN_FILE, --load or --script_prv.
    FRAMES: per clip; the first one gives the box only. MICRO_BATCH: clips per backward pass, 0 for all; AVERAGE: their
    gradients are averaged, not added up.
    CLIP_SAMPLER: which frames make a clip, a name of `lib.data.CLIP_SAMPLERS`; MAX_GAP, MAX_INTERVAL, INTERVAL_PROB,
    REVERSE: see `lib.data.clips.VisibleClipSampler`. MIRROR, GREY: probabilities, for a whole clip.
    POLICY: {TYPE: softmax_logit} (the default), softmax of TEMPERATURE * logit of windowed scores kept EPSILON off 0
    and 1, or another one of `lib.objectives.POLICIES`; TEMPERATURE and EPSILON may be given here or in POLICY.
    POLICY_WEIGHT: of its loss, beside the method's own box losses by their TRAIN weights.
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
        if self.frames < 2 or self.micro_batch < 0 or self.max_interval < 1:
            raise ValueError("FRAMES must be at least 2, MAX_INTERVAL at least 1, MICRO_BATCH not negative")
        if not all(0 <= share <= 1 for share in (self.interval_prob, self.reverse, self.mirror, self.grey)):
            raise ValueError("INTERVAL_PROB, REVERSE, MIRROR and GREY must lie in 0..1")
        if self.temperature <= 0 or not 0 < self.epsilon < 0.5:
            raise ValueError(f"TEMPERATURE {self.temperature} must be positive, EPSILON {self.epsilon} in 0..0.5")


@dataclass(frozen=True)
class Config:
    """A whole experiment.

    Attributes:
        data, model, train, test: sections that every experiment has.
        teacher, kd: for distillation, of any method with a one-stream network.
        slt: for sequence-level training, of any method whose tracker has the stages of a step.
        init: for training that begins with the weights of another experiment.
    """

    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    test: Test = Test()
    teacher: Teacher | None = field(default=None, metadata={"section": True})
    kd: KD | None = field(default=None, metadata={"section": True})
    slt: SLT | None = field(default=None, metadata={"section": True})
    init: Init | None = field(default=None, metadata={"section": True})

    def __post_init__(self) -> None:
        if self.kd is not None and self.teacher is None:
            raise ValueError("KD is given without a TEACHER")
        if self.slt is not None and self.teacher is not None:
            raise ValueError("SLT and TEACHER are given; sequence-level training cannot be joined by a teacher")


INERT_KEYS = {
    f"MODEL.{name}": InertKey("published files switch it off", usual=(off,), refused=True)
    for name, off in (("EXTRA_MERGER", False), ("RETURN_INTER", False), ("RETURN_STAGES", []))
}
"""Keys of the OSTrack family's files that nothing reads."""
