"""Ways to learn, for any network: `objective(network, batch, progress) -> Losses`."""

from lib.objectives.base import Losses, Objective, Progress, SplittingObjective
from lib.objectives.cell_level import CellCriterion
from lib.objectives.distillation import DistillationObjective, Recorded
from lib.objectives.frame_level import BoxCriterion
from lib.objectives.self_distillation import SelfDistillation
from lib.objectives.sequence_level import (
    AuxiliaryLoss,
    CentreBoxLoss,
    DenseBoxLoss,
    Explored,
    SequenceObjective,
    SequenceRule,
    SoftmaxPolicy,
    targets_in_crops,
)
