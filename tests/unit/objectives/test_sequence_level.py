"""Sequence-level training: policy, rewards, parts, and what its gradient does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.models.heads import BoxMaps
from lib.objectives import (
    BoxCriterion,
    CellCriterion,
    CentreBoxLoss,
    DenseBoxLoss,
    Explored,
    Losses,
    Progress,
    SequenceObjective,
    SequenceRule,
    SoftmaxPolicy,
    targets_in_crops,
)
from lib.track import SearchRegion, TemplateRegion, TrackerOutput
from tests.unit.track.test_rollout import CLIPS, tracker

PROGRESS = Progress(1, 1)


def nothing(output: Any, targets: Tensor) -> Losses:
    return Losses(torch.zeros(()), {})


def objective(rule: SequenceRule, auxiliary: Any = nothing) -> SequenceObjective:
    return SequenceObjective(tracker(), auxiliary, rule)


def explored(cells: list[int], rewards: list[float]) -> Explored:
    """Of one frame."""
    rows = len(cells)
    view = SearchRegion(torch.zeros(rows, 1), torch.zeros(rows, 2), torch.ones(rows, 2), torch.zeros(rows, 2))
    target = TemplateRegion(torch.zeros(rows, 1), torch.zeros(rows, 4))
    return Explored(target, view, torch.tensor(cells), torch.tensor(rewards), torch.zeros(rows, 4), [""] * rows)


def test_cells_are_drawn_as_often_as_the_policy_says() -> None:
    torch.manual_seed(0)
    policy = SoftmaxPolicy(temperature=1.0)
    response = torch.tensor([[0.0, 0.9, 0.3, 0.6]])
    expected = policy.log(response).exp()[0]
    drawn = policy.draw(response.expand(20000, -1))
    torch.testing.assert_close(expected.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(torch.bincount(drawn, minlength=4).double() / 20000, expected, rtol=0, atol=0.015)


def test_temperature_one_gives_back_the_odds() -> None:
    log_policy = SoftmaxPolicy(temperature=1.0, epsilon=1e-9).log(torch.tensor([[0.5, 0.8]], dtype=torch.float64))
    assert math.isclose(float((log_policy[0, 1] - log_policy[0, 0]).exp()), 4.0, rel_tol=1e-6)


@pytest.mark.parametrize("reward", [0.5, -0.5])
def test_what_did_better_becomes_more_probable(reward: float) -> None:
    learn = objective(SequenceRule())
    response = torch.full((2, 5), 0.5, requires_grad=True)
    losses = learn.losses(TrackerOutput(response, response, None), explored([3, 3], [reward] * 2))
    losses.total.backward()
    assert response.grad is not None
    assert torch.equal(response.grad[:, 3] < 0, torch.full((2,), reward > 0))
    assert ((response.grad * reward)[:, [0, 1, 2, 4]] > 0).all()


def test_an_action_is_weighted_by_its_reward() -> None:
    learn = objective(SequenceRule(policy_weight=1.0))
    response = torch.tensor([[0.2, 0.4], [0.3, 0.9], [0.5, 0.5], [0.8, 0.1]])
    batch = explored([0, 1, 1, 0], [0.5, -0.25, 0.0, 2.0])
    taken = learn.rule.policy.log(response)[range(4), batch.cells]
    expected = -(taken * torch.tensor([0.5, -0.25, 0.0, 2.0])).mean()
    torch.testing.assert_close(learn.losses(TrackerOutput(response, response, None), batch).total, expected)


def gradients(rule: SequenceRule) -> tuple[list[Explored], dict[str, Tensor]]:
    """Of a whole batch, its parts one after the other."""
    torch.manual_seed(3)
    learn = objective(rule, lambda maps, targets: Losses(maps.size_map.mean(), {}))
    with torch.no_grad():
        parts = learn.split(learn.tracker.network, ClipsOf(), PROGRESS)  # type: ignore[arg-type]
    for part in parts:
        learn(nn.Identity(), part, PROGRESS).total.backward()
    network = learn.tracker.network
    return parts, {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


class ClipsOf:
    """As `ClipBatch`."""

    clips = CLIPS
    names = ("one", "two")


def test_averaged_parts_have_the_gradient_of_the_whole_and_summed_parts_twice_that() -> None:
    whole_parts, whole = gradients(SequenceRule(micro_batch=0))
    parts, averaged = gradients(SequenceRule(micro_batch=1, average=True))
    _, summed = gradients(SequenceRule(micro_batch=1))
    assert [len(p) for p in whole_parts] == [2]
    assert [p.names for p in parts] == [["one"], ["two"]]
    rewards = torch.stack([p.rewards for p in parts], dim=1)
    assert torch.equal(rewards, rewards[:1].expand_as(rewards)), "every frame of a clip has its clip's reward"
    assert torch.equal(rewards.flatten(), whole_parts[0].rewards)
    assert len(rewards) == len(CLIPS[0].search) - 1
    assert whole.keys() == averaged.keys()
    assert len(whole) > 10
    for name, gradient in whole.items():
        torch.testing.assert_close(averaged[name], gradient, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(summed[name], 2 * gradient, rtol=1e-3, atol=2e-6)


def maps(best: list[int]) -> BoxMaps:
    """Of 4 x 4 cells, with the best one of each row; every cell gives a box of 0.2 at its corner."""
    score = torch.full((len(best), 1, 4, 4), 0.1)
    score.flatten(1)[torch.arange(len(best)), torch.tensor(best)] = 0.9
    size = torch.full((len(best), 2, 4, 4), 0.2).requires_grad_()
    return BoxMaps(torch.rand(len(best), 4, requires_grad=True), score, size, torch.zeros(len(best), 2, 4, 4))


def taught(output: BoxMaps, targets: list[list[float]]) -> list[list[int]]:
    """The cells of each row that learn a size."""
    CentreBoxLoss(BoxCriterion(focal_weight=0.0))(output, torch.tensor(targets)).total.backward()
    assert output.size_map is not None
    gradient = torch.zeros_like(output.size_map) if output.size_map.grad is None else output.size_map.grad
    return [row.nonzero().flatten().tolist() for row in gradient.abs().sum(dim=1).flatten(1)]


def test_boxes_are_learned_only_where_the_target_is_in_sight() -> None:
    inside, beside, absent = [0.4, 0.4, 0.3, 0.3], [1.2, 0.4, 0.3, 0.3], [0.0, 0.0, 0.0, 0.0]
    assert taught(maps([10, 10, 10]), [inside, beside, absent]) == [[10], [], []]
    assert taught(maps([10, 10]), [beside, absent]) == [[], []]


def test_the_box_of_a_cell_beside_the_target_learns_nothing() -> None:
    target = [0.2, 0.5, 0.6, 0.45]
    assert taught(maps([13, 0]), [target, target]) == [[13], [10]]


@pytest.mark.parametrize("published", [False, True])
def test_cells_learn_nothing_from_an_absent_target_unless_as_published(published: bool) -> None:
    boxes = torch.full((2, 4, 16), 0.3, requires_grad=True)
    output = BoxMaps(torch.zeros(2, 4), torch.zeros(2, 1, 4, 4), cell_boxes_cxcywh=boxes)
    learn = DenseBoxLoss(CellCriterion(wrap_matches=published))
    learn(output, torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.0] * 4])).total.backward()
    assert boxes.grad is not None
    taught = boxes.grad.abs().sum(dim=1) > 0
    assert taught[0].nonzero().flatten().tolist() == [5, 6, 9, 10]
    assert taught[1].nonzero().flatten().tolist() == ([0] if published else [])


def test_absent_targets_are_zeros_in_the_crop() -> None:
    view = SearchRegion(torch.zeros(3, 1), torch.full((3, 2), 50.0), torch.full((3, 2), 100.0), torch.zeros(3, 2))
    truth = torch.tensor([[40.0, 40.0, 20.0, 20.0], [0.0] * 4, [float("nan")] * 4])
    expected = torch.tensor([[0.4, 0.4, 0.2, 0.2], [0.0] * 4, [0.0] * 4])
    torch.testing.assert_close(targets_in_crops(view, truth), expected)
