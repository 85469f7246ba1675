"""From an experiment to the parts of its training: network with its first weights, objective, loaders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
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
from lib.objectives import BoxCriterion, CentreBoxLoss, DistillationObjective, Objective, SequenceObjective
from lib.paths import Paths, checkpoint_folder
from lib.track import StagedTracker


@dataclass(frozen=True)
class Recipe:
    """Parts of a training: network, objective, data.

    Attributes:
        network: With its first weights, on the device of this process.
        objective: One of the ways to learn of `lib.objectives`.
        train_loader: Batches of this process. val_loader: None without validation.
        normalise: From loaded uint8 crops to what the network reads, on the device.
        notes: Where the weights come from and how the network learns; for the log and the metadata of checkpoints.
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
    load: str | Path | None = None,
    previous: tuple[str, str] | None = None,
) -> Recipe:
    """Build the parts of a training. Files of weights and data sets are found before a network is built.

    The objective is sequence-level training where there is SLT; otherwise the method's own, joined by the teacher of
    TEACHER.

    Args:
        experiment: What to train.
        paths: Where data and weights lie.
        device: Of this process.
        rank, world_size: This process among all.
        use_lmdb: Read data sets from LMDB stores.
        begins: False where a training state is going to replace the weights: nothing that the training began with has
            to be there any more.
        load: Weights to begin with in place of those that the configuration names (``--load``).
        previous: Script and configuration of an experiment whose newest checkpoint the training begins with, as far as
            its names agree (``--script_prv``, ``--config_prv``).

    Raises:
        ConfigError, CheckpointNotFoundError, MissingPathError, WeightsError, ValueError: Something that the
            configuration names is not there or does not fit.
    """
    config: Config = experiment.config
    start = _find_start(experiment, paths, load, previous) if begins else []
    teacher = None if config.teacher is None else _find_teacher(experiment, config.teacher, paths)
    if config.slt is not None:
        _check_sequence_training(config)
    process = {"rank": rank, "world_size": world_size, "use_lmdb": use_lmdb}
    train_loader, val_loader = _open_loaders(experiment, paths, process)
    own = experiment if teacher is None else _at_test_sizes(experiment)
    network = own.method.build_network(own.config, True).to(device)
    notes: dict[str, str] = {}
    for step in start:
        notes["initial"] = step.load(own, network)
    objective = _build_objective(own, network, teacher, notes)
    data = config.data
    normalise = Normalise(data.mean, data.std, channels=data.channels, clip_colours=data.clip_colours).to(device)
    return Recipe(network, objective, train_loader, val_loader, normalise, notes)


# Network: the weights that it begins with


@dataclass(frozen=True)
class _Start:
    """A file of weights that the network begins with.

    Attributes:
        option: The key or option that named it.
        file: Its path.
        role: See `Experiment.load_weights`.
    """

    option: str
    file: Path
    role: Role

    def load(self, experiment: Experiment, network: nn.Module) -> str:
        """Fill the network; returns a note for the log."""
        checkpoint = read_checkpoint(self.file)
        report = experiment.load_weights(network, checkpoint, self.role)
        if not report.loaded:
            raise WeightsError(f"{self.file}: no name in common with the network")
        note = f"starting weights ({self.option}): {checkpoint.describe()}; {report.describe()}"
        if self.option == "--load" and checkpoint.kind == "published":
            note += "; a published checkpoint carries no usable training state: epoch 1 begins with fresh moments"
        return note


