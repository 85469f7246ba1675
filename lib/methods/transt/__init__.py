"""TransT: transformer tracking (Chen et al., CVPR 2021)."""

from __future__ import annotations

from lib.methods.common import input_sizes
from lib.methods.method import Method, register_method
from lib.methods.transt.config import TransTConfig
from lib.methods.transt.network import TransT
from lib.methods.transt.objective import TransTObjective
from lib.methods.transt.tracker import TransTTracker
from lib.models import Checkpoint, Mapped
from lib.models.backbones import RESNETS
from lib.models.fusion import FusionSize
from lib.objectives import CellCriterion, DenseBoxLoss
from lib.track import CropSettings


def build_network(config: TransTConfig, training: bool) -> TransT:
    """Fresh weights; at the sizes of DATA for training, of TEST otherwise."""
    model = config.model
    size = FusionSize(model.hidden_dim, model.nheads, model.dim_feedforward, model.featurefusion_layers, model.dropout)
    return TransT(model.backbone.build(RESNETS), size, *input_sizes(config, training))


def map_pretrained(config: TransTConfig, network: TransT, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: A ResNet trained on ImageNet, torchvision's or timm's, which fills the backbone, or a whole tracker,
            which must fit in every name.
    """
    if any(name.startswith("featurefusion_network.") for name in checkpoint.state_dict):
        return Mapped(checkpoint.state_dict)
    # Layers of a classifier behind those that TransT reads.
    return Mapped.of_part(network, "backbone.0.body.", checkpoint.state_dict, elsewhere=("layer4.*", "fc.*"))


register_method(
    Method(
        name="transt",
        network_name="TransT",
        config=TransTConfig,
        build_network=build_network,
        build_objective=TransTObjective,
        build_tracker=lambda config, net: TransTTracker(
            net, CropSettings.from_config(config), config.test.window_influence
        ),
        build_auxiliary=lambda config, network: DenseBoxLoss(CellCriterion.from_config(config.train)),
        map_pretrained=map_pretrained,
        aliases=("slt_transt",),
        parts={"model.backbone": RESNETS},
    )
)
