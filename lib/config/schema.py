"""The keys that all methods share, as users of OSTrack write them; a method adds its own by subclassing a section.

Field names are the YAML keys in lower case. Defaults are those of the OSTrack family unless a comment says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from lib.config.build import InertKey, Part, Section, as_plain, from_tree, require
from lib.config.tree import ConfigError, Tree
from lib.ranges import Choice, Count, CountOrNone, NotNegative, Positive, Range, Rate, Ratio, Share, Side

T = TypeVar("T", bound="Test")


Precision = Annotated[str, Choice(("fp32", "bf16", "fp16"))]
Percent = Annotated[float, Range(0, 100)]
GreyRule = Annotated[str, Choice(("rgb_only", "rgb", "rgb_and_equal_aux"))]
Optimizer = Annotated[str, Choice(("ADAMW", "ADAM", "SGD"), any_case=True)]
Decay = Annotated[str, Choice(("step", "Mstep", "cosine", "log"), any_case=True)]
Warmup = Annotated[str, Choice(("ramp", "linear", "log", "step"))]


@dataclass(frozen=True)
class Region(Section):
    """Crop of a template or search region in training.

    Attributes:
        size: Output side in pixels.
        factor: Side of the crop over the square root of the box's area.
        center_jitter, scale_jitter, scale_bias: Jitter of the box around which the crop is cut; see
            `lib.data.jitter_box`. A tracker whose boxes are too large sees search regions with a bias above 0.
        number: Frames of this kind in a sample.
    """

    size: Side = 256
    factor: Positive = 4.0
    center_jitter: NotNegative = 0.0
    scale_jitter: NotNegative = 0.0
    scale_bias: Annotated[float, Range(-2, 2)] = 0.0
    number: Count = 1


@dataclass(frozen=True)
class Augment(Section):
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

    grey: Share = 0.05
    mirror: Share = 0.5
    crop_flip: Share = 0.5
    brightness: Share = 0.2
    grey_rule: GreyRule = "rgb_only"
    transforms: tuple[Part, ...] = ()


@dataclass(frozen=True)
class DataMix(Section):
    """A mixture of data sets.

    Attributes:
        datasets_name: Names of the data sets; published files write `[null]` for none.
        datasets_ratio: Weights by which they are drawn.
        sample_per_epoch: Samples of an epoch, over all processes.
    """

    datasets_name: tuple[str | None, ...] = ()
    datasets_ratio: tuple[NotNegative, ...] = ()
    sample_per_epoch: CountOrNone = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        names, ratios = len(self.datasets_name), len(self.datasets_ratio)
        found = f"DATASETS_NAME has {names} entries and DATASETS_RATIO {ratios}"
        require(names == ratios, f"{found}; one ratio per data set is expected")

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets without `null`."""
        return tuple(n for n in self.datasets_name if n is not None)


