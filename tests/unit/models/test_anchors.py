"""Anchors: their order, who learns what, strangers, absent targets, how many are kept; losses of anchors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lib.models.heads import AnchorMatcher, anchor_candidates, anchor_grid, anchor_shapes, correlate, keep_random
from lib.models.losses import balanced_cross_entropy, weighted_l1

SHAPES = anchor_shapes(8, (0.33, 0.5, 1, 2, 3), (8,))
MATCHER = AnchorMatcher(SHAPES, 8, 25, 127)


def test_shapes_are_whole_multiples_of_the_scale() -> None:
    assert SHAPES == [(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)]


def test_anchors_come_shape_by_shape_row_by_row() -> None:
    anchors = anchor_grid([(4.0, 2.0), (2.0, 4.0)], 3, 8)
    assert anchors[0].tolist() == [-8, -8, 4, 2]
    assert anchors[1].tolist() == [0, -8, 4, 2]
    assert anchors[3].tolist() == [-8, 0, 4, 2]
    assert anchors[9].tolist() == [-8, -8, 2, 4]


def test_changes_lead_from_the_anchors_to_the_target() -> None:
    box = torch.tensor([[100.0, 90.0, 70.0, 50.0], [30.0, 40.0, 60.0, 90.0]])
    targets = MATCHER(box)
    loc = targets.changes.unflatten(2, (5, 25, 25)).flatten(1, 2)
    anchors = MATCHER.anchors() / 255
    boxes = anchor_candidates(torch.zeros(2, 10, 25, 25), loc, anchors).boxes * 255
    expected = torch.cat([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], dim=1)
    torch.testing.assert_close(boxes, expected[:, None].expand_as(boxes), rtol=1e-4, atol=1e-3)


def test_so_many_anchors_are_kept() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[95.0, 95.0, 64.0, 64.0], [30.0, 40.0, 3.0, 4.0], [90.0, 90.0, 60.0, 60.0]])
    targets = MATCHER(boxes, torch.tensor([False, False, True]))
    counts = [[int((row == kind).sum()) for kind in (1, 0)] for row in targets.labels]
    assert counts[0] == [min(16, int((MATCHER.overlaps(boxes)[0] > 0.6).sum())), 48]
    assert counts[1] == [0, 48]
    assert counts[2] == [0, 16]
    torch.testing.assert_close(targets.weights.sum(dim=1), torch.tensor([1.0, 0.0, 0.0]))
    rows, columns = (targets.labels[2].view(5, 25, 25) == 0).nonzero()[:, 1:].unbind(1)
    middle = 12 + 0 + 1  # ceil((120 - 127) / 8 + 0.5) is 0, so that the block is around cell 12
    assert rows.min() >= middle - 1 - 3
    assert columns.max() <= middle + 3


@pytest.mark.parametrize("box", [[0.0, 0.0, 0.0, 0.0], [500.0, 20.0, 0.0, 30.0]])
def test_an_absent_target_teaches_nothing(box: list[float]) -> None:
    targets = MATCHER(torch.tensor([box]))
    assert (targets.labels == -1).all()
    assert (targets.weights == 0).all()
    assert targets.changes.isfinite().all()


def test_the_kept_are_drawn_from_the_candidates() -> None:
    torch.manual_seed(3)
    candidates = torch.rand(2, 500) < 0.5
    first, again = (keep_random(candidates, torch.tensor([20, 1000])) for _ in range(2))
    assert first[0].sum() == 20
    assert not (first & ~candidates).any()
    assert torch.equal(first[1], candidates[1])
    assert not torch.equal(first, again)


def test_each_kind_of_anchor_has_half_of_the_entropy_unless_there_is_but_one() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(2, 2, 30), torch.randint(-1, 2, (2, 30))
    expected = sum(
        F.cross_entropy(logits.transpose(1, 2)[labels == kind], labels[labels == kind]) / 2 for kind in (0, 1)
    )
    torch.testing.assert_close(balanced_cross_entropy(logits, labels), expected)
    labels.fill_(-1)
    labels[0, 0] = 1
    assert balanced_cross_entropy(logits, labels) == 0
    assert balanced_cross_entropy(logits, torch.full_like(labels, -1)) == 0


def test_box_losses_are_sums_over_kept_anchors() -> None:
    predicted, target = torch.randn(2, 4, 10), torch.randn(2, 4, 10)
    weights = torch.zeros(2, 10)
    weights[0, 3] = 1.0
    expected = (predicted - target)[0, :, 3].abs().sum() / 2
    torch.testing.assert_close(weighted_l1(predicted, target, weights), expected)


def test_rows_are_correlated_with_their_own_kernels() -> None:
    torch.manual_seed(2)
    search, kernels = torch.randn(2, 3, 9, 9), torch.randn(2, 3, 5, 5)
    found = correlate(search, kernels)
    for row in range(2):
        for channel in range(3):
            expected = F.conv2d(search[row, channel][None, None], kernels[row, channel][None, None])[0, 0]
            torch.testing.assert_close(found[row, channel], expected, rtol=1e-4, atol=1e-4)
