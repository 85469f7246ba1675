"""From the options of a command line to a trainer that is ready to run: where it starts, what it tells at first."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import lib
from lib.config import ConfigError
from lib.data.datasets import quiet_readers
from lib.distributed import World
from lib.files import write_text
from lib.methods import Experiment, load_experiment
from lib.paths import checkpoint_folder, load_paths
from lib.train.build import build_parts
from lib.train.checkpoint import CheckpointFolder, read_state
from lib.train.log import (
    LinesSink,
    LogPaths,
    Sink,
    TensorboardSink,
    TerminalSink,
    TextSink,
    TrainLog,
    WandbSink,
    tensorboard_available,
)
from lib.train.loop import Parts, Trainer
from lib.train.optim import describe_groups
from lib.train.options import TrainOptions
from lib.train.precision import precision_name
from lib.train.resume import check_state, find_state, no_state_in
from lib.train.rng import seed_everything


@dataclass
class Session:
    """A trainer with the places it writes to."""

    trainer: Trainer
    folder: CheckpointFolder
    log: TrainLog


def open_session(options: TrainOptions, world: World) -> Session:
    """Build everything and find the starting point. Raises what is wrong with the setup, each with its own message."""
    experiment = load_experiment(options.script, options.config, options.all_overrides, options.plugins)
    if options.distill and experiment.config.teacher is None:
        raise ConfigError(
            "--distill 1 needs a teacher: TEACHER in the YAML file, or --script_teacher, --config_teacher"
        )
    train = experiment.config.train
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    seed_everything(train.seed + world.rank)
    folder = CheckpointFolder(
        checkpoint_folder(paths.save_dir, experiment.script, experiment.name), experiment.method.network_name
    )
    identity = {"config": experiment.plain, "config_hash": experiment.hash}
    log_paths = LogPaths.of(paths.save_dir, experiment.script, experiment.name)
    state_path, notes = world.on_main(lambda: _settle(options, world, folder, log_paths, identity))
    with nullcontext() if world.is_main else quiet_readers():
        told = metadata(experiment, world)
        previous = None if options.script_prv is None else (options.script_prv, options.config_prv)
        begins = state_path is None
        parts = build_parts(experiment, world, paths, options.use_lmdb, identity, told, begins, options.load, previous)
    trainer = Trainer(parts, train, world, folder, TrainLog())
    if state_path is not None:
        trainer.restore(state_path, read_state(state_path))
    if world.is_main:
        _write_config(folder.folder / "config.yaml", experiment)
        trainer.log = _open_log(options, log_paths, experiment, trainer)
    if trainer.position.epoch > train.epoch:
        notes.append("this training had already come to its end; --resume never begins anew")
    for line in (*_header(experiment, world, parts), *notes):
        trainer.log.message(line)
    return Session(trainer, folder, trainer.log)


def _settle(
    options: TrainOptions, world: World, folder: CheckpointFolder, logs: LogPaths, identity: Mapping[str, Any]
) -> tuple[Path | None, list[str]]:
    """In the first process: the state to go on from, if any, and what to say about it."""
    folder.claim()
    if options.resume == "never":
        aside = folder.set_aside()
        logs.set_aside()
        return None, [] if aside is None else [f"checkpoints of an earlier training were moved to {aside}"]
    found = find_state(folder, options.resume)
    if found is None:
        published = folder.published()
        told = published is not None and options.load is None
        return None, [no_state_in(published)] if told and published is not None else []
    path, state = found
    notes = check_state(state, identity, world.size, options.allow_config_change)
    if options.load is not None:
        notes.append(f"--load {options.load} is not used, since the training goes on from {path.name}")
    return path, [*notes, f"state: {path}"]


def versions() -> dict[str, str]:
    """What the numbers of a training may depend on."""
    return {
        "library": lib.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "cuda": str(torch.version.cuda),
    }


def metadata(experiment: Experiment, world: World) -> dict[str, Any]:
    """What goes beside the weights."""
    train = experiment.config.train
    return {
        "method": experiment.method.name,
        "network": experiment.method.network_name,
        "script": experiment.script,
        "config_name": experiment.name,
        "config_hash": experiment.hash,
        "config": experiment.plain,
        "seed": train.seed,
        "processes": world.size,
        "total_batch_size": total_batch_size(experiment, world),
        "precision": precision_name(train),
        "versions": versions(),
    }


def total_batch_size(experiment: Experiment, world: World) -> int:
    """Samples that go into one update."""
    train = experiment.config.train
    return train.batch_size * world.size * train.accumulate


def _header(experiment: Experiment, world: World, parts: Parts) -> list[str]:
    train = experiment.config.train
    network = parts.network
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    of_all = sum(p.numel() for p in network.parameters())
    validation = "none" if parts.val_loader is None else f"{len(parts.val_loader)} steps"
    return [
        f"{experiment.script} {experiment.name}, configuration {experiment.hash}, seed {train.seed}",
        f"device {world.device} ({world.device_reason}), {precision_name(train)}, {world.size} "
        f"process{'es' if world.size > 1 else ''}, {torch.get_num_threads()} CPU threads each",
        f"batch: {train.batch_size} per process, {total_batch_size(experiment, world)} in total "
        f"({world.size} x {train.batch_size}, accumulate {train.accumulate})",
        f"epochs: {train.epoch} of {len(parts.train_loader)} steps; validation: {validation}",
        f"parameters: {trained:,} of {of_all:,} are trained",
        *[parts.metadata[key] for key in ("initial", "teacher", "sequences") if key in parts.metadata],
        *describe_groups(parts.optimizer.param_groups),
        "versions: " + ", ".join(f"{k} {v}" for k, v in versions().items()),
    ]


def _write_config(path: Path, experiment: Experiment) -> None:
    text = f"# {experiment.script} {experiment.name}, resolved; hash {experiment.hash}\n"
    text += yaml.safe_dump(experiment.plain, sort_keys=False)
    write_text(path, text)


def _open_log(options: TrainOptions, paths: LogPaths, experiment: Experiment, trainer: Trainer) -> TrainLog:
    position = trainer.position
    done = (position.epoch - 1) * len(trainer.parts.train_loader) + position.step
    sinks: list[Sink] = [TerminalSink(), TextSink(paths.text), LinesSink(paths.lines, position)]
    if tensorboard_available():
        sinks.append(TensorboardSink(paths.tensorboard, purge_step=done + 1))
    if options.use_wandb:
        sinks.append(WandbSink(f"{experiment.script}-{experiment.name}", experiment.plain, paths.text.parent))
    return TrainLog(sinks)
