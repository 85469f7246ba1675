"""CSTrack: compact spatiotemporal features for RGB-X tracking (Feng et al., ICML 2025), both stages."""

from __future__ import annotations

from lib.config import ConfigError
from lib.methods.common import build_backbone, crop_settings
from lib.methods.cstrack.config import Config, TemporalConfig, Train, Update
from lib.methods.cstrack.network import CSTrack, CSTrackOutput, MemorySize
from lib.methods.cstrack.objective import TASKS, CSTrackCriterion, CSTrackObjective
from lib.methods.cstrack.pretrained import adapt_fast_itpn, map_pretrained, map_trained
from lib.methods.cstrack.tracker import CSTrackRegion, CSTrackState, CSTrackTracker, UpdateRule
from lib.methods.method import Method, register_method
from lib.models.backbones import ITPNS
from lib.models.heads import HEADS
from lib.objectives.frame_level import BoxCriterion

DEFAULT = "DEFAULT"


def build_network(config: Config, training: bool) -> CSTrack:
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


def build_objective(config: Config, network: CSTrack) -> CSTrackObjective:
    """Boxes, modality and confidence by TRAIN's weights."""
    train = config.train
    boxes = BoxCriterion(train.giou_weight, train.l1_weight)
    return CSTrackObjective(CSTrackCriterion(boxes, train.task_weight, train.confidence_weight), network)


def build_tracker(config: Config, network: CSTrack, benchmark: str | None = None) -> CSTrackTracker:
    """With the benchmark's UPDATE."""
    rules = {name.lower(): rule for name, rule in config.test.update.items()}
    rule = rules.get((benchmark or DEFAULT).lower(), rules.get(DEFAULT.lower(), Update()))
    return CSTrackTracker(network, crop_settings(config), UpdateRule(rule.interval, rule.threshold))


def benchmarks_of(config: Config) -> dict[str, str]:
    """Whose updates the configuration tells."""
    return {name: f"TEST.UPDATE.{name}" for name in config.test.update if name.upper() != DEFAULT}


for stage, keys in ((1, Config), (2, TemporalConfig)):
    register_method(
        Method(
            name=f"cstrack_s{stage}",
            network_name=f"CSTRACK_S{stage}",
            config=keys,
            build_network=build_network,
            build_objective=build_objective,
            build_tracker=build_tracker,
            reads_aux=True,
            map_trained=map_trained,
            map_pretrained=map_pretrained,
            benchmarks_of=benchmarks_of,
            added=("temporal_fusion.*", "dy_template_pos_embed.*"),
            parts={"model.backbone": ITPNS, "model.head": HEADS},
        )
    )
