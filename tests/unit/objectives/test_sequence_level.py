"""Sequence-level training: policy, rewards, parts, and what its gradient does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.config import SLT, ConfigError, Part
from lib.data import FrameSet
from lib.models.heads import Candidates, boxes_from_corners
from lib.objectives import (
    BoxCriterion,
    CellCriterion,
    CentreBoxLoss,
    DenseBoxLoss,
    Explored,
    Losses,
    MeanMaxPolicy,
    Progress,
    SequenceObjective,
    SoftmaxPolicy,
    build_policy,
    targets_in_crops,
)
from lib.track import SearchRegion, TemplateRegion, TrackerOutput, roll_out
from tests.unit.track.test_rollout import CLIPS, tracker

PROGRESS = Progress(1, 1)


def nothing(output: Any, targets: Tensor) -> Losses:
    return Losses(torch.zeros(()), {})


def objective(section: SLT, auxiliary: Any = nothing) -> SequenceObjective:
    return SequenceObjective(tracker(), auxiliary, section)


def explored(cells: list[int], rewards: list[float]) -> Explored:
    """Of one frame."""
    rows = len(cells)
    region = SearchRegion(torch.zeros(rows, 1), torch.zeros(rows, 2), torch.ones(rows, 2), torch.zeros(rows, 2))
    template, boxes = TemplateRegion(torch.zeros(rows, 1), torch.zeros(rows, 4)), torch.zeros(rows, 4)
    taken = torch.tensor(cells), torch.tensor(rewards)
    return Explored(template, boxes, region, torch.arange(rows), *taken, boxes, [""] * rows)


def output_of(policy_logits: Tensor) -> TrackerOutput:
    return TrackerOutput(Candidates(policy_logits, policy_logits[..., None]), policy_logits, policy_logits)


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
    learn = objective(SLT())
    response = torch.full((2, 5), 0.5, requires_grad=True)
    losses = learn.losses(output_of(response), explored([3, 3], [reward] * 2))
    losses.total.backward()
    assert response.grad is not None
    assert torch.equal(response.grad[:, 3] < 0, torch.full((2,), reward > 0))
    assert ((response.grad * reward)[:, [0, 1, 2, 4]] > 0).all()


def test_an_action_is_weighted_by_its_reward() -> None:
    learn = objective(SLT(policy_weight=1.0))
    response = torch.tensor([[0.2, 0.4], [0.3, 0.9], [0.5, 0.5], [0.8, 0.1]])
    batch = explored([0, 1, 1, 0], [0.5, -0.25, 0.0, 2.0])
    taken = learn.policy.log(response)[range(4), batch.choices]
    expected = -(taken * torch.tensor([0.5, -0.25, 0.0, 2.0])).mean()
    torch.testing.assert_close(learn.losses(output_of(response), batch).total, expected)
    even = learn.losses(output_of(torch.full((4, 2), 0.5)), batch).terms["Entropy"]
    assert float(even) == pytest.approx(math.log(2))


def gradients(section: SLT) -> tuple[list[Explored], dict[str, Tensor]]:
    """Of a whole batch, its parts one after the other."""
    torch.manual_seed(3)
    learn = objective(section, lambda found, targets: Losses(found.maps["size_map"].mean(), {}))
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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """With two, a ReLU of these random weights whose input is 6e-7 is on in one batch and off in another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_averaged_parts_have_the_gradient_of_the_whole_and_summed_parts_twice_that() -> None:
    whole_parts, whole = gradients(SLT(micro_batch=0))
    parts, averaged = gradients(SLT(micro_batch=1, average=True))
    _, summed = gradients(SLT(micro_batch=1))
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


