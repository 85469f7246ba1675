"""Parameter groups, schedules, optimiser state."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.config import ConfigError, ParamGroup, Schedule, Train
from lib.train import build_optimizer, load_optimizer_state, lr_factor, optimizer_state, parameter_groups
from tests.unit.train.toy import ToyNetwork


def test_default_groups_are_split_by_backbone() -> None:
    groups = parameter_groups(ToyNetwork(), Train(lr=4e-4, backbone_multiplier=0.1))
    assert [g["base_lr"] for g in groups] == pytest.approx([4e-4, 4e-5])
    assert groups[1]["names"] == ["backbone.weight", "backbone.bias"]
    assert [g["weight_decay"] for g in groups] == [1e-4, 1e-4]


def patterns(*groups: ParamGroup) -> Train:
    return Train(lr=1.0, param_groups=groups)


def test_first_pattern_that_matches_decides_and_freezes() -> None:
    network = ToyNetwork()
    groups = parameter_groups(
        network,
        patterns(ParamGroup("bias$", weight_decay=0.0), ParamGroup("backbone", 0.5), ParamGroup(".*", freeze=True)),
    )
    assert groups[0]["names"] == ["backbone.bias", "norm.bias", "box_head.bias"]
    assert groups[0]["weight_decay"] == 0.0
    assert groups[1]["names"] == ["backbone.weight"]
    assert groups[1]["base_lr"] == 0.5
    assert not network.box_head.weight.requires_grad
    assert network.box_head.bias.requires_grad


def test_parameter_without_pattern_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no pattern matches .* \(first: unused\)"):
        parameter_groups(ToyNetwork(), patterns(ParamGroup("backbone|norm|head")))


@pytest.mark.parametrize("useless", ["adapter", "backbone.weight"])
def test_pattern_that_matches_nothing_is_named(useless: str) -> None:
    with pytest.raises(ConfigError, match=f"'{useless}' matches no parameter"):
        parameter_groups(ToyNetwork(), patterns(ParamGroup("backbone"), ParamGroup(useless), ParamGroup(".*")))


def test_what_the_method_froze_stays_frozen() -> None:
    network = ToyNetwork()
    network.backbone.requires_grad_(False)
    assert len(parameter_groups(network, Train())) == 1
    groups = parameter_groups(network, patterns(ParamGroup(".*")))
    assert not any("backbone" in n for n in groups[0]["names"])


def test_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="OPTIMIZER must be ADAMW, ADAM or SGD, not 'ADAMQ'; did you mean 'ADAM'"):
        Train(optimizer="ADAMQ")


@pytest.mark.parametrize("kind", ["ADAMW", "ADAM", "SGD"])
def test_optimizer_state_survives(kind: str) -> None:
    train = Train(optimizer=kind)
    networks = [ToyNetwork(0.0), ToyNetwork(0.0)]
    networks[1].load_state_dict(networks[0].state_dict())
    first, second = (build_optimizer(parameter_groups(n, train), train) for n in networks)

    def step(i: int, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        networks[i](torch.ones(4, 3, 2, 2) * torch.arange(4).view(4, 1, 1, 1)).square().sum().backward()
        optimizer.step()

    step(0, first)
    networks[1].load_state_dict(networks[0].state_dict())
    load_optimizer_state(second, optimizer_state(first))
    step(0, first)
    step(1, second)
    assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True))


def test_optimizer_state_of_other_parameters_is_refused() -> None:
    network = ToyNetwork()
    whole = build_optimizer(parameter_groups(network, Train()), Train())
    state = optimizer_state(whole)
    frozen = patterns(ParamGroup("backbone", freeze=True), ParamGroup(".*"))
    fewer = build_optimizer(parameter_groups(network, frozen), frozen)
    with pytest.raises(ValueError, match=r"backbone\.bias, backbone\.weight"):
        load_optimizer_state(fewer, state)


def torch_factors(make: type, epochs: int, **arguments: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer, **arguments)
    factors = []
    for _ in range(epochs):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def our_factors(train: Train) -> list[float]:
    return [lr_factor(train, epoch) for epoch in range(1, train.epoch + 1)]


def test_step_is_torchs_and_ignores_decay_rate() -> None:
    train = Train(epoch=30, lr_drop_epoch=12, scheduler=Schedule("step", decay_rate=0.5))
    assert our_factors(train) == pytest.approx(torch_factors(torch.optim.lr_scheduler.StepLR, 30, step_size=12))


def test_multistep_is_torchs() -> None:
    train = Train(epoch=20, scheduler=Schedule("Mstep", milestones=(5, 12), gamma=0.3))
    expected = torch_factors(torch.optim.lr_scheduler.MultiStepLR, 20, milestones=[5, 12], gamma=0.3)
    assert our_factors(train) == pytest.approx(expected)


def test_cosine_is_torchs() -> None:
    train = Train(epoch=20, scheduler=Schedule("cosine", min_lr_ratio=0.05))
    expected = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR, 20, T_max=20, eta_min=0.05)
    assert our_factors(train) == pytest.approx(expected)


def test_warm_up_rises_by_the_step_and_then_is_gone() -> None:
    train = Train(epoch=10, lr_drop_epoch=5, scheduler=Schedule("step", warmup_epochs=2))
    factors = [lr_factor(train, e, s, 4) for e in (1, 2, 3) for s in range(4)]
    assert factors[:8] == pytest.approx([(i + 1) / 8 for i in range(8)])
    assert factors[8:] == [1.0] * 4


def test_step_reads_decay_rate_on_request() -> None:
    train = Train(epoch=30, lr_drop_epoch=12, scheduler=Schedule("step", decay_rate=0.5, use_decay_rate=True))
    expected = torch_factors(torch.optim.lr_scheduler.StepLR, 30, step_size=12, gamma=0.5)
    assert our_factors(train) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "expected"), [("linear", [0.25, 0.5, 0.75, 1.0]), ("log", [0.25, 0.25 ** (2 / 3), 0.25 ** (1 / 3), 1.0])]
)
def test_warm_up_by_epoch_is_constant_over_an_epoch(kind: str, expected: list[float]) -> None:
    schedule = Schedule("step", warmup_epochs=4, warmup_type=kind, warmup_ratio=0.25)
    train = Train(epoch=10, lr_drop_epoch=8, scheduler=schedule)
    assert our_factors(train) == pytest.approx([*expected, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1])
    assert lr_factor(train, 2, 3, 4) == lr_factor(train, 2, 0, 4)


def test_decay_begins_with_the_whole_rate_of_a_warm_up() -> None:
    schedule = Schedule("Mstep", milestones=(1, 3), gamma=0.5, warmup_epochs=4, warmup_type="linear", warmup_ratio=0.25)
    assert our_factors(Train(epoch=6, scheduler=schedule)) == pytest.approx([0.25, 0.5, 0.75, 0.25, 0.25, 0.25])


def test_adam_adds_weight_decay_to_the_gradient() -> None:
    network = ToyNetwork()
    train = Train(optimizer="ADAM", weight_decay=0.5, lr=0.1)
    optimizer = build_optimizer(parameter_groups(network, train), train)
    network.unused.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(network.unused.data, torch.full((3,), 0.9))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule("Mstep"), "MILESTONES"),
        (Schedule("log"), "MIN_LR_RATIO"),
    ],
)
def test_unusable_schedule_is_reported(schedule: Schedule, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lr_factor(replace(Train(), scheduler=schedule), 1)
