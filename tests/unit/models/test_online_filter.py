"""The filter that is learned online: correlation, first filter, steepest descent."""

import pytest
import torch
from torch.nn import functional as F

from lib.models.layers import precise_roi_pool
from lib.models.online import FilterInitializer, SteepestDescent, adjoint_filter, apply_filter
from tests.support.filters import filter_losses


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def boxes(*shape: int) -> torch.Tensor:
    return 20 + 40 * torch.rand(*shape, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("size", [3, 4])
def test_a_filter_is_a_convolution_and_has_an_adjoint(size: int) -> None:
    features, weights = normal(2, 3, 6, 7, 8), normal(2, 6, size, size, seed=1)
    scores = apply_filter(features, weights)
    expected = [F.conv2d(f, w[None], padding=size // 2)[:, 0] for f, w in zip(features, weights, strict=True)]
    torch.testing.assert_close(scores, torch.stack(expected))
    outward = normal(*scores.shape, seed=2)
    back = adjoint_filter(features, outward, size)
    torch.testing.assert_close((back * weights).sum(), (scores * outward).sum())


def test_first_filter_is_the_pooled_convolution() -> None:
    part, features, targets = FilterInitializer(6, 4, 16).double(), normal(2, 3, 6, 7, 8), boxes(2, 3)
    targets[0, 0, 0] = -30  # across the border, where the convolution sees zeros
    torch.nn.init.normal_(part.filter_conv.get_parameter("bias"))
    corners = torch.cat([targets[..., :2], targets[..., :2] + targets[..., 2:]], dim=-1).flatten(0, 1)[:, None]
    pooled = precise_roi_pool(part.filter_conv(features.flatten(0, 1)), corners, 4, 16)
    torch.testing.assert_close(part(features, targets), pooled.view(2, 3, 6, 4, 4).mean(dim=1))


def optimiser() -> SteepestDescent:
    return SteepestDescent(4, 16, 0.9).double()


def test_losses_fall() -> None:
    part, samples = optimiser(), (normal(2, 3, 6, 7, 8, seed=1), boxes(2, 3))
    losses = filter_losses(part, part(0.1 * normal(2, 6, 4, 4), *samples, iterations=6), *samples)
    assert len(losses) == 7
    assert (losses.diff(dim=0) < 0).all()


def test_rows_learn_alone_and_samples_of_weight_zero_do_nothing() -> None:
    part, weights, features, targets = optimiser(), normal(2, 6, 4, 4), normal(2, 5, 6, 7, 8, seed=1), boxes(2, 5)
    samples = torch.tensor([[0.5, 0.2, 0.3, 0.0, 0.0], [0.1, 0.2, 0.3, 0.3, 0.1]], dtype=torch.float64)
    both = part(weights, features, targets, samples, 3)[-1]
    for row, count in ((0, 3), (1, 5)):
        at = slice(row, row + 1)
        alone = part(weights[at], features[at, :count], targets[at, :count], samples[at, :count], 3)[-1]
        torch.testing.assert_close(both[at], alone)


def test_default_weights_are_equal_ones() -> None:
    part, weights, features, targets = optimiser(), normal(1, 6, 4, 4), normal(1, 4, 6, 7, 8, seed=1), boxes(1, 4)
    given = part(weights, features, targets, torch.full((1, 4), 0.25, dtype=torch.float64), 2)[-1]
    torch.testing.assert_close(part(weights, features, targets, iterations=2)[-1], given)


def test_gradients_flow_through_all_steps() -> None:
    part, features = optimiser(), normal(1, 2, 6, 7, 8, seed=1).requires_grad_()
    part(normal(1, 6, 4, 4), features, boxes(1, 2), iterations=3)[-1].sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    assert all(p.grad is not None for p in part.parameters())
