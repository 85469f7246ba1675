"""An SLT section in a configuration: what is built, what is refused, and that a killed training resumes exactly."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lib.config import ConfigError
from lib.data import ClipBatch
from lib.distributed import World
from lib.methods import load_experiment
from lib.models import CheckpointNotFoundError, WeightsError
from lib.objectives import Explored, Progress, SequenceObjective
from lib.paths import Paths
from lib.train import (
    CheckpointFolder,
    Trainer,
    TrainingSetup,
    TrainLog,
    TrainOptions,
    build_setup,
    find_state,
    seed_everything,
)
from tests.unit.train.test_loop import assert_same, in_child

SMALL = (
    "SLT.START=''",
    "SLT.FRAMES=4",
    "SLT.MICRO_BATCH=1",
    "MODEL.BACKBONE.DEPTH=1",
    "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=2,length=24,width=96,height=96']",
    "DATA.TRAIN.SAMPLE_PER_EPOCH=6",
    "TRAIN.EPOCH=2",
    "TRAIN.BATCH_SIZE=2",
    "TRAIN.NUM_WORKER=0",
    "TRAIN.STATE_INTERVAL_STEPS=1",
    "TRAIN.LR=0.01",
)


TOY = Path(__file__).parents[2] / "e2e" / "plugins" / "toy"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def parts_of(folder: Path, *overrides: str, script: str = "ostrack") -> TrainingSetup:
    experiment = load_experiment(script, "slt_synthetic", (*SMALL, *overrides))
    paths = Paths(workspace=folder, data_dir=folder, save_dir=folder, pretrained=folder)
    return build_setup(experiment, World(torch.device("cpu")), paths, TrainOptions("x", "x"))


def trainer_in(folder: Path, kill_at: tuple[int, int] | None = None) -> Trainer:
    experiment = load_experiment("ostrack", "slt_synthetic", SMALL)
    seed_everything(7)
    parts = parts_of(folder)
    if kill_at is not None:
        parts.objective = Killing(parts.objective, kill_at)  # type: ignore[arg-type]
    store = CheckpointFolder(folder, "Toy")
    trainer = Trainer(parts, experiment.config.train, World(torch.device("cpu")), store, TrainLog())
    if (found := find_state(store, "auto")) is not None:
        trainer.restore(*found)
    return trainer


class Killing:
    """Ends the process at once, after the roll-out of a step and before its update."""

    keeps_eval_mode = True

    def __init__(self, objective: SequenceObjective, at: tuple[int, int]) -> None:
        self.objective, self.at = objective, at

    def split(self, network: nn.Module, batch: ClipBatch, progress: Progress) -> list[Explored]:
        parts = self.objective.split(network, batch, progress)
        if (progress.epoch, progress.step) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return parts

    def __call__(self, network: nn.Module, batch: Explored, progress: Progress) -> Any:
        return self.objective(network, batch, progress)


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    trainer_in(tmp_path / "whole").run()
    assert in_child(lambda: trainer_in(tmp_path / "parts", kill_at=(2, 1)).run()) == -signal.SIGKILL
    trainer_in(tmp_path / "parts").run()
    whole, parts = (load_file(tmp_path / name / "Toy_ep0002.safetensors") for name in ("whole", "parts"))
    assert_same(whole, parts)


@pytest.mark.slow
def test_the_network_learns_in_eval_mode(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    network = trainer.setup.network
    before = {n: v.clone() for n, v in network.state_dict().items()}
    network.train()
    trainer.run()
    assert not network.training
    after = network.state_dict()
    averages = [n for n in before if n.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert averages
    assert all(torch.equal(before[n], after[n]) for n in averages)
    assert not torch.equal(before["box_head.conv5_ctr.weight"], after["box_head.conv5_ctr.weight"])


def test_validation_explores_too_and_leaves_no_gradient(tmp_path: Path) -> None:
    val = ("DATA.VAL.DATASETS_NAME=['SYNTHETIC:sequences=1,length=24,width=96,height=96']",)
    parts = parts_of(tmp_path, *val, "DATA.VAL.DATASETS_RATIO=[1]", "DATA.VAL.SAMPLE_PER_EPOCH=2")
    trainer = Trainer(
        parts,
        load_experiment("ostrack", "slt_synthetic", SMALL).config.train,
        World(torch.device("cpu")),
        CheckpointFolder(tmp_path, "Toy"),
        TrainLog(),
    )
    assert parts.val_loader is not None
    terms = trainer.train_step.evaluate(next(iter(parts.val_loader.epoch(1))), Progress(1, 1))
    assert {"Reward", "IoU/greedy", "IoU/explore", "Loss/policy"} <= terms.keys()
    assert all(p.grad is None for p in parts.network.parameters())


def test_training_starts_from_the_weights_that_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"SLT.START start.safetensors: no such file.*single frames"):
        parts_of(tmp_path, "SLT.START=start.safetensors")
    given = {n: v + 1 for n, v in parts_of(tmp_path).network.state_dict().items()}
    save_file(given, tmp_path / "start.safetensors")
    assert_same(parts_of(tmp_path, "SLT.START=start.safetensors").network.state_dict(), given)
    del given["box_head.conv5_ctr.weight"]
    save_file(given, tmp_path / "start.safetensors")
    with pytest.raises(WeightsError, match=r"box_head.conv5_ctr.weight"):
        parts_of(tmp_path, "SLT.START=start.safetensors")


COMMON = [o for o in SMALL if not o.startswith(("MODEL.", "SLT."))]
ANY_SLT = "SLT={FRAMES: 4, MICRO_BATCH: 1}"
RGBT = "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:rgbt,sequences=2,length=24,width=96,height=96']"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "config", "own"),
    [
        ("ostrack", "synthetic_small", []),
        ("slt_transt", "slt_synthetic", ["MODEL.BACKBONE={TYPE: resnet, DEPTHS: [1, 1, 1], WIDTH: 8}"]),
        ("sdstrack", "synthetic_demo", [RGBT, "MODEL.PRETRAIN_FILE=''"]),
        ("toy", "toy", ["DATA.TRAIN.DATASETS_RATIO=[1]"]),
    ],
)
def test_an_slt_section_is_enough_for_any_method(tmp_path: Path, script: str, config: str, own: list[str]) -> None:
    experiment = load_experiment(script, config, [*COMMON, ANY_SLT, *own], plugins=[TOY])
    paths = Paths(workspace=tmp_path, data_dir=tmp_path, save_dir=tmp_path, pretrained=tmp_path)
    parts = build_setup(experiment, World(torch.device("cpu")), paths, TrainOptions("x", "x"))
    batch = parts.prepare(next(iter(parts.train_loader.epoch(1))))
    assert isinstance(parts.objective, SequenceObjective)
    for part in parts.objective.split(parts.network, batch, Progress(1, 1)):  # type: ignore[arg-type]
        parts.objective(parts.network, part, Progress(1, 1)).total.backward()
    untouched = [n for n, p in parts.network.named_parameters() if p.requires_grad and p.grad is None]
    heads = [n for n, _ in parts.network.named_parameters() if n.startswith(("box_head", "class_embed", "bbox_embed"))]
    assert heads
    assert not set(heads) & set(untouched)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("TEST.SEARCH_SIZE=64", r"DATA.SEARCH.SIZE is 96 and TEST.SEARCH_SIZE 64"),
        ("TEACHER={SCRIPT: ostrack, CONFIG: synthetic_small}", "SLT and TEACHER"),
        ("TRAIN.COMPILE=true", "TRAIN.COMPILE compiles the network's forward pass, which .* never takes"),
        ("SLT.FRAMES=1", "FRAMES must be at least 2"),
        ("SLT.EPSILON=0", "EPSILON must be above 0 and below 0.5, not 0.0"),
        ("SLT.TEMPRATURE=2", "TEMPERATURE"),
    ],
)
def test_contradictions_are_errors(tmp_path: Path, wrong: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parts_of(tmp_path, wrong)
