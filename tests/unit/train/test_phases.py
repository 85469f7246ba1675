"""TRAIN.PHASES: what each phase trains, exact resume across a boundary and exactly on it, phases that cannot be."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.config import ConfigError, ParamGroup, Schedule, TrainPhase
from lib.objectives import Progress
from lib.train import CheckpointFolder, InterruptedTraining, Position, TextSink, TrainLog, phases_of, read_state
from tests.unit.train.test_loop import assert_same, in_child, in_two_children, weights
from tests.unit.train.toy import PHASED, ToyNetwork, ToyObjective, killing, toy_trainer, train_in_world


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def at_step(epoch: int, step: int, act: Callable[[nn.Module], None]) -> ToyObjective:
    def at(progress: Progress, network: nn.Module) -> None:
        if network.training and (progress.epoch, progress.step) == (epoch, step):
            act(network)

    return ToyObjective(at=at)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    toy_trainer(folder, PHASED).run()
    return weights(folder, 4)


def test_a_phase_trains_what_it_names_with_an_optimiser_of_its_own(tmp_path: Path) -> None:
    network = ToyNetwork()
    first = {n: v.clone() for n, v in network.state_dict().items()}
    between: dict[str, Any] = {}

    def note(network: nn.Module) -> None:
        between.update({n: v.clone() for n, v in network.state_dict().items()})
        between["optimizer"] = type(trainer.optimizer), dict(trainer.optimizer.state)

    trainer = toy_trainer(tmp_path, PHASED, network=network, objective=at_step(3, 0, note))
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert trainer.optimizer.param_groups[0]["momentum"] == 0.5
    trainer.run()
    assert between["optimizer"] == (torch.optim.Adam, {})
    assert torch.equal(first["backbone.weight"], between["backbone.weight"])
    assert not torch.equal(first["box_head.weight"], between["box_head.weight"])
    assert between["norm.running_mean"].eq(0).all(), "a module of EVAL_MODULES was in training mode"
    assert not network.norm.running_mean.eq(0).all()  # type: ignore[union-attr, operator]
    assert not torch.equal(between["backbone.weight"], network.backbone.weight)
    assert network.backbone.weight.requires_grad


@pytest.mark.parametrize(
    "killed_at", [(3, 0), *(pytest.param(at, marks=pytest.mark.slow) for at in ((1, 3), (2, 4), (3, 3), (4, 1)))]
)
def test_killed_and_resumed_is_bit_identical(
    tmp_path: Path, killed_at: tuple[int, int], whole: dict[str, Tensor]
) -> None:
    killed = ToyObjective(at=killing(*killed_at))
    assert in_child(lambda: toy_trainer(tmp_path, PHASED, objective=killed).run()) == -signal.SIGKILL
    trainer = toy_trainer(tmp_path, PHASED)
    if killed_at == (3, 0):
        state = CheckpointFolder(tmp_path, "Toy").newest_state()
        assert state is not None
        assert read_state(state)["phase"] == 1, "the state was not written on the boundary"
        assert (trainer.position, trainer.phase.number, dict(trainer.optimizer.state)) == (Position(3, 0), 2, {})
    trainer.run()
    assert_same(whole, weights(tmp_path, 4))


def test_stopped_exactly_on_the_boundary_is_bit_identical(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    stop = at_step(2, 4, lambda network: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(InterruptedTraining):
        toy_trainer(tmp_path, PHASED, objective=stop).run()
    toy_trainer(tmp_path, PHASED).run()
    assert_same(whole, weights(tmp_path, 4))


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [(3, 0), pytest.param((3, 3), marks=pytest.mark.repeated)])
def test_two_processes_killed_and_resumed_are_bit_identical(tmp_path: Path, killed_at: tuple[int, int]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    in_two_children(lambda: train_in_world(whole, train=PHASED))
    dying = ToyObjective(at=killing(*killed_at))
    in_two_children(lambda: train_in_world(parts, train=PHASED, objective=dying), killed=True)
    assert not (parts / "Toy_ep0004.safetensors").exists(), "nothing was left to resume"
    in_two_children(lambda: train_in_world(parts, train=PHASED))
    assert_same(weights(whole, 4), weights(parts, 4))
    other = torch.load(parts / "rank1.pt")
    own = {k: v for k, v in weights(parts, 4).items() if "running" not in k and "tracked" not in k}
    assert_same(own, {k: other[k] for k in own})


def test_the_log_says_when_a_phase_begins(tmp_path: Path) -> None:
    toy_trainer(tmp_path, PHASED, log=TrainLog([TextSink(tmp_path / "x.log")])).run()
    text = (tmp_path / "x.log").read_text()
    assert "phase 2 of 2: epochs 3 to 4" in text
    assert "group 0 (without backbone)" in text


def factors(train: Any) -> list[float]:
    return [p.lr_factor(e, 0, 1) for p in phases_of(train) for e in range(p.first, p.last + 1)]


def test_a_schedule_counts_from_the_first_epoch_of_its_phase_or_goes_on() -> None:
    drop = Schedule("Mstep", milestones=(1,), gamma=0.5)
    own = replace(PHASED, phases=(TrainPhase(epochs=2, scheduler=drop), TrainPhase(scheduler=drop)))
    assert factors(own) == [1.0, 0.5, 1.0, 0.5]
    goes_on = replace(own, phases=(own.phases[0], replace(own.phases[1], continue_schedule=True)))
    assert factors(goes_on) == [1.0, 0.5, 0.5, 0.5]


def test_siamrpnpp_of_pysot_is_two_phases_with_one_schedule() -> None:
    """Learning rates of the published baseline: 0.002 in epoch 0, 0.01 in epoch 5, 0.001 in epoch 19."""
    schedule = Schedule("log", min_lr_ratio=0.1, warmup_epochs=5, warmup_type="step", warmup_ratio=0.2)
    phases = (TrainPhase(epochs=10, continue_schedule=True), TrainPhase(continue_schedule=True))
    found = factors(replace(PHASED, lr=0.01, epoch=20, scheduler=schedule, phases=phases))
    warm = [0.2 * 5 ** (k / 5) for k in range(5)]
    assert found == pytest.approx([*warm, *(10 ** (-k / 14) for k in range(15))])
    assert [found[0], found[5], found[19]] == pytest.approx([0.2, 1.0, 0.1])


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ((TrainPhase(epochs=2), TrainPhase(start_epoch=2)), r"PHASES\[1\].START_EPOCH 2 overlaps .* at epoch 3"),
        ((TrainPhase(epochs=1), TrainPhase(start_epoch=3)), r"PHASES\[1\].START_EPOCH 3 leaves a gap .* at epoch 2"),
        ((TrainPhase(epochs=2), TrainPhase(epochs=1)), r"PHASES end at epoch 3, but TRAIN.EPOCH is 4"),
        ((TrainPhase(epochs=4), TrainPhase()), r"PHASES\[1\] has no epoch"),
        ((TrainPhase(), TrainPhase()), r"PHASES\[0\] needs EPOCHS, or the phase after it START_EPOCH"),
        ((TrainPhase(epochs=2), TrainPhase(optimizer="ADAMW", scheduler=Schedule("log"))), "needs TRAIN.SCHEDULER.MIN"),
        ((TrainPhase(epochs=2), TrainPhase(eval_modules=("bacbone",))), "EVAL_MODULES 'bacbone' matches no module"),
        (
            (TrainPhase(epochs=2), TrainPhase(param_groups=(ParamGroup(".*", freeze=True),))),
            r"PHASES\[1\]: no parameter is left to be trained",
        ),
        (
            (TrainPhase(epochs=2), TrainPhase(param_groups=(ParamGroup("neck"), ParamGroup(".*")))),
            r"PHASES\[1\]: .*pattern 'neck' matches no parameter",
        ),
    ],
)
def test_phases_that_cannot_be_are_one_sentence(tmp_path: Path, phases: tuple[TrainPhase, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        toy_trainer(tmp_path, replace(PHASED, phases=phases))
