"""OSTrack: joint feature learning and relation modelling in one stream (Ye et al., ECCV 2022)."""

from __future__ import annotations

from typing import TypeVar

from lib.methods.common import backbone_and_head, is_tracker, map_tracker, map_vit
from lib.methods.method import Method, register_method
from lib.methods.ostrack.config import OSTrackConfig, TargetMask, with_frozen_tracker
from lib.methods.ostrack.network import OSTrack, OSTrackOutput
from lib.methods.ostrack.objective import MaskObjective, OSTrackObjective
from lib.methods.ostrack.tracker import OSTrackTracker
from lib.models import Checkpoint, Mapped
from lib.models.backbones import BACKBONES
from lib.models.heads import HEADS, SearchMaskHead
from lib.track import CropSettings

N = TypeVar("N", bound=OSTrack)
MASK_HEAD = ("mask_head.*",)
"""Names that a tracker without MASK lacks."""


def with_mask_head(config: OSTrackConfig, network: N) -> N:
    """The network with a fresh mask head, where MASK is given."""
    mask = config.mask
    if mask is not None:
        pictures = 3 * network.streams if mask.pixels else 0
        network.mask_head = SearchMaskHead(network.feature_width, mask.width, mask.doublings, pictures)
    return network


def map_pretrained(config: OSTrackConfig, network: OSTrack, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: A ViT, such as MAE's, which fills the backbone, or a whole tracker, which must fit in every name.
    """
    return map_tracker(network, checkpoint) if is_tracker(checkpoint) else map_vit(network, checkpoint)


register_method(
    Method(
        name="ostrack",
        network_name="OSTrack",
        config=OSTrackConfig,
        build_network=lambda config, training: with_mask_head(
            config, OSTrack(*backbone_and_head(config, BACKBONES, training))
        ),
        build_objective=lambda config, network: MaskObjective() if config.mask else OSTrackObjective(config, network),
        build_tracker=OSTrackTracker.from_config,
        map_pretrained=map_pretrained,
        complete=with_frozen_tracker,
        added=MASK_HEAD,
        parts={"model.backbone": BACKBONES, "model.head": HEADS},
    )
)
