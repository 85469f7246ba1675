"""TEACHER and KD in YAML files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.config import ConfigError
from lib.methods import Experiment, Recipe, load_experiment, resolve
from lib.models import CheckpointNotFoundError, WeightsError, save_release
from lib.objectives import DistillationObjective
from lib.paths import Paths, repository_root

EXPERIMENTS = repository_root() / "experiments"
STUDENTS = sorted(p.stem for p in (EXPERIMENTS / "loretrack").glob("*.yaml"))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path / "data", tmp_path / "output", tmp_path / "pretrained")


SYNTHETIC = (
    "DATA.TRAIN={DATASETS_NAME: ['SYNTHETIC:sequences=1,length=24,width=96,height=96'], DATASETS_RATIO: [1], "
    "SAMPLE_PER_EPOCH: 64}",
    "DATA.VAL.SAMPLE_PER_EPOCH=0",
    "TRAIN.NUM_WORKER=0",
)


def teacher_file(paths: Paths) -> Experiment:
    """The shipped network's experiment, with random weights in `t.safetensors`."""
    teacher = load_experiment("ostrack", "synthetic_small")
    save_release(paths.pretrained / "t", teacher.method.build_network(teacher.config, False).state_dict(), {})
    return teacher


def student(paths: Paths, *overrides: str) -> Recipe:
    settings = ("TEACHER.CHECKPOINT=t.safetensors", *SYNTHETIC, *overrides)
    return resolve(load_experiment("loretrack", "synthetic_64", settings), paths)


@pytest.mark.parametrize("name", STUDENTS)
def test_students_and_teachers_fit(name: str) -> None:
    config = load_experiment("loretrack", name).config
    teacher = load_experiment(config.teacher.script, config.teacher.config).config
    assert teacher.test.search_size == config.data.search.size
    assert teacher.test.template_size == config.data.template.size
    assert (teacher.data.mean, teacher.test.search_factor) == (config.data.mean, config.data.search.factor)


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
        (
            "TEACHER={SCRIPT: ostrack, CONFIG: synthetic_demo, CHECKPOINT: ''}",
            CheckpointNotFoundError,
            r"looked for epoch .*name a file with TEACHER\.CHECKPOINT$",
        ),
        ("TEACHER.CONFIG=synthetic_smal", ConfigError, "TEACHER: no configuration .*did you mean 'synthetic_small'"),
        ("DATA.SEARCH.SIZE=128", ConfigError, r"DATA\.SEARCH\.SIZE is 128, but the teacher .* reads 96"),
    ],
)
def test_a_teacher_that_cannot_be_is_an_error(
    override: str, error: type[Exception], message: str, paths: Paths
) -> None:
    with pytest.raises(error, match=message):
        student(paths, override)


def test_the_teachers_weights_are_loaded_strictly(paths: Paths) -> None:
    teacher = teacher_file(paths)
    network = teacher.method.build_network(teacher.config, False)
    teacher.load_weights(network, paths.pretrained / "t.safetensors")
    recipe = student(paths)
    objective, learner = recipe.objective, recipe.network
    assert isinstance(objective, DistillationObjective)
    torch.testing.assert_close(objective.teacher.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert learner.backbone.grid_search == 8
    assert "teacher: ostrack synthetic_small at 96/48, fp32" in recipe.notes["teacher"]
    save_release(paths.pretrained / "t", learner.state_dict(), {})
    with pytest.raises(WeightsError, match="pos_embed_x"):
        student(paths)


def test_widths_that_differ_are_an_error(paths: Paths) -> None:
    teacher_file(paths)
    with pytest.raises(ConfigError, match="TEACHER ostrack synthetic_small: its features have 96 channels and the"):
        student(paths, "MODEL.BACKBONE.EMBED_DIM=48")
