"""SiamAttn: deformable siamese attention networks (Yu et al., CVPR 2020), on SiamRPN++."""

from __future__ import annotations

from dataclasses import replace

from lib.methods.common import input_sizes
from lib.methods.method import Method, register_method
from lib.methods.siamattn.config import SiamAttnConfig
from lib.methods.siamattn.network import BOX_FEATURES, MASK_FEATURES, Regions, SiamAttn
from lib.methods.siamattn.objective import (
    RegionSampler,
    RegionTargets,
    SiamAttnAuxiliary,
    SiamAttnCriterion,
    SiamAttnObjective,
)
from lib.methods.siamattn.tracker import SiamAttnTracker
from lib.methods.siamrpnpp import complete
from lib.methods.siamrpnpp import map_pretrained as map_siamrpnpp
from lib.models import Checkpoint, Mapped
from lib.models.backbones import ATROUS_RESNETS
from lib.track import CropSettings

ADDED = ("feature_enhance.*", "feature_fusion.*", "refine_head.*", "mask_head.*")
"""Parameters that SiamAttn has in addition to SiamRPN++."""


def build_network(config: SiamAttnConfig, training: bool) -> SiamAttn:
    """Fresh weights; at the sizes of DATA for training, of TEST otherwise."""
    model, sizes = config.model, input_sizes(config, training)
    return SiamAttn(model.backbone.build(ATROUS_RESNETS), model.hidden_dim, model.anchors, *sizes)


def map_pretrained(config: SiamAttnConfig, network: SiamAttn, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: A SiamAttn, a SiamRPN++, whose file lacks the parts of `ADDED`, or an atrous ResNet (see
            `lib.methods.siamrpnpp`).
    """
    mapped = map_siamrpnpp(config, network, renamed(checkpoint))
    whole = any(name.startswith("feature_") for name in mapped.state_dict)
    backbone_alone = all(name.startswith("backbone.") for name in mapped.state_dict)
    return mapped if whole or backbone_alone else Mapped(mapped.state_dict, ADDED)


def renamed(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint under the names of today: older files call `refine_head` `bbox_head`."""
    state = {name.replace("bbox_head", "refine_head"): value for name, value in checkpoint.state_dict.items()}
    return replace(checkpoint, state_dict=state)


register_method(
    Method(
        name="siamattn",
        network_name="SiamAttn",
        config=SiamAttnConfig,
        build_network=build_network,
        build_objective=SiamAttnObjective,
        build_tracker=lambda config, net: SiamAttnTracker(net, CropSettings.from_config(config), config.test),
        build_auxiliary=lambda config, net: SiamAttnAuxiliary(SiamAttnCriterion.from_config(config), net),
        map_trained=lambda config, checkpoint: Mapped(renamed(checkpoint).state_dict),
        map_pretrained=map_pretrained,
        complete=complete,
        added=ADDED,
        aliases=("slt_siamattn",),
        parts={"model.backbone": ATROUS_RESNETS},
    )
)
