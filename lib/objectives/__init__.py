"""Ways to learn, for any network: `objective(network, batch, progress) -> Losses`."""

from lib.objectives.base import (
    Losses,
    Objective,
    PicturingObjective,
    Progress,
    SplittingObjective,
    WeightedLosses,
)
from lib.objectives.distillation import Distillable, DistillationObjective, Recorded
from lib.objectives.frame_level import BoxCriterion, CellCriterion, SelfDistillation
from lib.objectives.sequence_level import (
    POLICIES,
    AuxiliaryLoss,
    CentreBoxLoss,
    DenseBoxLoss,
    Explored,
    MeanMaxPolicy,
    SequenceObjective,
    SoftmaxPolicy,
    build_policy,
    targets_in_crops,
)
