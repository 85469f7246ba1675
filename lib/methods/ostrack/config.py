"""Keys of OSTrack configuration files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, TypeVar

from lib.config import ParamGroup, Section, TrainPhase, require, schema
from lib.ranges import Count, CountOrNone, Range, Share


@dataclass(frozen=True)
class OSTrackTrain(schema.Train):
    """Training of OSTrack.

    Attributes:
        ce_start_epoch: The last epoch without candidate elimination.
        ce_warm_epoch: Epochs over which elimination reaches its ratio.
    """

    ce_start_epoch: CountOrNone = 20
    ce_warm_epoch: CountOrNone = 80


@dataclass(frozen=True)
class TargetMask(Section):
    """A mask head alongside the box head of a trained tracker, which stays as it is; INIT names the tracker's weights.

    Attributes:
        width: Channels of the head.
        doublings: Times that the map of features is enlarged by two.
        pixels: The head reads the search region's pixels too.
        threshold: Probability from which a pixel belongs to the target.
    """

    width: Annotated[int, Range(2)] = 64
    doublings: Count = 2
    pixels: bool = True
    threshold: Share = 0.5


@dataclass(frozen=True)
class OSTrackConfig(schema.Config):
    """An OSTrack experiment. MASK: see `TargetMask`."""

    train: OSTrackTrain = OSTrackTrain()
    mask: TargetMask | None = field(default=None, metadata={"section": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask is not None:
            require(self.init is not None, "MASK needs INIT, which names the trained tracker that it is added to")
            require(self.slt is None, "MASK and SLT are given; a mask head learns from single frames")


C = TypeVar("C", bound=OSTrackConfig)


def with_frozen_tracker(config: C) -> C:
    """The configuration under which, with MASK, its head alone learns, from samples with masks and no teacher."""
    if config.mask is None:
        return config
    groups = ParamGroup("^mask_head"), ParamGroup(".*", freeze=True)
    phase = TrainPhase(eval_modules=("^(?!mask_head)",), param_groups=groups, fix_bn=False)
    data, train = replace(config.data, masks=True), replace(config.train, phases=(phase,))
    return replace(config, data=data, train=train, teacher=None, kd=None)
