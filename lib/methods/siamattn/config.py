"""Keys of SiamAttn configuration files, those of SiamRPN++ and a few more; defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.methods.siamrpnpp.config import SiamRPNConfig, SiamRPNData, SiamRPNModel, SiamRPNTest, SiamRPNTrain
from lib.ranges import Count, NotNegative, Share


@dataclass(frozen=True)
class SiamAttnTrain(SiamRPNTrain):
    """Training of SiamAttn.

    Attributes:
        refine_weight, mask_weight: Of the losses of refined boxes and of masks.
        roi_per_img: Boxes of a sample that are refined and have a mask drawn in them.
        fg_thresh: Least overlap of such a box with the target.
    """

    loc_weight: NotNegative = 0.5
    refine_weight: NotNegative = 0.5
    mask_weight: NotNegative = 0.2
    roi_per_img: Count = 16
    fg_thresh: Share = 0.5


@dataclass(frozen=True)
class SiamAttnTest(SiamRPNTest):
    """Settings of the tracker.

    Attributes:
        mask_threshold: Probability from which a pixel belongs to the target.
        mask_centred: The mean logit of a mask is taken off it first.
        penalised_confidence: The confidence is the chosen anchor's probability times its penalty, not without.
    """

    penalty_k: NotNegative = 0.1
    window_influence: Share = 0.25
    size_lr: Share = 0.45
    mask_threshold: Share = 0.2
    mask_centred: bool = False
    penalised_confidence: bool = False


@dataclass(frozen=True)
class SiamAttnConfig(SiamRPNConfig):
    """A SiamAttn experiment."""

    data: SiamRPNData = replace(SiamRPNData(), masks=True)
    model: SiamRPNModel = SiamRPNModel()
    train: SiamAttnTrain = SiamAttnTrain()
    test: SiamAttnTest = SiamAttnTest()
