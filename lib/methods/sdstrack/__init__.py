"""SDSTrack: self-distillation symmetric adapter learning for multi-modal tracking (Hou et al., CVPR 2024)."""

from __future__ import annotations

from lib.methods.method import Method, register_method
from lib.methods.ostrack import build_backbone, crop_settings, elimination_of
from lib.methods.sdstrack.config import Config, published_groups
from lib.methods.sdstrack.network import SDSTrack
from lib.methods.sdstrack.objective import SDSTrackObjective
from lib.methods.sdstrack.pretrained import load_foundation
from lib.methods.sdstrack.tracker import SDSTrackTracker
from lib.models.backbones import RGBX_BACKBONES
from lib.models.heads import HEADS
from lib.models.layers.masking import MaskRates
from lib.objectives.frame_level import BoxCriterion
from lib.objectives.self_distillation import SelfDistillation


def build_network(config: Config, training: bool) -> SDSTrack:
    """With DATA's sizes and initial weights for training, with TEST's sizes and no weights for testing."""
    backbone = build_backbone(config, RGBX_BACKBONES, training)
    network = SDSTrack(backbone, config.model.head.build(HEADS, inputs=backbone.width))
    if training and config.model.pretrain_file:
        load_foundation(network, config.model.pretrain_file, config.model.copy_stem)
    return network


def build_objective(config: Config, network: SDSTrack) -> SDSTrackObjective:
    """OSTrack's losses on both passes, and their agreement."""
    train = config.train
    criterion = BoxCriterion(train.giou_weight, train.l1_weight)
    losses = SelfDistillation(criterion, train.clean_weight, train.masked_weight, train.agreement_weight)
    rates = MaskRates(train.mask_rate_rgb, train.mask_rate_x)
    return SDSTrackObjective(losses, network, rates, elimination_of(train, network), train.align_tokens)


def build_tracker(config: Config, network: SDSTrack, benchmark: str | None = None) -> SDSTrackTracker:
    """The same settings on every benchmark."""
    return SDSTrackTracker(network, crop_settings(config))


register_method(
    Method(
        name="sdstrack",
        network_name="SDSTrack",
        config=Config,
        build_network=build_network,
        build_objective=build_objective,
        build_tracker=build_tracker,
        reads_aux=True,
        parts={"model.backbone": RGBX_BACKBONES, "model.head": HEADS},
    )
)
