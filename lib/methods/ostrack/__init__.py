"""OSTrack: joint feature learning and relation modelling in one stream (Ye et al., ECCV 2022)."""

from __future__ import annotations

from lib.methods.common import build_backbone, crop_settings, is_tracker, map_tracker, map_vit
from lib.methods.method import Method, register_method
from lib.methods.ostrack.config import Config, Train
from lib.methods.ostrack.network import OSTrack, OSTrackOutput
from lib.methods.ostrack.objective import Elimination, OSTrackObjective
from lib.methods.ostrack.tracker import OSTrackTracker
from lib.models import Checkpoint, Mapped
from lib.models.backbones import BACKBONES
from lib.models.heads import HEADS
from lib.objectives.frame_level import BoxCriterion


def build_network(config: Config, training: bool) -> OSTrack:
    """Fresh weights; at the sizes of DATA for training, of TEST otherwise."""
    backbone = build_backbone(config, BACKBONES, training)
    return OSTrack(backbone, config.model.head.build(HEADS, inputs=backbone.width))


def map_pretrained(config: Config, network: OSTrack, checkpoint: Checkpoint) -> Mapped:
    """A ViT, such as MAE's, fills the backbone; a whole tracker must fit in every name."""
    return map_tracker(network, checkpoint) if is_tracker(checkpoint) else map_vit(network, checkpoint)


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


register_method(
    Method(
        name="ostrack",
        network_name="OSTrack",
        config=Config,
        build_network=build_network,
        build_objective=build_objective,
        build_tracker=build_tracker,
        map_pretrained=map_pretrained,
        parts={"model.backbone": BACKBONES, "model.head": HEADS},
    )
)
