"""SDSTrack from the published commands, in miniature: three training sets, a kill, two processes, two workspaces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.support import Run, kill_between_epochs

SMALL = (
    "MODEL.PRETRAIN_FILE=''",
    "MODEL.BACKBONE={TYPE: vit, EMBED_DIM: 24, DEPTH: 4, NUM_HEADS: 3, STRIDE: 16, FUSION_LOC: [1, 3], ADAPTER_DIM: 8, "
    "CE_LOC: [1], CE_KEEP_RATIO: [0.7], CE_TEMPLATE_RANGE: CTR_POINT}",
    *(f"{side}.SIZE=112" for side in ("DATA.SEARCH", "DATA.TEMPLATE")),
    *(f"TEST.{side}_SIZE=112" for side in ("SEARCH", "TEMPLATE")),
    "DATA.TRAIN.SAMPLE_PER_EPOCH=16",
    "DATA.VAL.SAMPLE_PER_EPOCH=8",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.EPOCH=2",
    "TRAIN.NUM_WORKER=1",
    "TEST.EPOCH=2",
)
LAYOUTS = {
    "train": (24, "depthtrack", "lasher", "visevent"),
    "val": (24, "depthtrack", "lasher"),
    "test": (7, "lasher", "visevent"),
}
"""Frames and layouts by split."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, command: Run) -> Path:
    """Synthetic trees in the layouts of DepthTrack, LasHeR and VisEvent."""
    root = tmp_path_factory.mktemp("rgbx")
    common = ("--width", 128, "--height", 96, "--seed", 3, "--workers", 1, "--sequences", 2, "--data_dir", root)
    for split, (frames, *layouts) in LAYOUTS.items():
        make = ("tracking/make_synthetic_data.py", "--layout", *layouts, "--split", split)
        command(*make, "--frames", frames, *common)
    return root


def training(save: Path, data: Path, config: str, *more: object) -> list[str]:
    fixed = ("--script", "sdstrack", "--config", config, "--save_dir", save, "--data_dir", data, "--use_wandb", 0)
    return [str(a) for a in ("tracking/train.py", *fixed, *more, "--set", *SMALL)]


def check_training(printed: str, validates: bool) -> None:
    assert "group 0 (Adapter|multimodal)" in printed
    assert ("val epoch 2/2" in printed) == validates


@pytest.mark.parametrize(
    ("config", "mode", "workspace", "dataset"),
    [
        ("cvpr2024_rgbt", ("--mode", "multiple", "--nproc_per_node", "2"), "RGBT", "LasHeR"),
        ("cvpr2024_rgbe", ("--mode", "single"), "RGBE", "VisEvent"),
    ],
)
def test_published_configurations_train_and_their_workspaces_test(
    config: str, mode: tuple[str, ...], workspace: str, dataset: str, tmp_path: Path, data: Path, command: Run
) -> None:
    check_training(command(*training(tmp_path, data, config, *mode)).stdout, validates=config != "cvpr2024_rgbe")
    weights = load_file(tmp_path / f"checkpoints/train/sdstrack/{config}/SDSTrack_ep0002.safetensors")
    assert all(torch.isfinite(w).all() for w in weights.values())
    script = f"{workspace}_workspace/test_{workspace.lower()}_mgpus.py"
    named = ("--script_name", "sdstrack", "--yaml_name", config, "--dataset_name", dataset, "--mode", "sequential")
    places = ("--save_dir", tmp_path, "--data_dir", data, "--output", tmp_path / "results")
    assert f"{dataset}, metric" in command(script, *named, *places, "--set", *SMALL).stdout


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, data: Path, command: Run) -> None:
    """The masks of the second pass are drawn as they would have been."""
    ends = []
    for run in ("whole", "killed"):
        arguments = training(tmp_path / run, data, "cvpr2024_rgbd", "--mode", "single")
        folder = tmp_path / run / "checkpoints/train/sdstrack/cvpr2024_rgbd"
        if run == "killed":
            kill_between_epochs(folder, arguments)
            assert not list(folder.glob("*_ep0002*")), "nothing was left to resume"
        printed = command(*arguments).stdout
        assert ("resumed at epoch" in printed) == (run == "killed")
        if run == "whole":
            check_training(printed, validates=True)
        ends.append(load_file(folder / "SDSTrack_ep0002.safetensors"))
    assert all(torch.isfinite(w).all() for w in ends[0].values())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
