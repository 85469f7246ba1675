"""Weights to begin with from another experiment: what an `INIT` section of any method's YAML file stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from lib.config import Config, ConfigError, Init
from lib.methods.checkpoints import find_checkpoint, find_file
from lib.methods.experiment import Experiment, load_experiment
from lib.models import read_checkpoint
from lib.paths import Paths


@dataclass(frozen=True)
class InitialWeights:
    """The experiment that begins, and the file that it begins with."""

    experiment: Experiment
    checkpoint: Path

    def load(self, network: nn.Module) -> str:
        """Fill the network; what the method adds to an earlier stage may be missing. Returns a line for the log.

        Raises WeightsError for whatever else does not fit.
        """
        method, config = self.experiment.method, self.experiment.config
        report = method.load(network, config, read_checkpoint(self.checkpoint), earlier=True)
        return f"begins with {self.checkpoint}: {report.describe()}"


def plan_initial_weights(experiment: Experiment, paths: Paths) -> InitialWeights | None:
    """What the experiment's INIT section asks for; None without one, or where SLT.START names the weights.

    Builds nothing, so a mistake is told at once.
    Raises ConfigError for an experiment that is not there, CheckpointNotFoundError.
    """
    config: Config = experiment.config
    if config.init is None or (config.slt is not None and config.slt.start):
        return None
    return InitialWeights(experiment, _find(config.init, paths))


def without_pretraining(experiment: Experiment) -> Experiment:
    """The experiment whose network is built with fresh weights, since others take their place."""
    config = experiment.config
    return replace(experiment, config=replace(config, model=replace(config.model, pretrain_file="")))


def _find(section: Init, paths: Paths) -> Path:
    if section.checkpoint:
        return find_file(section.checkpoint, paths.pretrained, "INIT.CHECKPOINT")
    try:
        earlier = load_experiment(section.script, section.config)
    except ConfigError as error:
        raise ConfigError(f"INIT: {error}") from None
    return find_checkpoint(earlier, paths.save_dir, None, paths.pretrained, option="INIT.CHECKPOINT")