def _find_start(
    experiment: Experiment, paths: Paths, load: str | Path | None, previous: tuple[str, str] | None
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
        if init.checkpoint in ("", "latest") and init.script and init.config:
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
    """The experiment that a section of the configuration names."""
    try:
        return load_experiment(script, config)
    except ConfigError as error:
        raise ConfigError(f"{section}: {error}") from None


# Data


def _open_loaders(
    experiment: Experiment, paths: Paths, process: dict[str, Any]
) -> tuple[BatchLoader[Any], BatchLoader[Any] | None]:
    """Loaders of training and validation; process: further arguments of `open_loader`."""
    method, config = experiment.method, experiment.config
    build_data = method.build_data if config.slt is None else clip_data
    opened = partial(open_loader, build_data, config, paths, reads_aux=method.reads_aux, **process)
    train_loader, val = opened(training=True), config.data.val
    if not (val.names and val.sample_per_epoch and config.train.val_epoch_interval > 0):
        return train_loader, None
    try:
        return train_loader, opened(training=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{str(error).rstrip('.')}; TRAIN.VAL_EPOCH_INTERVAL=0 trains without validation"
        ) from None


# Objective


def _build_objective(
    experiment: Experiment, network: nn.Module, teacher: tuple[Experiment, Path] | None, notes: dict[str, str]
) -> Objective:
    """Sequence-level training, or the method's own objective, joined by the teacher; adds to the notes."""
    config, method = experiment.config, experiment.method
    if config.slt is not None:
        slt, clips = config.slt, config.train.batch_size
        part = f"{slt.micro_frames} frames" if slt.micro_frames else f"{slt.micro_batch or clips}"
        whole = f"{clips} clips of {slt.frames} frames"
        notes["sequences"] = f"sequence-level training: {whole} per step, {part} per backward pass"
        return _sequence_objective(experiment, network)
    own = method.build_objective(config, network)
    if teacher is None:
        return own
    other, file = teacher
    master = other.method.build_network(other.config, False)
    other.load_weights(master, file)
    try:
        objective = DistillationObjective(own, network, master, config).to(next(network.parameters()).device)
    except ValueError as error:
        raise ConfigError(f"TEACHER {other.script} {other.name}: {error}") from None
    t, s = other.config.test, config.test
    notes["teacher"] = (
        f"teacher: {other.script} {other.name} at {t.search_size}/{t.template_size}, "
        f"{objective.precision}, {file}; student at {s.search_size}/{s.template_size}"
    )
    return objective


def _find_teacher(experiment: Experiment, section: Teacher, paths: Paths) -> tuple[Experiment, Path]:
    """The experiment of the teacher, and the file of its weights."""
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


def _at_test_sizes(experiment: Experiment) -> Experiment:
    """A student's experiment as its network is built in training: DATA gives the teacher's sizes, TEST its own."""
    config, data, test = experiment.config, experiment.config.data, experiment.config.test
    search, template = replace(data.search, size=test.search_size), replace(data.template, size=test.template_size)
    data = replace(data, search=search, template=template)
    return replace(experiment, config=replace(config, data=data))


def _check_sequence_training(config: Config) -> None:
    """Raise ConfigError where other sections contradict SLT."""
    if config.train.compile:
        raise ConfigError(
            "TRAIN.COMPILE compiles the network's forward pass, which sequence-level training (SLT) never takes, since "
            "it calls the network as the tracker does; leave COMPILE out"
        )
    data, test = config.data, config.test
    template, search = (data.template.size, test.template_size), (data.search.size, test.search_size)
    for key, (ours, tracked) in (("SEARCH", search), ("TEMPLATE", template)):
        if ours != tracked:
            raise ConfigError(
                f"DATA.{key}.SIZE is {ours} and TEST.{key}_SIZE {tracked}: in sequence-level training the network "
                "learns as it tracks, so both must be the same"
            )


def _sequence_objective(experiment: Experiment, network: nn.Module) -> SequenceObjective:
    """Sequence-level training of the method's tracker, with its auxiliary loss."""
    config, method = experiment.config, experiment.method
    tracker = experiment.build_tracker(network)
    if not isinstance(tracker, StagedTracker):
        raise ConfigError(f"SLT: the tracker of {method.name} has no stages of a step, so it cannot explore")
    tracker = tracker.explorer()
    if method.build_auxiliary is not None:
        return SequenceObjective(tracker, method.build_auxiliary(config, network), config.slt, prepare_for_rollout)
    # The score map learns by the policy alone.
    auxiliary = CentreBoxLoss(BoxCriterion.from_config(config.train, focal_weight=0.0))
    return SequenceObjective(tracker, auxiliary, config.slt, prepare_for_rollout)
