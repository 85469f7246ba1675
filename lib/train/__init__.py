"""The one training loop and what it stands on: optimiser, schedule, checkpoints, processes, logs."""

from lib.train.build import build_parts
from lib.train.checkpoint import CheckpointError, CheckpointFolder, Position, is_kept, read_state
from lib.train.launch import main, parser, processes_and_nodes, training_arguments
from lib.train.log import LinesSink, LogPaths, TextSink, TrainLog
from lib.train.loop import Parts, Trainer
from lib.train.memory import BatchTooLargeError, first_rows
from lib.train.meters import Meters
from lib.train.optim import build_optimizer, load_optimizer_state, optimizer_state, parameter_groups, set_lr
from lib.train.options import TrainOptions
from lib.train.ownership import FolderLock, OccupiedError
from lib.train.precision import NonFiniteLossError
from lib.train.report import Report, duration
from lib.train.resume import ResumeError, check_state, config_changes, find_state
from lib.train.rng import seed_everything
from lib.train.schedule import lr_factor
from lib.train.session import Session
from lib.train.signals import InterruptedTraining
