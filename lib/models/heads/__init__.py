"""Box heads by their YAML `TYPE`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lib.models.heads.anchors import (
    AnchorMatcher,
    AnchorTargets,
    anchor_candidates,
    anchor_grid,
    anchor_shapes,
    keep_random,
)
from lib.models.heads.auxiliary import ConfidenceHead, TaskHead
from lib.models.heads.candidates import FEATURE, Candidates
from lib.models.heads.convolutional import CenterHead, CornerHead, boxes_from_corners
from lib.models.heads.correlation import KERNEL_CELLS, AdjustLayers, MultiLevelProposal, centre_cells, correlate
from lib.models.heads.dense import BACKGROUND, TARGET, Perceptron, dense_candidates
from lib.models.heads.iou_net import IoUFeatures, IoUNet
from lib.models.heads.mask import (
    MASK_SIDE,
    MaskHead,
    RefineHead,
    SearchMaskHead,
    changed_boxes,
    changes_between,
    masks_in_boxes,
)
from lib.registry import Registry

HEADS: Registry[Callable[..., nn.Module]] = Registry("head")
HEADS.register("CENTER")(CenterHead)
HEADS.register("CORNER")(CornerHead)
