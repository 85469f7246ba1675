"""Ways to learn, for any network: `objective(network, batch, progress) -> Losses`."""

from lib.objectives.base import Losses, Objective, Progress, SplittingObjective
from lib.objectives.cell_level import CellCriterion
from lib.objectives.distillation import DistillationObjective, Recorded
from lib.objectives.frame_level import BoxCriterion
from lib.objectives.self_distillation import SelfDistillation
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
