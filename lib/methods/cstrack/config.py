"""Keys of CSTrack configuration files; defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from lib.config import ConfigError, InertKey, ParamGroup, Part, Tree, require, schema
from lib.methods.common import with_param_groups
from lib.ranges import Choice, Count, CountOrNone, NotNegative, Range, Share

PUBLISHED_NAMES = {"LasHeR_train": "LasHeR_train:882"}
"""Data sets that published files mean by a name: a list of 882 sequences of LasHeR, not all 979."""
DEFAULT = "DEFAULT"


@dataclass(frozen=True)
class CSTrackData(schema.Data):
    """Frames in order, RGB sets with their picture as aux, boxes in units of the crop's side less one pixel.

    A picture that is made grey takes its equal second picture with it.
    """

    sampler_mode: str = "order"
    multi_modal_vision: bool = True
    augment: schema.Augment = schema.Augment(grey_rule="rgb_and_equal_aux")
    box_unit: Annotated[str, Choice(("size", "size_minus_one"))] = "size_minus_one"
    reject_all_padding: bool = False
    max_sample_interval: Count | tuple[Count, ...] = 400
    template: schema.Region = schema.Region(size=128, factor=2.0, number=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        count, three = self.template.number, len(self.mean) == len(self.std) == 3
        require(count == 2, f"TEMPLATE.NUMBER must be 2, the first template and the renewed one, not {count}")
        require(three, "MEAN and STD have three values: one stem serves both pictures")


@dataclass(frozen=True)
class CSTrackModel(schema.Model):
    """Parts of CSTrack.

    Attributes:
        hidden_dim: The backbone's width, checked where it is given.
        temporal: With the temporal compact module.
        memory_length, memory_tokens: Entries of its memory, and tokens of an entry.
        nheads, prompts: Of the compact modules.
        class_token: Which class token a file of weights gives: the `trained` one, or the first row of the `position`
            embedding, as the official test code and the official start of stage 2 do; `auto`: `position` for published
            files, `trained` for files of this library.
    """

    hidden_dim: Count | None = None
    backbone: Part = Part("itpn_base")
    temporal: bool = False
    memory_length: Annotated[int, Range(2)] = 4
    memory_tokens: Count = 16
    nheads: Count = 8
    prompts: Count = 4
    class_token: Annotated[str, Choice(("auto", "trained", "position"))] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head.type != "CENTER":
            raise ValueError(f"HEAD must be CENTER, whose maps the confidence head reads, not {self.head.type}")


@dataclass(frozen=True)
class CSTrackTrain(schema.Train):
    """Training of CSTrack.

    Attributes:
        task_weight, confidence_weight: Of the modality's cross-entropy and of the confidence's squared error.
        activation_checkpointing: Blocks of the encoder are computed again in the backward pass, which takes a third
            more time and a fraction of the memory.
    """

    task_weight: NotNegative = 1.0
    confidence_weight: NotNegative = 1.0
    activation_checkpointing: bool = False
    save_epoch_interval: CountOrNone = 10
    save_epochs: tuple[Count, ...] = ()
    save_last_n_epoch: CountOrNone = 10


@dataclass(frozen=True)
class TemplateUpdate:
    """The second template is replaced in every INTERVAL-th frame whose score is above THRESHOLD; INTERVAL 0: never."""

    interval: CountOrNone = 25
    threshold: Share = 0.7


def _published_updates() -> Tree:
    lower = {"UPDATE": {"THRESHOLD": 0.45}}
    return Tree.of({"LASHER": lower, "RGBT234": lower}, "the published settings")


@dataclass(frozen=True)
class CSTrackTest(schema.Test):
    """Settings of the tracker. update: of the second template."""

    update: TemplateUpdate = TemplateUpdate()
    by_benchmark: Tree = field(default_factory=_published_updates, metadata={"section": True})


@dataclass(frozen=True)
class CSTrackConfig(schema.Config):
    """A CSTrack experiment of stage 1, unless MODEL.TEMPORAL says otherwise."""

    data: CSTrackData = CSTrackData()
    model: CSTrackModel = CSTrackModel()
    train: CSTrackTrain = CSTrackTrain()
    test: CSTrackTest = CSTrackTest()

    def __post_init__(self) -> None:
        super().__post_init__()
        begins = self.init is not None or (self.slt is not None and bool(self.slt.start))
        if self.model.temporal and not self.train.param_groups and not begins:
            raise ValueError(
                "MODEL.TEMPORAL trains on a frozen backbone: INIT must say where stage 1 left it, "
                "or TRAIN.PARAM_GROUPS what is trained instead"
            )


@dataclass(frozen=True)
class TemporalConfig(CSTrackConfig):
    """A CSTrack experiment of stage 2, which begins with the weights of stage 1."""

    model: CSTrackModel = CSTrackModel(temporal=True)
    init: schema.Init | None = field(default=schema.Init("cstrack_s1", "cstrack_s1"), metadata={"section": True})


STAGE_2_GROUPS = (ParamGroup("backbone", freeze=True), ParamGroup(".*"))
"""Parameter groups of stage 2. The first pattern meets the spatial compact module too, as published."""

_OTHER_UPDATE = "the published tracker does not read it; TEST.UPDATE and TEST.BY_BENCHMARK say when templates change"
INERT_KEYS = {
    "TRAIN.FIX_BN": InertKey("batch norms learn, as in published training; TRAIN.FREEZE_BN fixes them", usual=(False,)),
    "DATA.MULTI_MODAL_LANGUAGE": InertKey("language is not used", usual=(False,)),
    "TEST.MULTI_MODAL_LANGUAGE": InertKey("language is not used", usual=(False,)),
    "TEST.MULTI_MODAL_VISION": InertKey("DATA.MULTI_MODAL_VISION holds for tracking, too", usual=(True,)),
    "TEST.UPDATE_INTERVALS": InertKey(_OTHER_UPDATE),
    "TEST.UPDATE_THRESHOLD": InertKey(_OTHER_UPDATE),
    "TEST.WINDOW": InertKey("published trackers always use the window", usual=(True,), refused=True),
    "TEST.NUM_TEMPLATES": InertKey("published trackers have two templates", usual=(2,), refused=True),
}


def translate(tree: Tree) -> list[str]:
    """Rewrite published spellings of keys.

    TRAIN.FREEZE_BN is TRAIN.FIX_BN, TRAIN.ENCODER_MULTIPLIER is TRAIN.BACKBONE_MULTIPLIER (and goes before it),
    MODEL.PRETRAINED_PATH is INIT.CHECKPOINT, TEST.UPDATE.<benchmark> is TEST.BY_BENCHMARK.<benchmark>.UPDATE;
    LasHeR_train means a shorter list.

    Args:
        tree: The configuration as it was read; changed in place.

    Returns:
        A note for each key that was rewritten.

    Raises:
        ConfigError: Two spellings of a key name different files.
    """
    notes = []
    for old, new in (
        ("TRAIN.FREEZE_BN", "TRAIN.FIX_BN"),
        ("TRAIN.ENCODER_MULTIPLIER", "TRAIN.BACKBONE_MULTIPLIER"),
        ("MODEL.PRETRAINED_PATH", "INIT.CHECKPOINT"),
    ):
        value, where = tree.pop(old) or (None, "")
        if value is None or value == "":
            continue
        if new == "INIT.CHECKPOINT":
            given = tree.get(new)
            if given not in (None, "", value):
                raise ConfigError(f"{where}: {old} {value} and {new} {given} name different files")
            tree.pop("INIT")
        tree.set(new, value, where)
        notes.append(f"{where}: {old} {value} is read as {new}")
    update = tree.get("TEST.UPDATE")
    if isinstance(update, Tree):
        for name in update.values.keys() - {"INTERVAL", "THRESHOLD"}:
            value, where = update.values.pop(name), update.where.pop(name)
            if name.upper() == DEFAULT:
                update.merge(value)
                continue
            tree.set(f"TEST.BY_BENCHMARK.{name}", Tree({"UPDATE": value}, {"UPDATE": where}), where)
            notes.append(f"{where}: TEST.UPDATE.{name} is read as TEST.BY_BENCHMARK.{name}.UPDATE")
    for mix in ("DATA.TRAIN", "DATA.VAL"):
        names = tree.get(f"{mix}.DATASETS_NAME")
        for i, name in enumerate(names if isinstance(names, list) else ()):
            if name in PUBLISHED_NAMES:
                names[i] = PUBLISHED_NAMES[name]
                notes.append(f"{mix}.DATASETS_NAME: {name} means {names[i]}, as in published files of CSTrack")
    return notes


def complete(config: CSTrackConfig) -> CSTrackConfig:
    """Published groups of stage 2, where TRAIN.PARAM_GROUPS has none."""
    return with_param_groups(config, STAGE_2_GROUPS) if config.model.temporal else config
