"""TransT: transformer tracking (Chen et al., CVPR 2021)."""

from __future__ import annotations

from lib.methods.method import Method, register_method
from lib.methods.ostrack import crop_settings
from lib.methods.transt.config import Config
from lib.methods.transt.network import TransT
from lib.methods.transt.objective import TransTObjective
from lib.methods.transt.pretrained import load_pretrained
from lib.methods.transt.tracker import TransTTracker
from lib.models.backbones import RESNETS
from lib.models.fusion.feature_fusion import FusionSize
from lib.objectives.cell_level import CellCriterion
from lib.objectives.sequence_level import DenseBoxLoss


def build_network(config: Config, training: bool) -> TransT:
    """With DATA's sizes and initial weights for training, with TEST's sizes and no weights for testing."""
    data, test, model = config.data, config.test, config.model
    sides = (data.template.size, data.search.size) if training else (test.template_size, test.search_size)
    size = FusionSize(
        model.hidden_dim,
        model.nheads,
        model.dim_feedforward,
        model.featurefusion_layers,
        model.dropout,
    )
    network = TransT(model.backbone.build(RESNETS), size, *sides)
    if training and model.pretrain_file:
        load_pretrained(network, model.pretrain_file)
    return network


def build_objective(config: Config, network: TransT) -> TransTObjective:
    """Cross-entropy of all cells; L1 and GIoU of those under the target."""
    return TransTObjective(criterion_of(config))


def criterion_of(config: Config) -> CellCriterion:
    """TRAIN's weights."""
    t = config.train
    return CellCriterion(t.giou_weight, t.l1_weight, t.ce_weight, t.background_weight, t.wrap_matches)


def build_tracker(config: Config, network: TransT, benchmark: str | None = None) -> TransTTracker:
    """The same settings on every benchmark."""
    return TransTTracker(network, crop_settings(config), config.test.window_influence)


def build_auxiliary(config: Config) -> DenseBoxLoss:
    """In sequence-level training, L1 and GIoU of the cells under the target; scores are the policy's alone."""
    return DenseBoxLoss(criterion_of(config))


register_method(
    Method(
        name="transt",
        network_name="TransT",
        config=Config,
        build_network=build_network,
        build_objective=build_objective,
        build_tracker=build_tracker,
        build_auxiliary=build_auxiliary,
        aliases=("slt_transt",),
        parts={"model.backbone": RESNETS},
    )
)
