"""Teacher and student by configuration: what a `TEACHER` section of any method's YAML file stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from lib.config import KD, Config, ConfigError, Teacher
from lib.methods.checkpoints import find_checkpoint, find_file
from lib.methods.experiment import Experiment, load_experiment
from lib.models import read_checkpoint
from lib.objectives import DistillationObjective, DistillationRule, Objective
from lib.paths import Paths


@dataclass(frozen=True)
class Distillation:
    """A student's configuration, its teacher's experiment, and the file of the teacher's weights."""

    config: Config
    section: Teacher
    teacher: Experiment
    checkpoint: Path

    @property
    def student_config(self) -> Any:
        """The student's configuration as its network is built in training: with TEST's sizes, not the teacher's."""
        data, test = self.config.data, self.config.test
        search, template = replace(data.search, size=test.search_size), replace(data.template, size=test.template_size)
        return replace(self.config, data=replace(data, search=search, template=template))

    def join(self, base: Objective, student: nn.Module) -> DistillationObjective:
        """`base`, joined by the teacher with its weights (loaded strictly).

        Raises WeightsError for weights that do not fit, ConfigError for networks that cannot be compared.
        """
        test, kd = self.config.test, self.config.kd or KD()
        teacher = self.teacher
        network = teacher.method.build_network(teacher.config, False)
        teacher.method.load(network, teacher.config, read_checkpoint(self.checkpoint))
        rule = DistillationRule(
            template_size=test.template_size,
            search_size=test.search_size,
            temperature=kd.temperature,
            layers=kd.layers,
            threshold=kd.saliency_threshold,
            foreground=kd.foreground_weight,
            background=kd.background_weight,
            disc_weight=kd.disc_weight,
            qkv_weight=kd.qkv_weight,
        )
        try:
            return DistillationObjective(base, student, network, rule, self.section.precision)
        except ValueError as error:
            raise ConfigError(f"TEACHER {self.teacher.script} {self.teacher.name}: {error}") from None

    def describe(self) -> str:
        """One line for the log."""
        t, s = self.teacher.config.test, self.config.test
        return (
            f"teacher: {self.teacher.script} {self.teacher.name} at {t.search_size}/{t.template_size}, "
            f"{self.section.precision}, {self.checkpoint}; student at {s.search_size}/{s.template_size}"
        )


def plan_distillation(experiment: Experiment, paths: Paths) -> Distillation | None:
    """What the experiment's TEACHER section asks for; None without one. Builds nothing, so a mistake is told at once.

    Raises ConfigError for a teacher that does not read what the data pipeline gives, CheckpointNotFoundError.
    """
    config: Config = experiment.config
    section = config.teacher
    if section is None:
        return None
    try:
        teacher = load_experiment(section.script, section.config)
    except ConfigError as error:
        raise ConfigError(f"TEACHER: {error}") from None
    if teacher.method.reads_aux != experiment.method.reads_aux:
        one, other = (m.name for m in (teacher.method, experiment.method))
        raise ConfigError(f"TEACHER: of {one} and {other}, one reads RGB alone and the other a second picture, too")
    _check_inputs(config, teacher)
    return Distillation(config, section, teacher, _find_weights(section, teacher, paths))


def _check_inputs(config: Config, teacher: Experiment) -> None:
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


def _find_weights(section: Teacher, teacher: Experiment, paths: Paths) -> Path:
    if section.checkpoint:
        return find_file(section.checkpoint, paths.pretrained, "TEACHER.CHECKPOINT")
    return find_checkpoint(teacher, paths.save_dir, None, paths.pretrained, option="TEACHER.CHECKPOINT")
