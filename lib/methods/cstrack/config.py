"""Keys of CSTrack configuration files; defaults are the published values.

Published files carry keys that nothing reads; they are known here so that these files load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lib.config import Part, schema

PUBLISHED_NAMES = {"LasHeR_train": "LasHeR_train:882"}
"""What some names of data sets stand for in this method's files: a list of 882 sequences, not of all 979."""
CLASS_TOKENS = ("auto", "trained", "position")


@dataclass(frozen=True)
class Augment(schema.Augment):
    """A grey picture takes its equal second picture with it."""

    grey_rule: str = "rgb_and_equal_aux"


@dataclass(frozen=True)
class Data(schema.Data):
    """Frames in order, RGB sets with their picture as aux, boxes in units of a pixel less than the crop's side."""

    sampler_mode: str = "order"
    multi_modal_vision: bool = True
    multi_modal_language: bool = False
    augment: Augment = Augment()
    box_unit: str = "size_minus_one"
    reject_all_padding: bool = False
    max_sample_interval: int | tuple[int, ...] = 400
    template: schema.Region = schema.Region(size=128, factor=2.0, number=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template.number != 2:
            raise ValueError(
                f"TEMPLATE.NUMBER must be 2, the first template and the renewed one, not {self.template.number}"
            )
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError("MEAN and STD have three values: one stem serves both pictures")
        for mix in ("train", "val"):
            given: schema.DataMix = getattr(self, mix)
            object.__setattr__(self, mix, replace(given, datasets_name=_published(given.datasets_name)))


def _published(names: Sequence[str | None]) -> tuple[str | None, ...]:
    return tuple(name if name is None else PUBLISHED_NAMES.get(name, name) for name in names)


@dataclass(frozen=True)
class Model(schema.Model):
    """TEMPORAL: with the temporal compact module and its memory of MEMORY_LENGTH entries of MEMORY_TOKENS tokens.

    NHEADS, PROMPTS: of the compact modules. CLASS_TOKEN: which one a file of weights gives: the `trained` one, or the
    `position` embedding's first row, as the official test code and the official start of stage 2 do; `auto`: that of
    the position embedding for published files, the trained one for files of this library.
    PRETRAINED_PATH: published name of INIT.CHECKPOINT. HIDDEN_DIM: the backbone's width.
    """

    pretrain_file: str = ""
    pretrained_path: str = ""
    hidden_dim: int | None = None
    backbone: Part = Part("itpn_base")
    temporal: bool = False
    memory_length: int = 4
    memory_tokens: int = 16
    nheads: int = 8
    prompts: int = 4
    class_token: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.memory_length - 1, self.memory_tokens, self.nheads, self.prompts) < 1:
            raise ValueError("MEMORY_LENGTH must be at least 2, MEMORY_TOKENS, NHEADS and PROMPTS at least 1")
        if self.head.type != "CENTER":
            raise ValueError(f"HEAD must be CENTER, whose maps confidence is told from, not {self.head.type}")
        if self.class_token not in CLASS_TOKENS:
            raise ValueError(f"CLASS_TOKEN must be {', '.join(CLASS_TOKENS[:-1])} or {CLASS_TOKENS[-1]}")


@dataclass(frozen=True)
class Train(schema.Train):
    """TASK_WEIGHT, CONFIDENCE_WEIGHT: of the modality's cross-entropy and of the confidence's squared error.

    ACTIVATION_CHECKPOINTING: blocks of the encoder are computed again in the backward pass, which takes a third more
    time and a fraction of the memory. FREEZE_BN: batch norms stay as they are; FIX_BN of published files is not obeyed,
    as in published training. ENCODER_MULTIPLIER goes before BACKBONE_MULTIPLIER.
    """

    task_weight: float = 1.0
    confidence_weight: float = 1.0
    encoder_multiplier: float | None = None
    activation_checkpointing: bool = False
    freeze_bn: bool = False
    save_epoch_interval: int = 10
    save_epochs: tuple[int, ...] = ()
    save_last_n_epoch: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "fix_bn", self.freeze_bn)
        if self.encoder_multiplier is not None:
            object.__setattr__(self, "backbone_multiplier", self.encoder_multiplier)


@dataclass(frozen=True)
class Update:
    """The second template is renewed in every INTERVAL-th frame whose score is above THRESHOLD; INTERVAL 0: never."""

    interval: int = 25
    threshold: float = 0.7

    def __post_init__(self) -> None:
        if self.interval < 0:
            raise ValueError(f"INTERVAL must not be negative, but is {self.interval}")


def _published_updates() -> dict[str, Update]:
    lower = Update(threshold=0.45)
    return {"DEFAULT": Update(), "LASHER": lower, "RGBT234": lower}


@dataclass(frozen=True)
class Test(schema.Test):
    """UPDATE: by benchmark, as `--dataset` names it in capitals; DEFAULT for all others.

    UPDATE_INTERVALS and UPDATE_THRESHOLD of published files are not obeyed, as in the published tracker.
    """

    update: dict[str, Update] = field(default_factory=_published_updates)
    window: bool = True
    num_templates: int = 2
    update_intervals: Any = None
    update_threshold: Any = None
    multi_modal_vision: Any = None
    multi_modal_language: Any = None

    def __post_init__(self) -> None:
        if not self.window or self.num_templates != 2:
            raise ValueError("WINDOW must be true and NUM_TEMPLATES 2: published trackers know nothing else")


@dataclass(frozen=True)
class Config(schema.Config):
    """A CSTrack experiment of stage 1, unless MODEL.TEMPORAL says otherwise."""

    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    test: Test = Test()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.pretrained_path:
            self._begin_with(self.model.pretrained_path)
        if self.model.temporal and not self.train.param_groups:
            if self.init is None and not (self.slt and self.slt.start):
                raise ValueError(
                    "MODEL.TEMPORAL trains on a frozen backbone: INIT must say where stage 1 left it, "
                    "or TRAIN.PARAM_GROUPS what is trained instead"
                )
            object.__setattr__(self, "train", replace(self.train, param_groups=STAGE_2_GROUPS))

    def _begin_with(self, file: str) -> None:
        if self.init is not None and self.init.checkpoint not in ("", file):
            raise ValueError(
                f"MODEL.PRETRAINED_PATH {file} and INIT.CHECKPOINT {self.init.checkpoint} name different files"
            )
        object.__setattr__(self, "init", schema.Init(checkpoint=file))


STAGE_2_GROUPS = (schema.ParamGroup("backbone", freeze=True), schema.ParamGroup(".*"))
"""What learns in stage 2. The pattern meets the spatial compact module too, as published."""


@dataclass(frozen=True)
class TemporalModel(Model):
    """With the temporal compact module."""

    temporal: bool = True


@dataclass(frozen=True)
class TemporalConfig(Config):
    """A CSTrack experiment of stage 2, which begins with what stage 1 has learned."""

    model: TemporalModel = TemporalModel()
    init: schema.Init | None = field(default=schema.Init("cstrack_s1", "cstrack_s1"), metadata={"section": True})
