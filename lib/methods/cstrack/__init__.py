"""CSTrack: compact spatiotemporal features for RGB-X tracking (Feng et al., ICML 2025), both stages."""

from __future__ import annotations

from lib.config import ConfigError
from lib.methods.common import build_backbone, crop_settings
from lib.methods.cstrack.config import (
    INERT_KEYS,
    CSTrackConfig,
    CSTrackTrain,
    TemplateUpdate,
    TemporalConfig,
    complete,
    translate,
)
from lib.methods.cstrack.network import CSTrack, CSTrackOutput, MemorySize
from lib.methods.cstrack.objective import TASKS, CSTrackCriterion, CSTrackObjective
from lib.methods.cstrack.pretrained import adapt_fast_itpn, map_pretrained, map_trained
from lib.methods.cstrack.tracker import CSTrackRegion, CSTrackState, CSTrackTracker
from lib.methods.method import Method, register_method
from lib.models.backbones import ITPNS
from lib.models.heads import HEADS


def build_network(config: CSTrackConfig, training: bool) -> CSTrack:
    """Fresh weights; at the sizes of DATA for training, of TEST otherwise."""
    model = config.model
    backbone = build_backbone(config, ITPNS, training)
    if model.hidden_dim not in (None, backbone.width):
        raise ConfigError(
            f"MODEL.HIDDEN_DIM is {model.hidden_dim}, but the backbone's tokens are {backbone.width} wide"
        )
    backbone.checkpointing = training and config.train.activation_checkpointing
    head = model.head.build(HEADS, inputs=backbone.width)
    memory = MemorySize(model.memory_length, model.memory_tokens) if model.temporal else None
    return CSTrack(backbone, head, model.nheads, model.prompts, memory)


def build_tracker(config: CSTrackConfig, network: CSTrack) -> CSTrackTracker:
    """With TEST.UPDATE."""
    return CSTrackTracker(network, crop_settings(config), config.test.update)


for stage, keys in ((1, CSTrackConfig), (2, TemporalConfig)):
    register_method(
        Method(
            name=f"cstrack_s{stage}",
            network_name=f"CSTRACK_S{stage}",
            config=keys,
            build_network=build_network,
            build_objective=CSTrackObjective,
            build_tracker=build_tracker,
            reads_aux=True,
            map_trained=map_trained,
            map_pretrained=map_pretrained,
            inert_keys=INERT_KEYS,
            translate=translate,
            complete=complete,
            added=("temporal_fusion.*", "dy_template_pos_embed.*"),
            parts={"model.backbone": ITPNS, "model.head": HEADS},
        )
    )
