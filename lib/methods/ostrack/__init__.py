"""OSTrack: joint feature learning and relation modelling in one stream (Ye et al., ECCV 2022)."""

from __future__ import annotations

from lib.methods.common import backbone_and_head, is_tracker, map_tracker, map_vit
from lib.methods.method import Method, register_method
from lib.methods.ostrack.config import OSTrackConfig
from lib.methods.ostrack.network import OSTrack, OSTrackOutput
from lib.methods.ostrack.objective import OSTrackObjective
from lib.methods.ostrack.tracker import OSTrackTracker
from lib.models import Checkpoint, Mapped
from lib.models.backbones import BACKBONES
from lib.models.heads import HEADS
from lib.track import CropSettings


def map_pretrained(config: OSTrackConfig, network: OSTrack, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Args:
        config: of the experiment.
        network: to be filled.
        checkpoint: a ViT, such as MAE's, which fills the backbone, or a whole tracker, which must fit in every name.
    """
    return map_tracker(network, checkpoint) if is_tracker(checkpoint) else map_vit(network, checkpoint)


register_method(
    Method(
        name="ostrack",
        network_name="OSTrack",
        config=OSTrackConfig,
        build_network=lambda config, training: OSTrack(*backbone_and_head(config, BACKBONES, training)),
        build_objective=OSTrackObjective,
        build_tracker=lambda config, network: OSTrackTracker(network, CropSettings.from_config(config)),
        map_pretrained=map_pretrained,
        parts={"model.backbone": BACKBONES, "model.head": HEADS},
    )
)
