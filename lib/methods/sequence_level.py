"""Sequence-level training by configuration: what an `SLT` section of any method's YAML file stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lib.config import SLT, Config, ConfigError
from lib.methods.checkpoints import find_file
from lib.methods.experiment import Experiment
from lib.methods.initial import without_pretraining
from lib.models import read_checkpoint
from lib.objectives import AuxiliaryLoss, BoxCriterion, CentreBoxLoss, SequenceObjective, SequenceRule, SoftmaxPolicy
from lib.paths import Paths
from lib.track import StagedTracker


@dataclass(frozen=True)
class SequenceTraining:
    """An experiment that learns by tracking. start: file of the weights to begin with, or None."""

    experiment: Experiment
    section: SLT
    start: Path | None

    @property
    def own_config(self) -> Any:
        """The configuration that the network is built by: START goes before MODEL.PRETRAIN_FILE."""
        return self.experiment.config if self.start is None else without_pretraining(self.experiment).config

    def load_start(self, network: nn.Module) -> None:
        """The weights of START, strictly."""
        if self.start is not None:
            self.experiment.method.load(network, self.experiment.config, read_checkpoint(self.start))

    def objective(self, network: nn.Module) -> SequenceObjective:
        """Raises ConfigError for a method whose tracker cannot explore."""
        s, method = self.section, self.experiment.method
        tracker = method.build_tracker(self.experiment.config, network, None)
        if not isinstance(tracker, StagedTracker):
            raise ConfigError(f"SLT: the tracker of {method.name} does not say what it looks at, so it cannot explore")
        auxiliary = _box_losses if method.build_auxiliary is None else method.build_auxiliary
        rule = SequenceRule(s.policy_weight, s.micro_batch, s.average, SoftmaxPolicy(s.temperature, s.epsilon))
        return SequenceObjective(tracker, auxiliary(self.experiment.config), rule)

    def describe(self) -> str:
        """One line for the log."""
        s, train = self.section, self.experiment.config.train
        began = "initial weights" if self.start is None else str(self.start)
        return (
            f"sequence-level training: {train.batch_size} clips of {s.frames} frames per step, "
            f"{s.micro_batch or train.batch_size} per backward pass; from {began}"
        )


def plan_sequence_training(experiment: Experiment, paths: Paths) -> SequenceTraining | None:
    """What the experiment's SLT section asks for; None without one. Builds nothing, so a mistake is told at once.

    Raises ConfigError for sizes that differ between training and tracking and for TRAIN.COMPILE,
    CheckpointNotFoundError.
    """
    config: Config = experiment.config
    if config.slt is None:
        return None
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
    return SequenceTraining(experiment, config.slt, _find_start(config.slt, paths))


def _find_start(section: SLT, paths: Paths) -> Path | None:
    if not section.start:
        return None
    remark = "; sequence-level training begins with a network that was trained on single frames"
    return find_file(section.start, paths.pretrained, "SLT.START", remark)


def _box_losses(config: Config) -> AuxiliaryLoss:
    """GIoU and L1 of the best cell's box by TRAIN's weights, nothing for the score map."""
    return CentreBoxLoss(BoxCriterion(config.train.giou_weight, config.train.l1_weight, focal=0.0))
