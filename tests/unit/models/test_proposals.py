"""Box proposals, their densities and loss; labels and hinge loss of filters."""

from __future__ import annotations

import torch

from lib.models.losses import gaussian_labels, hinge_loss
from lib.models.proposals import density_loss, draw_proposals


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    components = torch.randint(0, 2, (2, count), generator=generator)
    return components, torch.randn(2, count, 4, generator=generator, dtype=torch.float64)


def test_the_target_density_itself_has_the_least_loss() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 40.0], [0.0, 5.0, 8.0, 2.0]], dtype=torch.float64)
    proposals = draw_proposals(boxes, *drawn(20_000))
    best = proposals.target_density.clamp(min=1e-300).log()
    least = density_loss(best, proposals)
    for other in (best * 0.5, best + 3 * torch.sin(torch.arange(20_000.0)), torch.zeros_like(best)):
        assert density_loss(other, proposals) > least
    # A constant changes nothing: the mean of the target density over the proposals is 1.
    torch.testing.assert_close(density_loss(best + 2.0, proposals), least, rtol=0, atol=0.05)


def test_proposals_lie_around_their_target() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 40.0], [0.0, 5.0, 8.0, 2.0]], dtype=torch.float64)
    components, normal = drawn(4)
    still = draw_proposals(boxes, components, torch.zeros_like(normal))
    torch.testing.assert_close(still.boxes_xywh, boxes[:, None].expand(2, 4, 4))
    assert (still.density == still.density[0, 0]).all()
    assert (still.target_density > still.density).all()


def test_labels_have_their_peak_at_the_target() -> None:
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.25]])
    labels = gaussian_labels(boxes, 22, 0.1)
    padded = gaussian_labels(boxes, 22, 0.25 / 6, padded=True)
    assert labels.shape == (1, 22, 22)
    assert padded.shape == (1, 23, 23)
    # 0.5 and 0.625 of the crop, of 22 cells and half a cell more.
    assert int(padded.flatten().argmax()) == 14 * 23 + 11


def test_only_positive_scores_count_where_there_is_no_target() -> None:
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert hinge_loss(torch.tensor([-3.0, 0.0, 1.0, 1.0]), labels) == 0
    assert hinge_loss(torch.tensor([2.0, 0.0, 1.0, 0.0]), labels) == (4 + 1) / 4
