"""GDSTrack from the published commands, in miniature: three phases, kills, workspace and tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.e2e.support import Run, kill_between_epochs

SMALL = (
    "MODEL.PRETRAIN_FILE=''",
    "MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 24, DEPTH: 2, NUM_HEADS: 3, STRIDE: 16}",
    "MODEL.FUSION.HIDDEN_DIM=16",
    "MODEL.FUSION.GRAPH_DIM=8",
    "MODEL.FUSION.ADJACENCY_DIM=16",
    "MODEL.FUSION.NEIGHBOURS=8",
    "MODEL.FUSION.HEAD_CHANNELS=16",
    "MODEL.FUSION.UNET={MULTIPLIERS: [1, 1.5, 2], RES_BLOCKS: 1, ATTENTION_SCALE: 1, GROUPS: 8}",
    "DATA.SEARCH.SIZE=64",
    "DATA.TEMPLATE.SIZE=32",
    "TEST.SEARCH_SIZE=64",
    "TEST.TEMPLATE_SIZE=32",
)
PHASES = (
    "TRAIN.PHASES=[{EPOCHS: 1, PARAM_GROUPS: [{PATTERN: '^(GAT_Branch|projector1|head)[.]'}, {PATTERN: '.*', FREEZE: "
    "true}]}, {EPOCHS: 1, PARAM_GROUPS: [{PATTERN: '^(projector2|lddiffuse_x|head_diffuse)[.]', FREEZE: true}, "
    "{PATTERN: '.*'}]}, {LR: 0.00003, PARAM_GROUPS: [{PATTERN: '^(projector2|lddiffuse_x|head_diffuse)[.]'}, "
    "{PATTERN: '.*', FREEZE: true}]}]"
)
SHORT = (
    PHASES,
    "TRAIN.AMP=false",
    "TRAIN.EPOCH=3",
    "DATA.TRAIN.SAMPLE_PER_EPOCH=16",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.ACCUMULATE=2",
    "TRAIN.NUM_WORKER=1",
    "TRAIN.SAVE_EPOCH_INTERVAL=1",
    "TEST.EPOCH=3",
)
FOLDER = "checkpoints/train/translate_track/LasHeR_supervised"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, command: Run) -> Path:
    """Synthetic trees in the layout of LasHeR."""
    root = tmp_path_factory.mktemp("rgbt")
    common = ("--data_dir", root, "--width", 128, "--height", 96, "--seed", 3, "--workers", 1)
    make = "tracking/make_synthetic_data.py"
    command(make, "--layout", "lasher", "--sequences", 2, "--frames", 24, *common)
    command(make, "--layout", "lasher", "--split", "test", "--sequences", 2, "--frames", 6, *common)
    return root


def training(save: Path, data: Path) -> list[str]:
    named = ("--script", "translate_track", "--config", "LasHeR_supervised", "--save_dir", save, "--data_dir", data)
    return [str(a) for a in ("tracking/train.py", *named, "--mode", "single", "--set", *SMALL, *SHORT)]


def weights(save: Path, epoch: int) -> dict[str, Tensor]:
    return load_file(save / FOLDER / f"GDSTrack_ep{epoch:04d}.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path, command: Run) -> Path:
    """All three phases in one go."""
    save = tmp_path_factory.mktemp("whole")
    printed = command(*training(save, data)).stdout
    assert "phase 3 of 3: epochs 3 to 3" in printed
    assert "Loss/diffusion" in printed
    return save


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Modules of which a weight moved; running averages do so in training mode."""
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    return {name.partition(".")[0] for name in moved if "running" not in name and "num_batches" not in name}


def test_each_phase_trains_its_part(whole: Path) -> None:
    first, second, third = (weights(whole, epoch) for epoch in (1, 2, 3))
    assert changed(first, second) == {"backbone", "GAT_Branch", "projector1", "head"}
    assert changed(second, third) == {"projector2", "lddiffuse_x", "head_diffuse"}


def test_killed_and_resumed_is_bit_identical(whole: Path, tmp_path: Path, data: Path, command: Run) -> None:
    """States are written at every step, the boundaries of phases among them; the second kill falls in a later phase."""
    arguments = training(tmp_path, data)
    for _ in range(2):
        kill_between_epochs(tmp_path / FOLDER, arguments)
    assert not (tmp_path / FOLDER / "GDSTrack_ep0003.safetensors").exists(), "nothing was left to resume"
    assert "resumed at epoch" in command(*arguments).stdout
    found, expected = weights(tmp_path, 3), weights(whole, 3)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_the_workspace_and_the_test_command_give_scores(whole: Path, tmp_path: Path, data: Path, command: Run) -> None:
    places = ("--save_dir", whole, "--data_dir", data, "--set", *SMALL, "TEST.EPOCH=3")
    named = ("--script_name", "translate_track", "--yaml_name", "LasHeR_supervised", "--dataset_name", "LasHeR")
    output = ("--mode", "sequential", "--output", tmp_path / "results")
    assert "LasHeR, metric" in command("RGBT_workspace/test_rgbt_mgpus.py", *named, *output, *places).stdout
    test = ("tracking/test.py", "translate_track", "LasHeR_supervised", "--dataset", "lasher", "--skip_missing")
    assert "LasHeR, metric" in command(*test, *places).stdout
