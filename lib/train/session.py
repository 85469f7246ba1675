"""From the options of a command line to a trainer that is ready to run."""

from __future__ import annotations

import platform
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import yaml

import lib
from lib import distributed
from lib.config import ConfigError, as_plain
from lib.data import Batch, ClipBatch, Rows, normalise_batch
from lib.data.datasets import quiet_readers
from lib.device import has_tf32
from lib.distributed import World, network_notes
from lib.files import write_text
from lib.methods import Experiment, load_experiment, resolve
from lib.paths import Paths, checkpoint_folder, load_paths
from lib.train.checkpoint import CheckpointFolder, check_state, find_state, no_state_in, read_state
from lib.train.log import LogPaths, TrainLog, WandbSink, open_log
from lib.train.loop import Trainer, TrainingSetup
from lib.train.options import TrainOptions
from lib.train.process import InterruptedTraining, Interrupts, seed_everything
from lib.train.schedule import phases_of
from lib.train.step import precision_name


def train(options: TrainOptions) -> Path | None:
    """Train in this process, together with those that torchrun started besides it, to the last epoch.

    Args:
        options: Options of the training.

    Returns:
        The weights of the last kept epoch.

    Raises:
        InterruptedTraining: A signal arrived; the state is written; the same call resumes the training.
        TrainingError: The training cannot continue; also what `open_session` raises.
    """
    world = distributed.start(options.device)
    return run_to_end(open_session(options, world), world)


def run_to_end(trainer: Trainer, world: World) -> Path | None:
    """Train to the last epoch, report the end in the log, whatever it is, and leave the group of processes in order.

    Args:
        trainer: At its position, with an open log.
        world: This process among all.

    Returns:
        The weights of the last kept epoch.

    Raises:
        InterruptedTraining, TrainingError: As `train`.
    """
    end, together = "", False
    try:
        trainer.run()
        end, together = f"training is complete: {trainer.folder.newest_weights()}", True
    except InterruptedTraining as stopped:
        end, together = f"{stopped}: run the same command again", True
        raise
    except KeyboardInterrupt:
        end = f"stopped at once; {trainer.folder.last_good()}"
        raise
    except Exception as error:
        end = f"training failed ({type(error).__name__}); {trainer.folder.last_good()}"
        raise
    finally:
        with Interrupts().noted():  # what is left takes a moment, and other processes wait for it
            with suppress(OSError):  # the log may be on a disk that is full
                trainer.log.write(end)
                trainer.log.close()
            if together:
                distributed.stop(world)
    return trainer.folder.newest_weights()


def open_session(options: TrainOptions, world: World) -> Trainer:
    """Build a trainer with its data, log and checkpoints, at the position where the training starts or continues.

    Args:
        options: Options of the command line.
        world: This process among all; every process calls this function.

    Returns:
        A trainer whose `run` trains to the last epoch; its log already holds the header.

    Raises:
        ConfigError: The configuration is unusable. Other errors of the setup come with their own classes and messages.
        OccupiedError: Another training writes to the same folder.
        ResumeError: The training cannot be resumed as requested.
    """
    experiment = load_experiment(options.script, options.config, options.all_overrides, options.plugins)
    if options.distill and experiment.config.teacher is None:
        raise ConfigError(
            "--distill 1 needs a teacher: TEACHER in the YAML file, or --script_teacher, --config_teacher"
        )
    if options.use_wandb and find_spec("wandb") is None:
        raise ConfigError("--use_wandb 1 needs the package wandb: `bash install.sh wandb`, or pip install wandb")
    train, plain = experiment.config.train, experiment.plain
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    seed_everything(train.seed + world.rank)
    place = checkpoint_folder(paths.save_dir, experiment.script, experiment.name)
    folder = CheckpointFolder(place, experiment.method.network_name)
    log_paths = LogPaths.of(paths.save_dir, experiment.script, experiment.name)
    with folder.removed_on_failure(), nullcontext() if world.is_main else quiet_readers():
        state_path, notes = world.on_main(lambda: _find_start(options, world, folder, experiment))
        setup = build_setup(experiment, world, paths, options, begins=state_path is None)
    if options.resume == "never":
        notes += world.on_main(lambda: _set_aside(folder, log_paths))
    trainer = Trainer(setup, train, world, folder, TrainLog())
    if state_path is not None:
        trainer.restore(state_path, read_state(state_path, verify=False))
    if world.is_main:
        header = f"# {experiment.script} {experiment.name}, resolved; hash {experiment.hash}\n"
        write_text(folder.folder / "config.yaml", header + yaml.safe_dump(plain, sort_keys=False))
        trainer.log = open_log(log_paths, trainer.position, len(setup.train_loader))
        if options.use_wandb:
            name = f"{experiment.script}-{experiment.name}"
            trainer.log.sinks.append(WandbSink(name, plain, log_paths))
    if precision_name(train) == "fp32" and has_tf32(world.device):
        notes.append("products of float32: with TRAIN.PRECISION tf32 or bf16 this GPU is quicker (docs/training.md)")
    if trainer.position.epoch > train.epoch:
        text = "this training had already come to its end: a larger TRAIN.EPOCH goes on, "
        notes.append(text + "`--resume never` begins from scratch")
    for line in (*_header(experiment, world, trainer), *network_notes(), *experiment.notes, *notes):
        trainer.log.write(line)
    return trainer


