"""Methods: one folder each, made of shared parts; found by name."""

from lib.methods.checkpoints import CheckpointNotFoundError, find_checkpoint
from lib.methods.distillation import Distillation, plan_distillation
from lib.methods.experiment import Experiment, load_experiment
from lib.methods.initial import InitialWeights, plan_initial_weights, without_pretraining
from lib.methods.method import METHODS, Method, register_method
from lib.methods.sequence_level import SequenceTraining, plan_sequence_training