def maps(best: list[int]) -> Candidates:
    """Of 4 x 4 cells, with the best one of each row; every cell gives a box of 0.2 at its corner. No maps of a head."""
    scores = torch.full((len(best), 16), 0.1)
    scores[torch.arange(len(best)), torch.tensor(best)] = 0.9
    place = torch.arange(16)
    centres = torch.stack([place % 4, place // 4], dim=1).expand(len(best), -1, -1) / 4
    boxes = torch.cat([centres, torch.full((len(best), 16, 2), 0.2)], dim=2).requires_grad_()
    return Candidates(scores, boxes)


def taught(output: Candidates, targets: list[list[float]]) -> list[list[int]]:
    """The cells of each row that learn a size."""
    CentreBoxLoss(BoxCriterion(focal_weight=0.0))(output, torch.tensor(targets)).total.backward()
    gradient = torch.zeros_like(output.boxes) if output.boxes.grad is None else output.boxes.grad
    return [row.nonzero().flatten().tolist() for row in gradient.abs().sum(dim=2)]


def test_boxes_next_to_the_policy_need_a_square_of_cells() -> None:
    candidates = maps([1])
    anchors = Candidates(candidates.scores[:, :15], candidates.boxes[:, :15])
    with pytest.raises(ValueError, match=r"15 candidates are no square of cells.*build_auxiliary"):
        taught(anchors, [[0.3, 0.3, 0.2, 0.2]])


def test_boxes_are_learned_only_where_the_target_is_in_sight() -> None:
    inside, outside, absent = [0.4, 0.4, 0.3, 0.3], [1.2, 0.4, 0.3, 0.3], [0.0, 0.0, 0.0, 0.0]
    assert taught(maps([10, 10, 10]), [inside, outside, absent]) == [[10], [], []]
    assert taught(maps([10, 10]), [outside, absent]) == [[], []]


def test_the_box_of_a_cell_outside_the_target_learns_nothing() -> None:
    target = [0.2, 0.5, 0.6, 0.45]
    assert taught(maps([13, 0]), [target, target]) == [[13], [10]]


@pytest.mark.parametrize("published", [False, True])
def test_cells_learn_nothing_from_an_absent_target_unless_as_published(published: bool) -> None:
    boxes = torch.full((2, 16, 4), 0.3, requires_grad=True)
    output = Candidates(torch.zeros(2, 16), boxes)
    learn = DenseBoxLoss(CellCriterion(wrap_matches=published))
    learn(output, torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.0] * 4])).total.backward()
    assert boxes.grad is not None
    taught = boxes.grad.abs().sum(dim=2) > 0
    assert taught[0].nonzero().flatten().tolist() == [5, 6, 9, 10]
    assert taught[1].nonzero().flatten().tolist() == ([0] if published else [])


def test_absent_targets_are_zeros_in_the_crop() -> None:
    region = SearchRegion(torch.zeros(3, 1), torch.full((3, 2), 50.0), torch.full((3, 2), 100.0), torch.zeros(3, 2))
    truth = torch.tensor([[40.0, 40.0, 20.0, 20.0], [0.0] * 4, [float("nan")] * 4])
    expected = torch.tensor([[0.4, 0.4, 0.2, 0.2], [0.0] * 4, [0.0] * 4])
    torch.testing.assert_close(targets_in_crops(region, truth), expected)


def test_mean_and_maximum_of_raw_scores_become_minus_seven_and_seven() -> None:
    raw = torch.tensor([[4.0, -2.0, 10.0]])
    scaled = MeanMaxPolicy().scaled(raw)
    assert scaled.tolist() == [[-7.0, -21.0, 7.0]]
    torch.testing.assert_close(MeanMaxPolicy().scaled(raw * 5 + 2), scaled)
    assert MeanMaxPolicy().log(torch.full((1, 4), 2.0)).exp().tolist() == [[0.25] * 4]


def test_the_policy_is_a_registered_part_and_the_old_keys_still_count() -> None:
    assert build_policy(SLT(temperature=2.0, epsilon=0.1)) == SoftmaxPolicy(2.0, 0.1)
    assert build_policy(SLT(temperature=2.0, policy=Part("SOFTMAX_LOGIT", {"epsilon": 0.2}))) == SoftmaxPolicy(2.0, 0.2)
    assert build_policy(SLT(policy=Part("mean_max"))) == MeanMaxPolicy()
    with pytest.raises(ConfigError, match=r"no argument SPRAED; did you mean 'SPREAD'"):
        build_policy(SLT(policy=Part("mean_max", {"spraed": 3.0})))
    with pytest.raises(ConfigError, match=r"SPREAD must be above 0, not -1"):
        build_policy(SLT(policy=Part("mean_max", {"spread": -1})))


def shorter(clip: FrameSet, real: int, padded: bool) -> FrameSet:
    """The clip with `real` search frames; filled up to its length with copies of the last one, or cut."""
    keep = [*range(real), *[real - 1] * (len(clip.search) - real if padded else 0)]
    frames, boxes = tuple(clip.search[i] for i in keep), clip.search_boxes[keep]
    return replace(clip, search=frames, search_boxes=boxes, real_length=real)


