"""IoU-Net: refinement in closed form against autograd, rows of a batch."""

import pytest
import torch
from torch import Tensor

from lib.models.heads import IoUFeatures, IoUNet


def network() -> IoUNet:
    torch.manual_seed(0)
    part = IoUNet(8, 12, 10).double().eval()
    for module in part.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            torch.nn.init.normal_(module.bias, std=0.1)
    return part


def inputs(part: IoUNet, rows: int = 2) -> tuple[Tensor, IoUFeatures, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, dtype=torch.float64, generator=generator)

    reference = part.modulation(normal(8, 16, 16), normal(12, 8, 8), torch.tensor([[40.0, 40, 30, 20]] * rows).double())
    boxes = 30 + 40 * torch.rand(rows, 4, 4, dtype=torch.float64, generator=generator)
    return reference, part.features(normal(8, 16, 16), normal(12, 8, 8)), boxes


@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_refinement_climbs_as_autograd_does(decay: float) -> None:
    part = network()
    modulation, features, boxes = inputs(part)
    norm = boxes[:, :1, 2:]
    relative = torch.cat([(boxes[..., :2] + boxes[..., 2:] / 2) / norm, boxes[..., 2:].log()], dim=2).detach()
    for step in range(4):
        relative.requires_grad_()
        size = relative[..., 2:].exp()
        found = torch.cat([relative[..., :2] * norm - size / 2, size], dim=2)
        scores = part(modulation, features, found)
        (gradient,) = torch.autograd.grad(scores.sum(), relative, retain_graph=True)
        relative = (relative + 0.05 * decay**step * gradient).detach()
    size = relative[..., 2:].exp()
    expected = torch.cat([relative[..., :2] * norm - size / 2, size], dim=2)
    refined, last, _ = part.ascend(modulation, features, boxes, 4, 0.05, decay)
    assert (expected - boxes).abs().max() > 0.01
    torch.testing.assert_close(refined, expected)
    torch.testing.assert_close(last, scores)
    assert not refined.requires_grad


def test_a_row_climbs_as_it_does_alone() -> None:
    part = network()
    modulation, features, boxes = inputs(part, 3)
    both, _, _ = part.ascend(modulation, features, boxes, 3, 0.05)
    row = IoUFeatures(features.fine[1:2], features.coarse[1:2])
    alone, _, _ = part.ascend(modulation[1:2], row, boxes[1:2], 3, 0.05)
    torch.testing.assert_close(both[1:2], alone)


def test_features_around_the_boxes_are_enough() -> None:
    part, generator = network(), torch.Generator().manual_seed(2)
    fine, coarse = (torch.randn(3, c, s, s, dtype=torch.float64, generator=generator) for c, s in ((8, 48), (12, 24)))
    modulation = part.modulation(fine, coarse, torch.tensor([[40.0, 40, 30, 20]] * 3).double())
    places = torch.tensor([[150.0, 170, 30, 40], [2, 3, 30, 30], [350, 340, 40, 45]], dtype=torch.float64)
    boxes = places[:, None] + torch.rand(3, 4, 4, dtype=torch.float64, generator=generator)
    near = part.features_near(fine, coarse, boxes)
    assert near.fine.shape[-1] < 20
    whole, scores, _ = part.ascend(modulation, part.features(fine, coarse), boxes, 3, 0.01)
    found, near_scores = part.refine(modulation, fine, coarse, boxes, 3, 0.01)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(near_scores, scores)
    for row in range(3):
        at = slice(row, row + 1)
        alone, _ = part.refine(modulation[at], fine[at], coarse[at], boxes[at], 3, 0.01)
        torch.testing.assert_close(found[at], alone)


def test_boxes_that_go_far_see_all_features() -> None:
    part, generator = network(), torch.Generator().manual_seed(2)
    fine, coarse = (torch.randn(1, c, s, s, dtype=torch.float64, generator=generator) for c, s in ((8, 48), (12, 24)))
    modulation = part.modulation(fine, coarse, torch.tensor([[40.0, 40, 30, 20]]).double())
    boxes = torch.tensor([[[170.0, 160, 20, 30]]], dtype=torch.float64)
    whole, _, hull = part.ascend(modulation, part.features(fine, coarse), boxes, 5, 2.0)
    assert ((hull[0, :2] - boxes[0, 0, :2]).abs() > 8).any()
    torch.testing.assert_close(part.refine(modulation, fine, coarse, boxes, 5, 2.0)[0], whole)


def test_strange_boxes_leave_other_rows_alone() -> None:
    part, generator = network(), torch.Generator().manual_seed(2)
    fine, coarse = (torch.randn(2, c, s, s, dtype=torch.float64, generator=generator) for c, s in ((8, 48), (12, 24)))
    modulation = part.modulation(fine, coarse, torch.tensor([[40.0, 40, 30, 20]] * 2).double())
    good = torch.tensor([[170.0, 160, 20, 30]], dtype=torch.float64)
    for strange in ([float("nan")] * 4, [-900.0, 5, 20, 20], [5, 5, 1e6, 20], [9000, 9000, 1, 1]):
        boxes = torch.stack([good, torch.tensor([strange], dtype=torch.float64)])
        found, _ = part.refine(modulation, fine, coarse, boxes, 3, 0.01)
        alone, _ = part.refine(modulation[:1], fine[:1], coarse[:1], boxes[:1], 3, 0.01)
        torch.testing.assert_close(found[:1], alone)
