"""OSTrack: joint feature learning and relation modelling in one stream (Ye et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from lib.config import schema
from lib.data.crop import CropStyle
from lib.methods.method import Method, register_method
from lib.methods.ostrack.config import Config, Train
from lib.methods.ostrack.network import OSTrack, OSTrackOutput
from lib.methods.ostrack.objective import Elimination, OSTrackObjective
from lib.methods.ostrack.pretrained import TIMM, find_pretrained, load_pretrained
from lib.methods.ostrack.tracker import OSTrackTracker
from lib.models.backbones import BACKBONES
from lib.models.heads import HEADS
from lib.objectives.frame_level import BoxCriterion
from lib.registry import Registry
from lib.track.one_stream import CropSettings


def build_network(config: Config, training: bool) -> OSTrack:
    """With DATA's sizes and initial weights for training, with TEST's sizes and no weights for testing."""
    backbone = build_backbone(config, BACKBONES, training)
    network = OSTrack(backbone, config.model.head.build(HEADS, inputs=backbone.width))
    if training and config.model.pretrain_file:
        load_pretrained(network, config.model.pretrain_file)
    return network


def build_backbone(config: schema.Config, registry: Registry[Callable[..., Any]], training: bool) -> Any:
    """MODEL.BACKBONE of a registry, at the sizes of training or of testing; stochastic depth in training alone."""
    data, test = config.data, config.test
    template, search = (data.template.size, data.search.size) if training else (test.template_size, test.search_size)
    drop_path = config.train.drop_path_rate if training else 0.0
    return config.model.backbone.build(registry, template_size=template, search_size=search, drop_path=drop_path)


def build_objective(config: Config, network: OSTrack) -> OSTrackObjective:
    """GIoU, L1 and focal losses; elimination warms up by CE_START_EPOCH and CE_WARM_EPOCH."""
    train = config.train
    criterion = BoxCriterion(train.giou_weight, train.l1_weight)
    return OSTrackObjective(criterion, network, elimination_of(train, network))


def elimination_of(train: Train, network: OSTrack) -> Elimination | None:
    """The schedule of the keep rate; None for a network that eliminates nothing."""
    ratios = list(network.backbone.keep_ratio.values())
    return Elimination(train.ce_start_epoch, train.ce_warm_epoch, ratios[0]) if ratios else None


def build_tracker(config: Config, network: OSTrack, benchmark: str | None = None) -> OSTrackTracker:
    """The same settings on every benchmark."""
    return OSTrackTracker(network, crop_settings(config))


def crop_settings(config: schema.Config) -> CropSettings:
    """How TEST cuts template and search region."""
    t, d = config.test, config.data
    style = cast(CropStyle, d.crop_style)
    return CropSettings(t.template_size, t.template_factor, t.search_size, t.search_factor, d.mean, d.std, style)


register_method(
    Method(
        name="ostrack",
        network_name="OSTrack",
        config=Config,
        build_network=build_network,
        build_objective=build_objective,
        build_tracker=build_tracker,
        parts={"model.backbone": BACKBONES, "model.head": HEADS},
    )
)
