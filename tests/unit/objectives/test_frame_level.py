"""Losses of cells that have scores and boxes of their own."""

from __future__ import annotations

import torch

from lib.models.heads import Candidates, dense_candidates
from lib.objectives import CellCriterion

TARGET = torch.tensor([[0.25, 0.25, 0.5, 0.25], [0.5, 0.5, 0.25, 0.25]])


def cells(logits: torch.Tensor | None = None) -> Candidates:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 64, 2, generator=generator) if logits is None else logits
    return dense_candidates(logits.requires_grad_(), torch.rand(2, 64, 4, generator=generator).requires_grad_())


def test_what_is_right_costs_nothing() -> None:
    learn = CellCriterion()
    boxes = torch.tensor([[0.5, 0.375, 0.5, 0.25], [0.625, 0.625, 0.25, 0.25]])[:, None].repeat(1, 64, 1)
    matched = learn.matched(boxes, TARGET)
    logits = torch.where(matched[..., None], torch.tensor([9.0, -9.0]), torch.tensor([-9.0, 9.0]))
    losses = learn(dense_candidates(logits, boxes), TARGET)
    assert losses.total < 1e-5
    assert losses.terms["IoU"] == 1


def test_background_weighs_less() -> None:
    learn, wrong = CellCriterion(), torch.zeros(2, 64, 2)
    found = cells(wrong)
    learn.score_loss(found, learn.matched(found.boxes, TARGET)).backward()
    assert found.maps["logits"].grad is not None
    matched = learn.matched(found.boxes, TARGET)
    ratio = found.maps["logits"].grad[matched].abs().mean() / found.maps["logits"].grad[~matched].abs().mean()
    torch.testing.assert_close(ratio, torch.tensor(16.0))


def test_a_batch_without_any_target_in_view_teaches_scores_alone() -> None:
    found = cells()
    losses = CellCriterion()(found, torch.tensor([[1.5, 0.2, 0.2, 0.2], [0.2, 1.5, 0.2, 0.2]]))
    losses.total.backward()
    assert losses.terms["Loss/bbox"] == losses.terms["Loss/giou"] == 0
    assert found.maps["logits"].grad is not None
    assert found.maps["logits"].grad.abs().sum() > 0
    assert found.boxes.grad is None or not found.boxes.grad.any()


def test_boxes_of_other_cells_are_left_alone() -> None:
    learn, found = CellCriterion(), cells()
    learn(found, TARGET).total.backward()
    touched = found.boxes.grad
    assert touched is not None
    assert torch.equal(touched.abs().sum(dim=2) > 0, learn.matched(found.boxes, TARGET))


def test_candidates_are_the_cells() -> None:
    found = cells()
    probabilities = found.maps["logits"].softmax(dim=2)[..., 0]
    torch.testing.assert_close(found.scores, probabilities)
    torch.testing.assert_close(found.maps["score_map"].flatten(1), probabilities)
    where = torch.tensor([7, 50])
    assert torch.equal(found.boxes_at(where), found.boxes[torch.arange(2), where])
    assert torch.equal(found.best_boxes(), found.boxes_at(probabilities.argmax(dim=1)))
