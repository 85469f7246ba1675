"""From an experiment to the parts of its training: which weights it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.methods import load_experiment, resolve
from lib.models import CheckpointNotFoundError, WeightsError, save_release
from lib.paths import Paths

SMALL = (
    "DATA.TRAIN={DATASETS_NAME: ['SYNTHETIC:sequences=1,length=24,width=96,height=96'], DATASETS_RATIO: [1], "
    "SAMPLE_PER_EPOCH: 4}",
    "TRAIN.BATCH_SIZE=2",
    "TRAIN.NUM_WORKER=0",
    "MODEL.BACKBONE.DEPTH=1",
)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path, tmp_path / "output", tmp_path / "pretrained")


@pytest.mark.parametrize("key", ["MODEL.PRETRAIN_FILE", "INIT.CHECKPOINT", "SLT.START", "--load"])
def test_every_name_of_weights_takes_the_same_road(paths: Paths, key: str) -> None:
    """A whole tracker in the `pretrained` folder, whatever it is called, fills the network strictly."""
    setting = () if key == "--load" else (f"{key}=any_OSTrack.safetensors",)
    more = ("SLT.FRAMES=4",) if key == "SLT.START" else ()
    experiment = load_experiment("ostrack", "synthetic_small", (*SMALL, *more, *setting))
    load = Path("any_OSTrack.safetensors") if key == "--load" else None
    with pytest.raises(CheckpointNotFoundError, match=f"{key} any_OSTrack.safetensors: no such file of weights.*READ"):
        resolve(experiment, paths, load=load)
    state = {k: torch.rand_like(v) if v.is_floating_point() else v
             for k, v in experiment.method.build_network(experiment.config, True).state_dict().items()}  # fmt: skip
    save_release(paths.pretrained / "any_OSTrack", state, {})
    recipe = resolve(experiment, paths, load=load)
    found = recipe.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert "any_OSTrack.safetensors: release weights" in recipe.notes["initial"]
    del state["box_head.conv5_ctr.weight"]
    save_release(paths.pretrained / "any_OSTrack", state, {"script": "transt", "config_name": "small"})
    with pytest.raises(
        WeightsError, match=r"\(weights of transt small\).* 1 missing from the file: box_head\.conv5_ctr"
    ):
        resolve(experiment, paths, load=load)


@pytest.mark.parametrize("setting", ["MODEL.PRETRAIN_FILE=gone.pth", "INIT.CHECKPOINT=gone.pth", "SLT.START=gone.pth"])
def test_a_resumed_training_needs_no_file_that_it_began_with(paths: Paths, setting: str) -> None:
    experiment = load_experiment("ostrack", "synthetic_small", (*SMALL, "SLT.FRAMES=4", setting))
    assert "initial" not in resolve(experiment, paths, begins=False, load=Path("gone.pth")).notes


def test_the_newest_epoch_of_an_earlier_stage(paths: Paths) -> None:
    """`latest` of INIT is that of the experiment that INIT names."""
    init = ("INIT.SCRIPT=ostrack", "INIT.CONFIG=synthetic_small")
    experiment = load_experiment("ostrack", "synthetic_demo", (*SMALL, *init))
    state = experiment.method.build_network(experiment.config, True).state_dict()
    for epoch in (1, 3):
        save_release(paths.save_dir / f"checkpoints/train/ostrack/synthetic_small/OSTrack_ep{epoch:04}", state, {})
    with pytest.raises(CheckpointNotFoundError, match=r"INIT\.CHECKPOINT latest: .*/ostrack/synthetic_demo"):
        resolve(load_experiment("ostrack", "synthetic_demo", (*SMALL, "INIT.CHECKPOINT=latest")), paths)
    experiment = load_experiment("ostrack", "synthetic_demo", (*SMALL, *init, "INIT.CHECKPOINT=latest"))
    assert "OSTrack_ep0003.safetensors" in resolve(experiment, paths).notes["initial"]


def test_weights_of_another_experiment_are_taken_as_far_as_they_fit(paths: Paths) -> None:
    experiment = load_experiment("ostrack", "synthetic_small", SMALL)
    state = dict(experiment.method.build_network(experiment.config, True).state_dict())
    del state["box_head.conv5_ctr.weight"]
    save_release(paths.save_dir / "checkpoints/train/other/small/Net_ep0003", state, {})
    recipe = resolve(experiment, paths, previous=("other", "small"))
    assert "1 missing (box_head.conv5_ctr.weight)" in recipe.notes["initial"]
    assert torch.equal(recipe.network.state_dict()["backbone.pos_embed"], state["backbone.pos_embed"])
