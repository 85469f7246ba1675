"""TEACHER and KD in YAML files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.config import ConfigError
from lib.methods import CheckpointNotFoundError, load_experiment, plan_distillation
from lib.models import WeightsError, save_release
from lib.objectives import DistillationObjective
from lib.paths import Paths, repository_root

EXPERIMENTS = repository_root() / "experiments"
STUDENTS = sorted(p.stem for p in (EXPERIMENTS / "loretrack").glob("*.yaml"))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path / "data", tmp_path / "output", tmp_path / "pretrained")


@pytest.mark.parametrize("name", STUDENTS)
def test_students_and_teachers_fit(name: str, paths: Paths) -> None:
    paths.pretrained.mkdir()
    (paths.pretrained / "some.pth").touch()
    experiment = load_experiment("loretrack", name, ["TEACHER.CHECKPOINT=some.pth"])
    plan = plan_distillation(experiment, paths)
    assert plan is not None
    data, test = plan.student_config.data, experiment.config.test
    assert (data.search.size, data.template.size) == (test.search_size, test.template_size)
    assert plan.teacher.config.test.search_size == experiment.config.data.search.size


def test_published_values() -> None:
    c = load_experiment("loretrack", "vitb_384_mae_32x4_ep300").config
    assert (c.data.search.size, c.test.search_size, c.test.template_size, c.test.epoch) == (384, 256, 128, 296)
    assert (c.train.save_last_n_epoch, c.train.epoch, c.kd.foreground_weight) == (10, 300, 0.6)
    g = load_experiment("loretrack", "vitb_384_mae_32x4_got10k_ep100").config
    assert (g.data.train.names, g.test.search_size, g.test.template_size) == (("GOT10K_train_full",), 96, 48)
    assert (g.kd.foreground_weight, g.kd.background_weight) == (0.75, 0.25)


def test_a_published_file_without_a_teacher_has_the_published_one(tmp_path: Path) -> None:
    bases = f"[{EXPERIMENTS}/_base_/ostrack.yaml, {EXPERIMENTS}/_base_/ostrack_384.yaml]"
    path = tmp_path / "official.yaml"
    path.write_text(f"BASE: {bases}\nTEST: {{SEARCH_SIZE: 256, TEMPLATE_SIZE: 128, EPOCH: 296}}\n")
    ours = load_experiment("loretrack", "vitb_384_mae_32x4_ep300")
    assert load_experiment("loretrack", str(path)).hash == ours.hash


def test_experiments_without_a_teacher_are_what_they_were() -> None:
    assert set(load_experiment("ostrack", "synthetic_small").plain) == {"DATA", "MODEL", "TRAIN", "TEST"}
    with pytest.raises(ConfigError, match="KD is given without a TEACHER"):
        load_experiment("ostrack", "synthetic_small", ["KD.TEMPERATURE=2"])
    with pytest.raises(ConfigError, match=r"TEACHER\.CONFIG is missing"):
        load_experiment("ostrack", "synthetic_small", ["TEACHER.SCRIPT=ostrack"])


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("TEACHER.CHECKPOINT=nothing.pth", CheckpointNotFoundError, r"TEACHER\.CHECKPOINT nothing\.pth: no such file"),
        ("TEACHER.CHECKPOINT=''", CheckpointNotFoundError, r"looked for epoch .*name a file with TEACHER\.CHECKPOINT$"),
        ("TEACHER.CONFIG=synthetic_smal", ConfigError, "TEACHER: no configuration .*did you mean 'synthetic_small'"),
        ("DATA.SEARCH.SIZE=128", ConfigError, r"DATA\.SEARCH\.SIZE is 128, but the teacher .* reads 96"),
    ],
)
def test_a_teacher_that_cannot_be_is_told(override: str, error: type[Exception], message: str, paths: Paths) -> None:
    experiment = load_experiment("loretrack", "synthetic_64", ["TEACHER.CHECKPOINT=x.pth", override])
    with pytest.raises(error, match=message):
        plan_distillation(experiment, paths)


def test_the_teachers_weights_are_loaded_strictly(paths: Paths) -> None:
    teacher = load_experiment("ostrack", "synthetic_small")
    network = teacher.method.build_network(teacher.config, False)
    save_release(paths.pretrained / "t", network.state_dict(), {})
    experiment = load_experiment("loretrack", "synthetic_64", ["TEACHER.CHECKPOINT=t.safetensors"])
    plan = plan_distillation(experiment, paths)
    assert plan is not None
    student = experiment.method.build_network(plan.student_config, True)
    base = experiment.method.build_objective(plan.student_config, student)
    objective = plan.join(base, student)
    assert isinstance(objective, DistillationObjective)
    torch.testing.assert_close(objective.teacher.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert student.backbone.grid_search == 8
    save_release(paths.pretrained / "t", student.state_dict(), {})
    with pytest.raises(WeightsError, match="pos_embed_x"):
        plan.join(base, student)


def test_widths_that_differ_are_told(paths: Paths) -> None:
    teacher = load_experiment("ostrack", "synthetic_small")
    save_release(paths.pretrained / "t", teacher.method.build_network(teacher.config, False).state_dict(), {})
    settings = ["TEACHER.CHECKPOINT=t.safetensors", "MODEL.BACKBONE.EMBED_DIM=48"]
    experiment = load_experiment("loretrack", "synthetic_64", settings)
    plan = plan_distillation(experiment, paths)
    assert plan is not None
    student = experiment.method.build_network(plan.student_config, True)
    with pytest.raises(ConfigError, match="TEACHER ostrack synthetic_small: its features have 96 channels and the"):
        plan.join(experiment.method.build_objective(plan.student_config, student), student)
