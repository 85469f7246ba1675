"""A network is trained, then teaches smaller ones: of LoReTrack, and of a method that knows nothing of teachers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.e2e.support import Run
from tests.support.commands import REPOSITORY

TINY = f"""
BASE: {REPOSITORY}/experiments/_base_/small.yaml
DATA:
  TRAIN: {{DATASETS_NAME: [SYNTHETIC_train], DATASETS_RATIO: [1], SAMPLE_PER_EPOCH: 16}}
MODEL:
  BACKBONE: {{EMBED_DIM: 32, DEPTH: 2, NUM_HEADS: 2}}
TRAIN: {{BATCH_SIZE: 4, EPOCH: 1, NUM_WORKER: 0, SCHEDULER: {{WARMUP_EPOCHS: 0}}}}
TEST: {{EPOCH: 1}}
"""


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory, benchmark: Path, command: Run) -> Path:
    """A save folder with a trained teacher of 96 pixels, and the YAML files of teacher and student."""
    folder = tmp_path_factory.mktemp("distilled")
    teacher = folder / "teacher.yaml"
    teacher.write_text(TINY)
    (folder / "student.yaml").write_text(
        f"BASE: teacher.yaml\nTEACHER: {{SCRIPT: ostrack, CONFIG: {teacher}, PRECISION: bf16}}\n"
        "TEST: {SEARCH_SIZE: 64, TEMPLATE_SIZE: 32}\n"
    )
    train(command, folder, benchmark, "ostrack", "teacher.yaml")
    return folder


def train(command: Run, save: Path, benchmark: Path, script: str, config: str, *more: object, expect: int = 0) -> str:
    done = command(
        "tracking/train.py", "--script", script, "--config", save / config, "--mode", "single",
        "--save_dir", save, "--data_dir", benchmark, *more, expect=expect,
    )  # fmt: skip
    return str(done.stdout + done.stderr)


@pytest.mark.parametrize("script", ["loretrack", "ostrack"])
def test_a_student_learns_and_tracks_at_its_own_size(script: str, save: Path, benchmark: Path, command: Run) -> None:
    printed = train(command, save, benchmark, script, "student.yaml")
    assert "teacher: ostrack teacher at 96/48, bf16" in printed
    records = [json.loads(line) for line in (save / f"logs/{script}-student.jsonl").read_text().splitlines()]
    assert any("Loss/kd" in str(r) and "Loss/qkv_1" in str(r) for r in records)
    weights = save / f"checkpoints/train/{script}/student/OSTrack_ep0001.safetensors"
    with safe_open(weights, "pt") as file:
        assert file.get_slice("backbone.pos_embed_x").get_shape() == [1, 64, 32]
        assert not [name for name in file.keys() if "teacher" in name]  # noqa: SIM118  (not a dictionary)
    done = command(
        "tracking/test.py", script, save / "student.yaml", "--dataset", "synthetic",
        "--save_dir", save, "--data_dir", benchmark,
    )  # fmt: skip
    assert "AUC" in done.stdout


def test_a_teacher_on_the_command_line(save: Path, benchmark: Path, command: Run) -> None:
    (save / "plain.yaml").write_text(TINY)
    printed = train(command, save, benchmark, "ostrack", "plain.yaml", "--distill", 1, expect=2)
    assert "--distill 1 needs a teacher" in printed
    named = ("--script_teacher", "ostrack", "--config_teacher", "synthetic_demo")
    printed = train(command, save, benchmark, "ostrack", "plain.yaml", "--distill", 1, *named, expect=2)
    assert "name a file with TEACHER.CHECKPOINT" in printed
    assert "Traceback" not in printed
