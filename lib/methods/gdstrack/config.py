"""Keys of GDSTrack configuration files; defaults are those of the paper."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated

from lib.config import ConfigError, ParamGroup, Part, TrainPhase, schema
from lib.methods.gdstrack.network import FusionOptions
from lib.models.fusion import NoiseLevel
from lib.ranges import Choice, Count, NotNegative, Range, Rate


@dataclass(frozen=True)
class GDSTrackModel(schema.OwnHeadsModel):
    """Parts of GDSTrack.

    Attributes:
        backbone: A paired ViT. pretrain_file: MAT's weights (masked appearance transfer), or a whole tracker.
        stage: `stage1` has no diffusion; `stage2` has, whether a phase trains it or not.
        fusion: Sizes of all that follows the encoder.
    """

    backbone: Part = Part("vit_base_patch16")
    stage: Annotated[str, Choice(("stage1", "stage2"))] = "stage2"
    fusion: FusionOptions = FusionOptions()


@dataclass(frozen=True)
class GDSTrackTrain(schema.Train):
    """Training of GDSTrack. A phase that trains the diffusion is of stage 2, any other of stage 1.

    Attributes:
        diffusion_weight: Of the diffusion's loss (lambda); the released code has 1.
        freeze_bn: What a phase does not train stays in evaluation mode. Published training has it in training mode:
            running averages of the frozen head move, and the frozen graph drops out.
        skip_swapped: A batch with a box whose corners are swapped has no GIoU loss, as in published training.
    """

    diffusion_weight: NotNegative = 5.0
    freeze_bn: bool = False
    skip_swapped: bool = False
    grad_clip_norm: NotNegative = 0.0
    drop_path_rate: Rate = 0.0


@dataclass(frozen=True)
class GDSTrackTest(schema.Test):
    """Settings of the tracker.

    Attributes:
        sample: Steps of the diffusion.
        noise_level: The noise level that the UNet is given, `abar` as published, or `sqrt_abar` as in training.
        seed: Of the noise that it starts from.
    """

    sample: Count = 1
    noise_level: NoiseLevel = "abar"
    seed: Annotated[int, Range(0)] = 123


@dataclass(frozen=True)
class GDSTrackConfig(schema.Config):
    """A GDSTrack experiment: two search frames per sample, crops between pixels, pseudo labels by their quality."""

    data: schema.Data = schema.Data(
        sampler_mode="quality",
        crop_style=Part("affine"),
        reject_all_padding=False,
        augment=schema.Augment(grey=0.0, mirror=0.0, crop_flip=0.0, brightness=0.0),
        search=schema.Region(number=2),
    )
    model: GDSTrackModel = GDSTrackModel()
    train: GDSTrackTrain = GDSTrackTrain()
    test: GDSTrackTest = GDSTrackTest()


MODULES = {
    "backbone": "backbone.blocks.0.norm1.weight",
    "GAT_Branch": "GAT_Branch.attention_0.W",
    "head": "head.conv1_tl.0.weight",
    "head_diffuse": "head_diffuse.conv1_tl.0.weight",
}
"""Modules that differ in training and evaluation mode -> one of their parameters."""


def is_frozen(name: str, groups: tuple[ParamGroup, ...]) -> bool:
    """True if the first of the groups that a parameter's name meets is frozen."""
    return next((group.freeze for group in groups if re.search(group.pattern, name)), False)


def complete(config: GDSTrackConfig) -> GDSTrackConfig:
    """TRAIN.FREEZE_BN as EVAL_MODULES of the phases."""
    train = config.train
    if config.model.stage == "stage2" and config.data.search.number < 2:
        raise ConfigError("DATA.SEARCH.NUMBER must be 2 or more in stage 2: the first search frame is the distractor")
    if not train.freeze_bn:
        return config
    phases = []
    for phase in train.phases or (TrainPhase(),):
        groups = phase.param_groups or train.param_groups
        frozen = [f"^{module}$" for module, name in MODULES.items() if is_frozen(name, groups)]
        phases.append(replace(phase, eval_modules=(*phase.eval_modules, *frozen)))
    return replace(config, train=replace(train, phases=tuple(phases)))
