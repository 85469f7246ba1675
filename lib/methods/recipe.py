"""From an experiment to the parts of its training: network with its first weights, objective, loaders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.config import Config, ConfigError, Teacher
from lib.data import BatchLoader, Normalise
from lib.deploy import prepare_for_rollout
from lib.methods.data import clip_data, open_loader
from lib.methods.experiment import Experiment, Role, load_experiment
from lib.models import WeightPlaces, WeightsError, locate, read_checkpoint
from lib.objectives import (
    AuxiliaryLoss,
    BoxCriterion,
    CentreBoxLoss,
    DistillationObjective,
    Objective,
    SequenceObjective,
)
from lib.paths import Paths, checkpoint_folder
from lib.track import StagedTracker


@dataclass(frozen=True)
class Recipe:
    """What is trained, by which objective, on which data.

    Attributes:
        network: with its first weights, on the device of this process.
        objective: one of the ways to learn of `lib.objectives`.
        train_loader: batches of this process. val_loader: None without validation.
        normalise: from loaded uint8 crops to what the network reads, on the device.
        notes: where the weights come from and how the network learns; for the log and the metadata of checkpoints.
    """

    network: nn.Module
    objective: Objective
    train_loader: BatchLoader[Any]
    val_loader: BatchLoader[Any] | None
    normalise: Normalise
    notes: dict[str, str]


def resolve(
    experiment: Experiment,
    paths: Paths,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    use_lmdb: bool = False,
    begins: bool = True,
    load: Path | None = None,
    previous: tuple[str, str] | None = None,
) -> Recipe:
    """Build what the experiment asks for. Files of weights and data sets are found before a network is built.

    Which objective: SLT gives sequence-level training; otherwise the method's own, joined by the teacher of TEACHER.

    Args:
        experiment: what to train.
        paths: where data and weights lie.
        device: of this process.
        rank, world_size: this process among all.
        use_lmdb: read data sets from LMDB stores.
        begins: False where a training state is going to replace the weights: nothing that the training began with has
            to be there any more.
        load: weights to begin with in place of those that the configuration names (``--load``).
        previous: script and configuration of an experiment whose newest checkpoint the training begins with, as far as
            its names agree (``--script_prv``, ``--config_prv``).

    Raises:
        ConfigError, CheckpointNotFoundError, MissingPathError, WeightsError, ValueError: for what the configuration
            asks and is not there or does not fit.
    """
    config: Config = experiment.config
    method, slt = experiment.method, config.slt
    start = _find_start(experiment, paths, load, previous) if begins else []
    teacher = None if config.teacher is None else _find_teacher(experiment, config.teacher, paths)
    if slt is not None:
        _check_sequence_training(config)
    build_data = method.build_data if slt is None else clip_data

    def loader(training: bool) -> BatchLoader[Any]:
        mix = config.data.train if training else config.data.val
        return open_loader(
            build_data(config, training),
            config,
            mix,
            paths,
            training=training,
            reads_aux=method.reads_aux,
            rank=rank,
            world_size=world_size,
            use_lmdb=use_lmdb,
        )

    train_loader, val_loader = loader(training=True), None
    if config.data.val.names and config.data.val.sample_per_epoch and config.train.val_epoch_interval > 0:
        try:
            val_loader = loader(training=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{str(error).rstrip('.')}; TRAIN.VAL_EPOCH_INTERVAL=0 trains without validation"
            ) from None

    own = config if teacher is None else _at_test_sizes(config)
    network = method.build_network(own, True).to(device)
    notes: dict[str, str] = {}
    for step in start:
        notes["initial"] = step.load(replace(experiment, config=own), network)
    objective: Objective
    if slt is not None:
        objective = _sequence_objective(experiment, network)
        clips, size = config.train.batch_size, slt.micro_batch or config.train.batch_size
        notes["sequences"] = (
            f"sequence-level training: {clips} clips of {slt.frames} frames per step, {size} per backward pass"
        )
    else:
        objective = method.build_objective(own, network)
        if teacher is not None:
            other, file = teacher
            master = other.method.build_network(other.config, False)
            other.load_weights(master, file)
            try:
                objective = DistillationObjective.from_config(config, objective, network, master).to(device)
            except ValueError as error:
                raise ConfigError(f"TEACHER {other.script} {other.name}: {error}") from None
            t, s = other.config.test, config.test
            notes["teacher"] = (
                f"teacher: {other.script} {other.name} at {t.search_size}/{t.template_size}, "
                f"{objective.precision}, {file}; student at {s.search_size}/{s.template_size}"
            )
    normalise = Normalise(config.data.mean, config.data.std, channels=config.data.channels).to(device)
    return Recipe(network, objective, train_loader, val_loader, normalise, notes)


@dataclass(frozen=True)
class _Start:
    """A file of weights that the network begins with. role: see `Experiment.load_weights`."""

    option: str
    file: Path
    role: Role

    def load(self, experiment: Experiment, network: nn.Module) -> str:
        checkpoint = read_checkpoint(self.file)
        report = experiment.load_weights(network, checkpoint, self.role)
        if not report.loaded:
            raise WeightsError(f"{self.file}: no name in common with the network")
        note = f"starting weights ({self.option}): {checkpoint.describe()}; {report.describe()}"
        if self.option == "--load" and checkpoint.kind == "published":
            note += "; a published checkpoint carries no usable training state: epoch 1 begins with fresh moments"
        return note


def _find_start(
    experiment: Experiment, paths: Paths, load: Path | None, previous: tuple[str, str] | None
) -> list[_Start]:
    """Files that the network begins with, in the order in which they are loaded; the last one that has a name wins."""
    config: Config = experiment.config
    if load is not None:
        return [_Start("--load", experiment.locate_weights(str(load), paths, "--load"), "trained")]
    found = []
    if config.slt is not None and config.slt.start:
        hint = "; sequence-level training begins with a network that was trained on single frames"
        file = experiment.locate_weights(config.slt.start, paths, "SLT.START", hint)
        found.append(_Start("SLT.START", file, "trained"))
    elif config.init is not None:
        earlier, init = experiment, config.init
        if not init.checkpoint:
            earlier = _load_other(init.script, init.config, "INIT")
        file = earlier.locate_weights(init.checkpoint, paths, "INIT.CHECKPOINT")
        found.append(_Start("INIT", file, "earlier"))
    elif config.model.pretrain_file:
        hint = "; timm:NAME takes weights that timm knows, an empty string starts from random weights"
        file = experiment.locate_weights(config.model.pretrain_file, paths, "MODEL.PRETRAIN_FILE", hint)
        found.append(_Start("MODEL.PRETRAIN_FILE", file, "pretrained"))
    if previous is not None:
        places = WeightPlaces(paths.pretrained, checkpoint_folder(paths.save_dir, *previous), *previous)
        found.append(_Start("--script_prv", locate("latest", places, f"--script_prv {previous[0]}"), "similar"))
    return found


def _load_other(script: str, config: str, section: str) -> Experiment:
    try:
        return load_experiment(script, config)
    except ConfigError as error:
        raise ConfigError(f"{section}: {error}") from None


# Teacher and student


def _find_teacher(experiment: Experiment, section: Teacher, paths: Paths) -> tuple[Experiment, Path]:
    """The experiment whose network teaches, and the file of its weights."""
    config = experiment.config
    teacher = _load_other(section.script, section.config, "TEACHER")
    if teacher.method.reads_aux != experiment.method.reads_aux:
        one, other = (m.name for m in (teacher.method, experiment.method))
        raise ConfigError(f"TEACHER: of {one} and {other}, one reads RGB alone and the other a second picture")
    data, test, theirs = config.data, teacher.config.test, teacher.config.data
    given = {
        "DATA.SEARCH.SIZE": (data.search.size, test.search_size),
        "DATA.TEMPLATE.SIZE": (data.template.size, test.template_size),
        "DATA.SEARCH.FACTOR": (data.search.factor, test.search_factor),
        "DATA.TEMPLATE.FACTOR": (data.template.factor, test.template_factor),
        "DATA.MEAN": (data.mean, theirs.mean),
        "DATA.STD": (data.std, theirs.std),
    }
    for key, (ours, wanted) in given.items():
        if ours != wanted:
            raise ConfigError(
                f"{key} is {ours}, but the teacher {teacher.script} {teacher.name} reads {wanted}; "
                "DATA describes the teacher's crops, TEST.SEARCH_SIZE and TEST.TEMPLATE_SIZE the student's"
            )
    return teacher, teacher.locate_weights(section.checkpoint, paths, "TEACHER.CHECKPOINT")


def _at_test_sizes(config: Any) -> Any:
    """A student's configuration as its network is built in training: DATA gives the teacher's sizes, TEST its own."""
    data, test = config.data, config.test
    search, template = replace(data.search, size=test.search_size), replace(data.template, size=test.template_size)
    return replace(config, data=replace(data, search=search, template=template))


# Sequence-level training


def _check_sequence_training(config: Config) -> None:
    if config.train.compile:
        raise ConfigError(
            "TRAIN.COMPILE compiles the network's forward pass, which sequence-level training (SLT) never takes, since "
            "it asks the network as the tracker does; leave COMPILE out"
        )
    data, test = config.data, config.test
    for key, ours, tracked in (
        ("SEARCH", data.search.size, test.search_size),
        ("TEMPLATE", data.template.size, test.template_size),
    ):
        if ours != tracked:
            raise ConfigError(
                f"DATA.{key}.SIZE is {ours} and TEST.{key}_SIZE {tracked}: in sequence-level training the network "
                "learns as it tracks, so both must be the same"
            )


def _sequence_objective(experiment: Experiment, network: nn.Module) -> SequenceObjective:
    config: Config = experiment.config
    slt, method = config.slt, experiment.method
    assert slt is not None
    tracker = experiment.build_tracker(network)
    if not isinstance(tracker, StagedTracker):
        raise ConfigError(f"SLT: the tracker of {method.name} has no stages of a step, so it cannot explore")
    auxiliary: AuxiliaryLoss
    if method.build_auxiliary is None:
        # The policy alone teaches the score map.
        auxiliary = CentreBoxLoss(BoxCriterion.from_config(config.train, focal_weight=0.0))
    else:
        auxiliary = method.build_auxiliary(config)
    return SequenceObjective(tracker, auxiliary, slt, prepare_for_rollout)
