"""Keys of SDSTrack configuration files: OSTrack's, with masks, the weights of three losses, and parameter groups."""

from __future__ import annotations

from dataclasses import dataclass

from lib.config import ParamGroup, schema
from lib.methods.common import with_param_groups
from lib.methods.ostrack.config import OSTrackConfig, OSTrackTrain, with_frozen_tracker
from lib.ranges import Count, CountOrNone, NotNegative, Share


@dataclass(frozen=True)
class SDSTrackTrain(OSTrackTrain):
    """Training of SDSTrack, with published values.

    PARAM_GROUPS, where a file has none: adapters and the X patch embedding learn, the last norm at LR *
    BACKBONE_MULTIPLIER, everything else is frozen.

    Attributes:
        mask_rate_rgb: Share of RGB patches that are hidden in the masked pass.
        mask_rate_x: Share of X patches that are, where the RGB patch is not.
        clean_weight, masked_weight, agreement_weight: Of the losses of the two passes and of the difference between
            their fused tokens.
        align_tokens: Compare tokens place by place, also after elimination.
    """

    mask_rate_rgb: Share = 0.3
    mask_rate_x: Share = 0.3
    clean_weight: NotNegative = 0.6
    masked_weight: NotNegative = 0.2
    agreement_weight: NotNegative = 0.1
    align_tokens: bool = False
    fix_bn: bool = True
    save_epoch_interval: CountOrNone = 5
    save_epochs: tuple[Count, ...] = ()
    save_last_n_epoch: CountOrNone = 1


@dataclass(frozen=True)
class SDSTrackModel(schema.Model):
    """COPY_STEM: the X patch embedding begins as a copy of the foundation's, not fresh as published."""

    copy_stem: bool = False


@dataclass(frozen=True)
class SDSTrackConfig(OSTrackConfig):
    """An SDSTrack experiment. Published training keeps every crop that shows some of the image."""

    model: SDSTrackModel = SDSTrackModel()
    data: schema.Data = schema.Data(reject_all_padding=False)
    train: SDSTrackTrain = SDSTrackTrain()


def published_groups(norm_multiplier: float) -> tuple[ParamGroup, ...]:
    """Parameter groups of published training: adapters and the X patch embedding learn, the rest is frozen.

    Args:
        norm_multiplier: Of the learning rate of the last norm.
    """
    norm = ParamGroup(r"backbone\.norm\.", lr_multiplier=norm_multiplier)
    return ParamGroup("Adapter|multimodal"), norm, ParamGroup(".*", freeze=True)


def complete(config: SDSTrackConfig) -> SDSTrackConfig:
    """Published groups where TRAIN.PARAM_GROUPS has none; see `with_frozen_tracker`."""
    return with_frozen_tracker(with_param_groups(config, published_groups(config.train.backbone_multiplier)))
