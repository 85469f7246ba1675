"""CSTrack from the published commands, in miniature: nine training sets, both stages, a kill, two processes, tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from tests.e2e.support import Run, kill_between_epochs

NINE = ("lasot", "got10k", "trackingnet", "vasttrack", "tnl2k", "coco", "lasher", "depthtrack", "visevent")
BENCHMARKS = ("lasher", "visevent", "depthtrack", "lasot")
SMALL = (
    "MODEL.PRETRAIN_FILE=''",
    "MODEL.BACKBONE={TYPE: itpn, EMBED_DIM: 24, DEPTHS: [1, 1, 2], NUM_HEADS: 3, CONV_STEM: false}",
    "MODEL.HEAD={TYPE: CENTER, NUM_CHANNELS: 16}",
    "MODEL.NHEADS=3",
    "MODEL.MEMORY_TOKENS=4",
    "DATA.SEARCH.SIZE=64",
    "DATA.TEMPLATE.SIZE=32",
    "TEST.SEARCH_SIZE=64",
    "TEST.TEMPLATE_SIZE=32",
)
SHORT = (
    "DATA.TRAIN.SAMPLE_PER_EPOCH=16",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.EPOCH=2",
    "TRAIN.NUM_WORKER=1",
    "TEST.EPOCH=2",
)
UPDATES = "TEST.UPDATE={DEFAULT: {INTERVAL: 2, THRESHOLD: 0.0}, LASHER: {INTERVAL: 3, THRESHOLD: 0.0}}"
FROZEN = ("backbone.", "backbone_rgb_det_fusion.")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, command: Run) -> Path:
    """All nine training sets and four benchmarks, each at its usual place."""
    root = tmp_path_factory.mktemp("nine")
    common = ("--data_dir", root, "--width", 128, "--height", 96, "--seed", 3, "--workers", 1)
    make = "tracking/make_synthetic_data.py"
    command(make, "--layout", *NINE, "--sequences", 1, "--frames", 24, *common)
    command(make, "--layout", *BENCHMARKS, "--split", "test", "--sequences", 2, "--frames", 7, *common)
    return root


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory: pytest.TempPathFactory, data: Path, command: Run) -> Path:
    """What stage 1 leaves, in two epochs that pass for the published 150."""
    save = tmp_path_factory.mktemp("stage_1")
    printed = command(*training(1, save, data))
    assert "group 1 (backbone)" in printed.stdout
    folder = save / "checkpoints/train/cstrack_s1/cstrack_s1"
    for ending in ("safetensors", "json"):
        shutil.copy(folder / f"CSTRACK_S1_ep0002.{ending}", folder / f"CSTRACK_S1_ep0150.{ending}")
    return save


@pytest.fixture(scope="module")
def stage_2(stage_1: Path, data: Path, command: Run) -> Path:
    """Trained by one process in one go, in the folder of stage 1."""
    command(*training(2, stage_1, data))
    return stage_1


def training(stage: int, save: Path, data: Path, *more: object) -> list[str]:
    """The published command for one stage."""
    fixed = ("--script", f"cstrack_s{stage}", "--config", f"cstrack_s{stage}", "--save_dir", save, "--data_dir", data)
    return [str(a) for a in ("tracking/train.py", *fixed, "--set", *SMALL, *SHORT, *more)]


def weights(save: Path, stage: int) -> dict[str, Tensor]:
    return load_file(save / f"checkpoints/train/cstrack_s{stage}/cstrack_s{stage}/CSTRACK_S{stage}_ep0002.safetensors")


def with_stage_1(stage_1: Path, save: Path) -> Path:
    """Another folder with what stage 1 has left."""
    shutil.copytree(stage_1 / "checkpoints/train/cstrack_s1", save / "checkpoints/train/cstrack_s1")
    return save


def test_stage_2_goes_on_from_stage_1(stage_2: Path) -> None:
    before, after = weights(stage_2, 1), weights(stage_2, 2)
    assert before.keys() < after.keys()
    assert all(torch.isfinite(w).all() for w in after.values())
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {name for name in before if name.startswith(FROZEN)} <= same
    assert not {name for name in same if not name.startswith(FROZEN) and name.endswith(".weight")}


def test_a_killed_stage_2_goes_on_to_the_same_weights(stage_2: Path, tmp_path: Path, data: Path, command: Run) -> None:
    arguments = training(2, with_stage_1(stage_2, tmp_path), data)
    folder = tmp_path / "checkpoints/train/cstrack_s2/cstrack_s2"
    kill_between_epochs(folder, arguments)
    assert not list(folder.glob("*_ep0002*")), "nothing was left to resume"
    assert "resumed at epoch" in command(*arguments).stdout
    whole, killed = weights(stage_2, 2), weights(tmp_path, 2)
    assert all(torch.equal(value, killed[name]) for name, value in whole.items())


def test_a_missing_stage_1_is_reported_before_data_are_looked_for(tmp_path: Path, command: Run) -> None:
    done = command(*training(2, tmp_path, tmp_path / "no_data"), expect=2)
    assert done.stderr.count("\n") == 1
    assert "no weights for cstrack_s1 cstrack_s1: looked for epoch 150" in done.stderr
    assert "name a file with INIT.CHECKPOINT" in done.stderr


def test_two_processes_learn_with_activations_computed_again(
    stage_1: Path, tmp_path: Path, data: Path, command: Run
) -> None:
    """Heads are called once per frame, one parameter is never used, many are frozen."""
    own = ("TRAIN.ACTIVATION_CHECKPOINTING=true", "TRAIN.BATCH_SIZE=2", "TRAIN.NUM_WORKER=0")
    arguments = training(2, with_stage_1(stage_1, tmp_path), data, *own, "DATA.TRAIN.SAMPLE_PER_EPOCH=8")
    done = command(*arguments, "--nproc_per_node", 2)
    assert "2 processes" in done.stdout
    assert done.stderr.count("1 of its 882 sequences are in") == 1, "one process speaks"
    before, after = weights(stage_1, 1), weights(tmp_path, 2)
    assert not torch.equal(after["rgb_prompts.weight"], before["rgb_prompts.weight"])
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith(FROZEN))


def test_benchmarks_of_all_kinds(stage_2: Path, tmp_path: Path, data: Path, command: Run) -> None:
    places = ("--save_dir", stage_2, "--data_dir", data)
    names = (*SMALL, UPDATES, "TEST.EPOCH=2")
    both = ("cstrack_s2", "cstrack_s2")
    printed = command(
        "tracking/test.py", *both, "--dataset", *BENCHMARKS, "--skip_missing", "--batch", 2, *places, "--set", *names
    ).stdout
    for title, metric in (("LasHeR", "lasher"), ("VisEvent", "matlab"), ("DepthTrack", "vot_longterm")):
        assert f"{title}, metric {metric}" in printed
    assert "LaSOT, metric ostrack" in printed
    results = stage_2 / "test/tracking_results/cstrack_s2/cstrack_s2"
    file = "CSTRACK_S2_ep0002.safetensors"
    for kind, dataset, fps in (("RGBT", "LasHeR", "fps_rgbt.txt"), ("RGBE", "VisEvent", "fps_rgbe.txt")):
        command(
            f"{kind}_workspace/test_{kind.lower()}_mgpus.py", "--script_name", both[0], "--yaml_name", both[1],
            "--dataset_name", dataset, "--ckpt_name", file, "--mode", "sequential", "--output", tmp_path, *places,
            "--set", *names,
        )  # fmt: skip
        folder = tmp_path / dataset / "cstrack_s2"
        assert (folder / fps).is_file()
        for path in (results / dataset.lower() / "float").iterdir():
            np.testing.assert_allclose(boxes(folder / "float" / path.name), boxes(path), atol=1e-3)


def boxes(file: Path) -> NDArray[np.float64]:
    return np.array([line.replace(",", " ").split() for line in file.read_text().splitlines()], np.float64)