@dataclass(frozen=True)
class Data(Section):
    """Training samples, and what tracking shares with them.

    Attributes:
        sampler_mode: Choice of the frames of a sample; a name of `lib.data.FRAME_SAMPLERS`.
        multi_modal_vision: Frames of plain RGB sets show their picture twice, as RGB and as the second modality; needed
            where RGB and RGB-X sets are mixed.
        augment: Augmentation.
        box_unit: Boxes are divided by the crop's side (`size`), or by one pixel less (`size_minus_one`, CSTrack).
        reject_all_padding: Crops that show nothing but padding are drawn again.
        crop_style: Geometry of crops and content beyond the image's border, in training and in tracking; a part of
            `lib.data.CROP_STYLES`, such as `area` (OSTrack), `context` (TransT) or {TYPE: pysot, CONTEXT_AMOUNT: 0.3}.
        masks: Samples carry the masks of the targets.
        negative_pairs: Share of pairs whose search frame shows another target, in sampler modes that draw some.
        clip_colours: Changed colours are kept in 0..255.
        collate: Function that makes a batch of samples; a name of `lib.data.COLLATES`.
        channels: Order in which the network reads a picture, RGB or BGR; MEAN and STD are in this order.
        mean, std: Normalisation, per channel of values in 0..1.
        max_sample_interval: Largest distance of template and search frames in frames.
        interval_by_dataset: The same for some data sets, by their key (``YOUTUBE_VOS``); sampler `pair`.
        video_quality: Sampler `quality`: videos of pseudo labels below this quality are exchanged for better ones.
        max_corner_share: Sampler `quality`: so are those with this share of boxes at the picture's margin, or more.
        frame_quality: Sampler `quality`: the quality of a frame counts the length of its smooth window (`long`) or not.
        search, template: Their crops.
        train, val: The mixtures of data sets.
    """

    sampler_mode: str = "causal"
    multi_modal_vision: bool = False
    augment: Augment = Augment()
    box_unit: Annotated[str, Choice(("size", "size_minus_one"))] = "size"
    reject_all_padding: bool = True
    crop_style: Part = Part("area")
    masks: bool = False
    negative_pairs: Share = 0.0
    clip_colours: bool = True
    collate: str = "stack"
    channels: Annotated[str, Choice(("RGB", "BGR"))] = "RGB"
    mean: tuple[Share, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    max_sample_interval: Count | tuple[Count, ...] = 200
    interval_by_dataset: dict[str, Count] = field(default_factory=dict, metadata={"section": True})
    video_quality: Share = 0.4
    max_corner_share: Share = 0.25
    frame_quality: Annotated[str, Choice(("long", "short"))] = "long"
    search: Region = Region(number=1)
    template: Region = Region(size=128, factor=2.0)
    train: DataMix = DataMix()
    val: DataMix = DataMix()

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, values in (("MEAN", self.mean), ("STD", self.std)):
            require(len(values) in (3, 6), f"{key} needs 3 or 6 values, one per channel, not {len(values)}")


@dataclass(frozen=True)
class Model(Section):
    """Parts of a network.

    Attributes:
        pretrain_file: Weights to begin with; see `lib.models.locate` for where they are looked for.
        backbone, head: Registered parts.
    """

    pretrain_file: str = ""
    backbone: Part = Part("vit_base_patch16_224")
    head: Part = Part("CENTER")


@dataclass(frozen=True)
class OwnHeadsModel(Model):
    """MODEL of a method whose heads belong to it, so that HEAD cannot be chosen."""

    def __post_init__(self) -> None:
        super().__post_init__()
        method = type(self).__name__.removesuffix("Model")
        require(self.head == Model.head, f"HEAD is not {method}'s to choose: its heads belong to it; leave HEAD out")


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
    precision: Precision = "fp32"
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


@dataclass(frozen=True)
class Test(Section):
    """Settings of a tracker.

    Attributes:
        template_factor, search_factor: Side of a crop over the square root of the box's area.
        template_size, search_size: Sides of the resized crops in pixels.
        epoch: Epoch whose checkpoint is tested.
        size_momentum: The target's size goes this share, times the confidence, of the way to the size that was found;
            None: all of it, whatever the confidence, as published.
        by_benchmark: Benchmark, as ``--dataset`` takes it in capitals -> TEST settings that hold on this benchmark.
    """

    template_factor: Positive = 2.0
    template_size: Side = 128
    search_factor: Positive = 4.0
    search_size: Side = 256
    epoch: CountOrNone = 500
    size_momentum: Ratio | None = None
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
        for key in ("EPOCH", "BY_BENCHMARK"):
            if key in over.values:
                raise ConfigError(f"{over.where[key]}: {path}.{key} has no effect, since it is one for all benchmarks")
        tree = Tree.of(as_plain(self), "TEST")
        tree.merge(over)
        return from_tree(type(self), tree, f"{path}.")


@dataclass(frozen=True)
class Teacher(Section):
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
    precision: Precision = "fp32"


@dataclass(frozen=True)
class KD(Section):
    """Losses of a student against its teacher; LoReTrack's values (weights 0.75 and 0.25 under the GOT-10k protocol).

    Attributes:
        temperature: Of the softmax over channels.
        layers: Blocks whose queries, keys and values are compared, -1 the last.
        saliency_threshold: Mean square of the teacher's feature from which a position counts as foreground.
        foreground_weight, background_weight: Weights of the two kinds of positions.
        disc_weight, qkv_weight: Weights of the two losses; 0 leaves one out.
    """

    temperature: Positive = 4.0
    layers: tuple[Annotated[int, Range(-1000, 999)], ...] = (-1,)
    saliency_threshold: NotNegative = 0.2
    foreground_weight: NotNegative = 0.6
    background_weight: NotNegative = 0.4
    disc_weight: NotNegative = 0.01
    qkv_weight: NotNegative = 0.01


@dataclass(frozen=True)
class Init(Section):
    """Weights of an earlier stage to begin with, in place of MODEL.PRETRAIN_FILE.

    Attributes:
        script, config: The experiment of the earlier stage.
        checkpoint: Its weights; see `lib.models.locate`. Empty: those of its trained network.
    """

    script: str = ""
    config: str = ""
    checkpoint: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.checkpoint or (self.script and self.config)
        require(bool(named), "needs a CHECKPOINT, or a SCRIPT and its CONFIG")


@dataclass(frozen=True)
class Copies(Section):
    """Augmentation of the copies that fill up a clip; SLT-SiamAttn's values.

    Attributes:
        shift: Largest movement, in units of the picture's mean side, or of the sum of the box's sides if that is less.
        scale: Largest change of the shown window's sides, as a share.
        blur, colour: Probabilities of the blur and the change of colours of PySOT.
    """

    shift: NotNegative = 0.1
    scale: Rate = 0.2
    blur: Share = 0.2
    colour: Share = 0.5


@dataclass(frozen=True)
class SLT(Section):
    """Sequence-level training on roll-outs of the tracker; published values (Kim et al., ECCV 2022).

    TRAIN.BATCH_SIZE and DATA.TRAIN.SAMPLE_PER_EPOCH count clips.

    Attributes:
        start: Weights to begin with: a file, also in the `pretrained` folder, loaded strictly; empty:
            MODEL.PRETRAIN_FILE, --load or --script_prv.
        frames: Per clip; the first one gives the box only.
        micro_batch: Clips whose losses are averaged, in one backward pass; 0 for all.
        clips_per_pass: Fewer clips of a micro-batch per backward pass: the same gradient in less memory.
        micro_frames: Frames per backward pass in place of MICRO_BATCH, taken from all clips frame by frame; gradients
            are averaged over all frames. 0: passes count clips.
        average: Gradients of these passes are averaged, not added up.
        clip_sampler: Choice of the frames of a clip, a name of `lib.data.CLIP_SAMPLERS`.
        max_gap, max_interval, interval_prob, reverse: See `lib.data.VisibleClipSampler`.
        template_gap, interval_mode: See `lib.data.AnnotatedClipSampler`.
        copies_teach: Copies that fill up short clips teach boxes too, without a reward (SLT-SiamRPN++).
        copies: Copies that fill up short clips are augmented, and count as frames (SLT-SiamAttn).
        mirror, grey: Probabilities, for a whole clip.
        temperature, epsilon: Of the default policy; may be given in POLICY too.
        policy: {TYPE: softmax_logit} (the default), softmax of TEMPERATURE * logit of windowed scores kept EPSILON off
            0 and 1, or another one of `lib.objectives.POLICIES`.
        policy_weight: Of the policy's loss, which is added to the method's box losses by their TRAIN weights.
        initial_weight, iterate_weight: Of the policy's loss under the initial filter, and under those between it and
            the last one, which share theirs; for trackers that learn a filter in steps.
    """

    start: str = ""
    frames: Annotated[int, Range(2)] = 24
    micro_batch: CountOrNone = 2
    clips_per_pass: Count | None = field(default=None, metadata={"section": True})
    micro_frames: CountOrNone = 0
    average: bool = False
    clip_sampler: str = "visible"
    max_gap: Annotated[int, Range(-1)] = 300
    max_interval: Count = 10
    interval_prob: Share = 0.3
    template_gap: Annotated[int, Range(-1)] = -1
    interval_mode: Annotated[str, Choice(("random", "uniform"))] = "random"
    copies_teach: bool = False
    copies: Copies | None = field(default=None, metadata={"section": True})
    reverse: Share = 0.0
    mirror: Share = 0.0
    grey: Share = 0.0
    temperature: Positive = 4.0
    epsilon: Annotated[float, Range(0, 0.5, above=True, below=True)] = 0.01
    policy: Part | None = field(default=None, metadata={"section": True})
    policy_weight: NotNegative = 15.0
    initial_weight: NotNegative | None = field(default=None, metadata={"section": True})
    iterate_weight: NotNegative | None = field(default=None, metadata={"section": True})


@dataclass(frozen=True)
class Online(Section):
    """A filter that a one-stream tracker learns while it tracks, on the features that its head reads.

    Attributes:
        mix: The scores are (1 - WEIGHT) * head + WEIGHT * filter (`sum`), or head * (1 - WEIGHT + WEIGHT * filter)
            (`product`), by which a filter can only take a place away.
        weight: Share of the filter.
        filter_size: Cells along a side of the filter, odd.
        label_sigma: Deviation of its label around the target in cells.
        init_shift: Distance of the further search regions from the first target, in units of its mean side.
        init_iterations: Steps of the optimisation in the first frame.
        iterations, train_skipping: Steps in every TRAIN_SKIPPING-th frame.
        threshold: Least confidence of a frame that becomes a sample.
        sample_memory_size, learning_rate, init_samples_minimum_weight: See `lib.track.MemoryRules`.
    """

    mix: Annotated[str, Choice(("sum", "product"))] = "sum"
    weight: Share = 0.3
    filter_size: Annotated[int, Range(1, 15)] = 3
    label_sigma: Positive = 0.75
    init_shift: NotNegative = 1.0
    init_iterations: Count = 20
    iterations: Count = 2
    train_skipping: Count = 5
    threshold: Share = 0.3
    sample_memory_size: Annotated[int, Range(10)] = 50
    learning_rate: Rate = 0.01
    init_samples_minimum_weight: Share = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.filter_size % 2 == 1, f"FILTER_SIZE must be odd, not {self.filter_size}")


