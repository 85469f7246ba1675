"""SiamRPN++: siamese tracking with very deep networks (Li et al., CVPR 2019)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TypeVar

from lib.config import Config, ConfigError, Part
from lib.data.datasets import PREPARED
from lib.methods.common import input_sizes
from lib.methods.method import Method, register_method
from lib.methods.siamrpnpp.config import SiamRPNConfig, misplacement
from lib.methods.siamrpnpp.network import SiamRPN
from lib.methods.siamrpnpp.objective import AnchorBoxLoss, AnchorCriterion, SiamRPNObjective
from lib.methods.siamrpnpp.tracker import SiamRPNTracker, SizedRegion
from lib.models import Checkpoint, Mapped
from lib.models.backbones import ATROUS_RESNETS
from lib.track import CropSettings

log = logging.getLogger(__name__)

C = TypeVar("C", bound=Config)


def build_network(config: SiamRPNConfig, training: bool) -> SiamRPN:
    """Fresh weights; at the sizes of DATA for training, of TEST otherwise."""
    model, sizes = config.model, input_sizes(config, training)
    return SiamRPN(model.backbone.build(ATROUS_RESNETS), model.hidden_dim, model.anchors, *sizes)


def map_pretrained(config: SiamRPNConfig, network: SiamRPN, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: An atrous ResNet trained on ImageNet, PySOT's `resnet50.model`, which fills the backbone, or a whole
            tracker, which must fit in every name.
    """
    if any(name.startswith("rpn_head.") for name in checkpoint.state_dict):
        return Mapped(checkpoint.state_dict)
    return Mapped.of_part(network, "backbone.", checkpoint.state_dict, elsewhere=("fc.*",))


def complete(config: C) -> C:
    """The configuration with the crop style of PySOT's crops, where DATA.TRAIN names some.

    A search region whose cells lie elsewhere in it than in training is warned of: all boxes would be moved.

    Raises:
        ConfigError: Crops are mixed with whole frames, sequence-level training is to follow targets in them, or their
            context, which the scripts decided, is stated.
    """
    data, test = config.data, config.test
    trained, tested = (data.template.size, data.search.size), (test.template_size, test.search_size)
    if moved := abs(misplacement(*tested) - misplacement(*trained)):
        text = "TEST.TEMPLATE_SIZE %d, SEARCH_SIZE %d: boxes begin %d pixels of the search region off where weights "
        text += "that were trained at %d and %d expect them, as in PySOT; sizes in steps of 16 from these move nothing"
        log.warning(text, *tested, moved, *trained)
    names = [*data.train.names, *data.val.names]
    crops = [name for name in names if name.partition(":")[0].upper() == PREPARED]
    if not crops:
        return config
    if config.slt is not None:
        raise ConfigError(f"DATA: sequence-level training follows targets through whole frames, not {crops[0]}")
    if len(crops) < len(names):
        other = next(name for name in names if name not in crops)
        raise ConfigError(f"DATA: {crops[0]} has prepared crops and {other} whole frames; train with one kind")
    if data.crop_style.args:
        raise ConfigError(f"DATA.CROP_STYLE: {crops[0]} has crops with a CONTEXT_AMOUNT of 0.5; leave the key out")
    return replace(config, data=replace(data, crop_style=Part("pysot_511")))


register_method(
    Method(
        name="siamrpnpp",
        network_name="SiamRPNpp",
        config=SiamRPNConfig,
        build_network=build_network,
        build_objective=SiamRPNObjective,
        build_tracker=lambda config, net: SiamRPNTracker(net, CropSettings.from_config(config), config.test),
        build_auxiliary=lambda config, network: AnchorBoxLoss(AnchorCriterion.from_config(config)),
        map_pretrained=map_pretrained,
        complete=complete,
        aliases=("slt_siamrpnpp",),
        parts={"model.backbone": ATROUS_RESNETS},
    )
)
