"""Ways to learn, for any network: `objective(network, batch, progress) -> Losses`."""

from lib.objectives.base import Losses, Objective, PicturingObjective, Progress, SplittingObjective, WeightedLosses
from lib.objectives.distillation import Distillable, DistillationObjective, Recorded
from lib.objectives.frame_level import BoxCriterion, CellCriterion, SelfDistillation
from lib.objectives.policies import POLICIES, MeanMaxPolicy, SequencePolicy, SoftmaxPolicy, build_policy
from lib.objectives.sequence_level import (
    AuxiliaryLoss,
    CentreBoxLoss,
    DenseBoxLoss,
    Explored,
    SequenceObjective,
    targets_in_crops,
)