def build_setup(
    experiment: Experiment, world: World, paths: Paths, options: TrainOptions, begins: bool = True
) -> TrainingSetup:
    """Build network with first weights, objective and loaders, by `lib.methods.resolve`.

    Args:
        experiment: What to train.
        world: This process among all.
        paths: Where data and weights are.
        options: `load`, `previous` and `use_lmdb` are read.
        begins: False where a training state is going to replace the weights.

    Returns:
        The parts of a `Trainer`, on the device of this process.

    Raises:
        ConfigError: TRAIN.PHASES or a schedule is unusable.
    """
    train = experiment.config.train
    phases_of(train)  # unusable phases are an error now, before data sets are read
    recipe = resolve(
        experiment,
        paths,
        device=world.device,
        rank=world.rank,
        world_size=world.size,
        use_lmdb=options.use_lmdb,
        begins=begins,
        load=options.load,
        previous=options.previous,
    )
    if train.compile:
        recipe.network.compile()

    def prepare(batch: Batch | ClipBatch) -> Rows:
        # Whole frames stay where crops are cut from them.
        return batch if isinstance(batch, ClipBatch) else normalise_batch(batch.to(world.device), recipe.normalise)

    metadata = {
        "method": experiment.method.name,
        "network": experiment.method.network_name,
        "script": experiment.script,
        "config_name": experiment.name,
        "config_hash": experiment.hash,
        "config": experiment.plain,
        "seed": train.seed,
        "processes": world.size,
        "total_batch_size": train.batch_size * world.size * train.accumulate,
        "precision": precision_name(train),
        "versions": {
            "library": lib.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "cuda": str(torch.version.cuda),
        },
        **recipe.notes,
    }
    loaders = recipe.train_loader, recipe.val_loader
    return TrainingSetup(recipe.network, recipe.objective, *loaders, prepare, metadata)


def _set_aside(folder: CheckpointFolder, logs: LogPaths) -> list[str]:
    """Move an earlier training's files aside; a sentence for the log, if there were any."""
    logs.set_aside()
    aside = folder.set_aside()
    return [] if aside is None else [f"checkpoints of an earlier training were moved to {aside}"]


def _find_start(
    options: TrainOptions, world: World, folder: CheckpointFolder, experiment: Experiment
) -> tuple[Path | None, list[str]]:
    """Claim the folder and choose the state to continue from (in rank 0).

    Args:
        options: `resume`, `load` and `allow_config_change` are read.
        world: Its size is compared with that of the state.
        folder: Checkpoints of the experiment.
        experiment: Its configuration is compared with that of the state.

    Returns:
        The path of the state, None for a fresh training; and sentences for the log.
    """
    folder.claim()
    if options.resume == "never":
        return None, []
    found = find_state(folder, options.resume)
    if found is None:
        published = folder.published()
        return None, [] if published is None or options.load is not None else [no_state_in(published)]
    path, state = found
    defaults = as_plain(experiment.method.config())
    notes = check_state(state, {"config": experiment.plain}, world.size, options.allow_config_change, defaults)
    if options.load is not None:
        notes.append(f"--load {options.load} is not used, since the training goes on from {path.name}")
    return path, [*notes, f"state: {path}"]


def _header(experiment: Experiment, world: World, trainer: Trainer) -> list[str]:
    """First lines of the log: experiment, device, batch, epochs, parameters and versions."""
    train, setup = experiment.config.train, trainer.setup
    validation = "none" if setup.val_loader is None else f"{len(setup.val_loader)} steps"
    return [
        f"{experiment.script} {experiment.name}, configuration {experiment.hash}, seed {train.seed}",
        f"device {world.device} ({world.device_reason}), {precision_name(train)}, {world.size} "
        f"process{'es' if world.size > 1 else ''}, {torch.get_num_threads()} CPU threads each",
        f"batch: {train.batch_size} per process, {setup.metadata['total_batch_size']} in total "
        f"({world.size} x {train.batch_size}, accumulate {train.accumulate})",
        f"epochs: {train.epoch} of {len(setup.train_loader)} steps; validation: {validation}",
        *[setup.metadata[key] for key in ("initial", "teacher", "sequences") if key in setup.metadata],
        *trainer.describe_phase(),
        "versions: " + ", ".join(f"{k} {v}" for k, v in setup.metadata["versions"].items()),
    ]
