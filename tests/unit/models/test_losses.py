"""Losses on boxes and maps."""

from __future__ import annotations

import math

import pytest
import torch

from lib.models.heads import Candidates, CenterHead
from lib.models.losses import dice_loss, focal_loss, gaussian_heatmap, generalised_iou, giou_loss
from lib.objectives import BoxCriterion


def test_giou_of_known_boxes() -> None:
    first = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    second = torch.tensor([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
    giou, iou = generalised_iou(first, second)
    torch.testing.assert_close(iou, torch.tensor([1 / 7, 0.0]))
    torch.testing.assert_close(giou, torch.tensor([1 / 7 - 2 / 9, -1 / 3]))


def test_swapped_corners_switch_the_loss_off_and_leave_finite_gradients() -> None:
    predicted = torch.tensor([[0.6, 0.1, 0.2, 0.5], [0.1, 0.1, 0.4, 0.4]], requires_grad=True)
    loss, iou = giou_loss(predicted, torch.tensor([[0.1, 0.1, 0.4, 0.4]] * 2))
    loss.backward()
    assert loss == 0
    assert not iou.any()
    assert predicted.grad is not None
    assert not predicted.grad.any()


def test_a_target_outside_the_crop_has_no_positive_cell() -> None:
    heat = gaussian_heatmap(torch.tensor([[1.2, 0.4, 0.3, 0.3], [0.4, 0.4, 0.2, 0.2]]), 8)
    assert heat[0].max() < 1
    assert heat[1].max() == 1
    score = torch.full((2, 1, 8, 8), 0.5)
    assert torch.isfinite(focal_loss(score, heat))
    assert torch.isfinite(focal_loss(score[:1], heat[:1]))


def test_dice_loss_of_known_masks() -> None:
    drawn = torch.tensor([[[99.0, 99.0], [-99.0, -99.0]]] * 3)
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]])
    torch.testing.assert_close(dice_loss(drawn, target), torch.tensor([0.0, 1 - 3 / 5, 1 - 1 / 5]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cells_of_which_a_head_is_certain_have_a_finite_loss_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = CenterHead(4, 8).eval()
    torch.nn.init.constant_(head.conv5_ctr.bias, 9.0)
    with torch.autocast("cpu", dtype=dtype):
        maps = head(torch.randn(2, 4, 8, 8))
        loss = BoxCriterion()(maps, torch.tensor([[0.4, 0.4, 0.2, 0.2]] * 2)).total
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_decoding_takes_cell_plus_offset() -> None:
    head = CenterHead(4, 16).eval()
    for name in ("offset", "size"):
        torch.nn.init.zeros_(head.get_submodule(f"conv5_{name}").weight)
    head.conv5_offset.bias.data = torch.tensor([0.5, 0.25])
    head.conv5_size.bias.data = torch.full((2,), math.log(1 / 3))
    found = head(torch.zeros(1, 4, 4, 4))
    torch.testing.assert_close(found.boxes_at(torch.tensor([9])), torch.tensor([[0.375, 0.5625, 0.25, 0.25]]))


def test_a_head_without_maps_has_no_focal_term() -> None:
    found = Candidates(torch.rand(1, 1), torch.tensor([[[0.5, 0.5, 0.2, 0.2]]]), {"score_map": torch.rand(1, 1, 4, 4)})
    losses = BoxCriterion()(found, torch.tensor([[0.4, 0.4, 0.2, 0.2]]))
    assert set(losses.terms) == {"Loss/total", "Loss/giou", "Loss/l1", "IoU"}
    torch.testing.assert_close(losses.terms["IoU"], torch.tensor(1.0))