def learned(clips: list[FrameSet], section: SLT, auxiliary: Any) -> tuple[Losses, Explored, dict[str, Tensor]]:
    learn = objective(section, auxiliary)
    torch.manual_seed(3)
    rollout = roll_out(learn.tracker, clips, lambda logits: logits.argmin(dim=-1))
    (part,) = learn.parts(rollout, [""] * len(clips))
    losses = learn(nn.Identity(), part, PROGRESS)
    losses.total.backward()
    return losses, part, {n: p.grad for n, p in learn.tracker.network.named_parameters() if p.grad is not None}


def test_copies_that_fill_up_a_clip_weigh_nothing() -> None:
    section, boxes = SLT(micro_batch=0), CentreBoxLoss(BoxCriterion(focal_weight=0.0))
    whole, part, expected = learned([shorter(CLIPS[0], 3, False), CLIPS[1]], section, boxes)
    padded, filled, gradients = learned([shorter(CLIPS[0], 3, True), CLIPS[1]], section, boxes)
    assert part.rows.tolist() == filled.rows.tolist() == [0, 1, 0, 1, 1]
    assert whole.terms.keys() == padded.terms.keys()
    for name, value in whole.terms.items():
        torch.testing.assert_close(padded.terms[name], value)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient)
    alone, _, _ = learned([shorter(CLIPS[0], 3, False)], section, boxes)
    assert alone.terms["Reward"] != 0
    torch.testing.assert_close(part.rewards[0], alone.terms["Reward"])


def test_a_corner_head_learns_from_both_of_its_choices() -> None:
    """A frame's choices are one cell per corner; the greedy half takes the expected corners, as at test time."""
    track = tracker("MODEL.HEAD={TYPE: CORNER, NUM_CHANNELS: 32}")
    learn = SequenceObjective(track, CentreBoxLoss(BoxCriterion(focal_weight=0.0)), SLT(micro_batch=0, temperature=1.0))
    torch.manual_seed(3)
    (part,) = learn.split(track.network, ClipsOf(), PROGRESS)  # type: ignore[arg-type]
    frames = len(CLIPS) * (len(CLIPS[0].search) - 1)
    assert part.choices.shape == (frames, 2)
    template = track.encode_template(part.template)
    output = track.forward(track.init_state(part.template, template, part.start_xywh), part.regions, part.rows)
    assert output.policy_logits is not None
    log_policy = learn.policy.log(output.policy_logits)
    rows = torch.arange(frames)
    both = log_policy[rows, 0, part.choices[:, 0]] + log_policy[rows, 1, part.choices[:, 1]]
    losses = learn(track.network, part, PROGRESS)
    torch.testing.assert_close(losses.terms["Loss/policy"], -(part.rewards * both).mean().detach())
    assert part.rewards.abs().max() > 0
    learn.auxiliary = nothing
    learn(track.network, part, PROGRESS).total.backward()
    for branch in ("tl", "br"):
        gradient = track.network.get_parameter(f"box_head.conv5_{branch}.weight").grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


def test_a_chosen_corner_lies_between_its_cells() -> None:
    """A peak between two cells gives the box that its expected corners give, whichever of the two is chosen."""
    corners = torch.zeros(1, 2, 16)
    corners[0, 0, [5, 6]], corners[0, 1, 15] = 0.5, 1.0
    for cell in (5, 6):
        (box,) = boxes_from_corners(torch.tensor([[cell, 15]]), corners)
        torch.testing.assert_close(box, torch.tensor([2.25, 2.0, 1.5, 2.0], dtype=torch.float64) / 4)
    (box,) = boxes_from_corners(torch.tensor([[15, 0]]), corners)  # improbable, and the other way round
    assert box.isfinite().all()
    assert (box[2:] > 0).all()


def test_a_corner_head_s_better_choices_become_more_probable() -> None:
    logits = torch.full((1, 2, 4), 0.25, requires_grad=True)
    batch = replace(explored([1], [0.5]), choices=torch.tensor([[1, 3]]))
    objective(SLT()).losses(output_of(logits), batch).total.backward()
    assert logits.grad is not None
    assert [row.argmin().item() for row in logits.grad[0]] == [1, 3]