@dataclass(frozen=True)
class Config(Section):
    """A whole experiment.

    Attributes:
        data, model, train, test: Sections that every experiment has.
        teacher, kd: For distillation, of any method with a one-stream network.
        slt: For sequence-level training, of any method whose tracker has the stages of a step.
        init: For training that begins with the weights of another experiment.
        online: For tracking with a filter that is learned on the way, by any one-stream tracker.
        published: Benchmark, as ``--dataset`` takes it in capitals -> label of a score -> figure in percent of the
            publication, which tables show next to what is measured. It describes this file alone: a file that has it as
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
    online: Online | None = field(default=None, metadata={"section": True})
    published: dict[str, dict[str, Percent]] = field(default_factory=dict, metadata={"remark": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kd is None or self.teacher is not None, "KD is given without a TEACHER")
        both = self.slt is not None and self.teacher is not None
        require(not both, "SLT and TEACHER are given; sequence-level training cannot be joined by a teacher")


INERT_KEYS = {
    **{
        f"MODEL.{name}": InertKey("published files switch it off", usual=(off,), refused=True)
        for name, off in (("EXTRA_MERGER", False), ("RETURN_INTER", False), ("RETURN_STAGES", []))
    },
    "TRAIN.FREEZE_LAYERS": InertKey("published training reads it nowhere; TRAIN.PARAM_GROUPS freezes", usual=([0],)),
    "META_ARC": InertKey("PySOT's files have other keys; the files in experiments/ hold their settings", refused=True),
}
"""Keys of published files that nothing reads."""
