"""The keys that all methods share, as users of OSTrack write them; a method adds its own by subclassing a section.

Field names are the YAML keys in lower case. Defaults are those of the OSTrack family unless a comment says otherwise.
TRAIN is in `training.py`, sections that an experiment may have (TEACHER, SLT, ...) in `optional.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from lib.config.build import InertKey, Part, Section, as_plain, from_tree, require
from lib.config.optional import KD, SLT, Init, Online, Teacher
from lib.config.training import Train
from lib.config.tree import ConfigError, Tree
from lib.ranges import Choice, Count, CountOrNone, NotNegative, Positive, Range, Ratio, Share, Side

T = TypeVar("T", bound="Test")

Percent = Annotated[float, Range(0, 100)]
GreyRule = Annotated[str, Choice(("rgb_only", "rgb", "rgb_and_equal_aux"))]


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
class Test(Section):
    """Settings of a tracker.

    Attributes:
        template_factor, search_factor: Side of a crop over the square root of the box's area.
        template_size, search_size: Sides of the resized crops in pixels.
        epoch: Epoch whose checkpoint is tested.
        size_momentum: The target's size goes this share, times the confidence, of the way to the size that was found;
            None: All of it, whatever the confidence, as published.
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
