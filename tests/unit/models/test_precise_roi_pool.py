"""Precise RoI pooling: the mean of a bilinear map over bins, and its derivatives in closed form."""

import torch

from lib.models.layers import LevelPooling, precise_roi_pool

BOXES = torch.tensor(
    [[3.3, 5.1, 60.2, 77.7], [-20, -13, 40, 50], [90, 100, 140.5, 130.2], [5, 5, 5, 30], [30, 30, 20, 50]],
    dtype=torch.float64,
)
"""Inside, across and beyond the border, without width, and inverted."""


def maps() -> torch.Tensor:
    return torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_means_are_those_of_many_points() -> None:
    features = maps()[:1]
    steps = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    x1, y1, x2, y2 = BOXES[0] / 16
    across, down = (
        (1 - (low + steps * (high - low) - torch.arange(count)[:, None]).abs()).clamp_min(0)
        for low, high, count in ((x1, x2, 9), (y1, y2, 7))
    )
    points = torch.einsum("ih,cij,jw->chw", down, features[0], across)
    expected = points.unflatten(2, (4, -1)).unflatten(1, (2, -1)).mean(dim=(2, 4))
    found = precise_roi_pool(features, BOXES[None, :1], (2, 4), 16)
    torch.testing.assert_close(found[0, 0], expected, rtol=1e-5, atol=1e-6)


def test_closed_form_is_the_gradient() -> None:
    boxes, generator = BOXES.expand(2, -1, -1).clone().requires_grad_(), torch.Generator().manual_seed(1)
    maps_of_both = [maps(), torch.randn(2, 4, 14, 11, dtype=torch.float64, generator=generator)]
    outs = [precise_roi_pool(m, boxes, p, s) for m, p, s in zip(maps_of_both, (4, 3), (16, 8), strict=True)]
    outward = [torch.randn(out.shape, dtype=out.dtype, generator=generator) for out in outs]
    (expected,) = torch.autograd.grad(sum((out * o).sum() for out, o in zip(outs, outward, strict=True)), boxes)
    low, high = boxes.detach().split(2, dim=2)
    bins, pull_back = LevelPooling(maps_of_both, (4, 3), (16, 8))(low, high - low)
    for found, out in zip(bins, outs, strict=True):
        torch.testing.assert_close(found.permute(0, 1, 4, 2, 3), out)
    by_low, by_extent = pull_back([o.permute(0, 1, 3, 4, 2) for o in outward])
    torch.testing.assert_close(torch.cat([by_low - by_extent, by_extent], dim=2), expected)
    assert expected[:, :2].abs().min() > 0
    assert not expected[:, 3:].any()
    assert not outs[0][:, 3:].any()


def test_layout_of_the_map_does_not_matter() -> None:
    features, boxes = maps(), BOXES.expand(2, -1, -1)
    channels_last = features.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(precise_roi_pool(channels_last, boxes, 3, 16), precise_roi_pool(features, boxes, 3, 16))
