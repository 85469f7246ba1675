"""The training loop of all methods, with its optimiser, schedule, checkpoints and logs."""

from lib.train.checkpoint import (
    CheckpointError,
    CheckpointFolder,
    OccupiedError,
    Position,
    ResumeError,
    check_state,
    config_changes,
    find_state,
    is_kept,
    read_state,
)
from lib.train.log import LinesSink, LogPaths, Report, TerminalSink, TextSink, TrainLog, WandbSink, duration
from lib.train.loop import Trainer, TrainingSetup
from lib.train.optim import build_optimizer, load_optimizer_state, optimizer_state, parameter_groups, set_train_mode
from lib.train.options import TrainOptions, add_training_options
from lib.train.process import SIGNALS, InterruptedTraining, Interrupts, seed_everything
from lib.train.schedule import lr_factor, phases_of
from lib.train.session import build_setup, train
from lib.train.step import BatchTooLargeError, MetricAverager, NonFiniteLossError, NonFiniteWeightsError, Precision
