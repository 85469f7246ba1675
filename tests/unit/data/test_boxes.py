"""Box arithmetic."""

import numpy as np
import pytest
import torch

from lib.data import boxes
from tests.support.boxes import cxcywh_to_xywh, xyxy_to_xywh


def random_boxes(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).uniform([-20, -20, 1, 1], [90, 90, 60, 60], (n, 4))


@pytest.mark.parametrize("of", [lambda a: a, torch.from_numpy], ids=["numpy", "torch"])
def test_formats_and_back(of):
    xywh = of(random_boxes())
    for there, back in [
        (boxes.xywh_to_xyxy, xyxy_to_xywh),
        (boxes.xywh_to_cxcywh, cxcywh_to_xywh),
        (lambda b: boxes.cxcywh_to_xyxy(boxes.xywh_to_cxcywh(b)), xyxy_to_xywh),
    ]:
        assert type(there(xywh)) is type(xywh)
        np.testing.assert_allclose(back(there(xywh)), xywh, atol=1e-12)


def test_xyxy_of_one_box():
    assert boxes.xywh_to_xyxy(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [1, 2, 4, 6]
    assert boxes.xywh_to_cxcywh(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [2.5, 4, 3, 4]


def test_iou_by_hand():
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0], [0, 0, 4, 4]], dtype=float)
    b = np.array([[5, 0, 10, 10], [20, 20, 1, 1], [0, 0, 0, 0], [np.nan, 0, 4, 4]], dtype=float)
    expected = [50 / 150, 0, 0, np.nan]
    np.testing.assert_allclose(boxes.iou_xywh(a, b), expected)
    np.testing.assert_allclose(boxes.iou_xywh(torch.from_numpy(a), torch.from_numpy(b)), expected)


@pytest.mark.parametrize("margin", [0.0, 10.0])
def test_clip_is_the_same_alone_and_batched(margin):
    some = random_boxes(300)
    sizes = np.random.default_rng(1).integers(30, 100, (300, 2)).astype(float)
    batched = boxes.clip_boxes(torch.from_numpy(some), torch.from_numpy(sizes), margin)
    alone = [boxes.clip_box(b, h, w, margin) for b, (h, w) in zip(some.tolist(), sizes.tolist(), strict=True)]
    assert batched.tolist() == [list(b) for b in alone]


def test_jitter_without_jitter_keeps_the_box_in_single_precision():
    box = np.array([51.67, 38.4, 79.64, 48.92], dtype=np.float32)
    noise = np.array([1.5, -2.0], dtype=np.float32)
    jittered = boxes.jitter_box(box, noise, noise, 0.0, 0.0)
    assert jittered.dtype == np.float32
    np.testing.assert_allclose(jittered, box, rtol=1e-6)


def test_jitter_has_the_stated_spread():
    rng = np.random.default_rng(0)
    box = np.array([100, 100, 40, 10], dtype=np.float32)
    draws = [(rng.standard_normal(2), rng.random(2)) for _ in range(4000)]
    found = np.array([boxes.jitter_box(box, n, u, 0.25, 3.0) for n, u in draws])
    assert np.log(found[:, 2] / 40).std() == pytest.approx(0.25, rel=0.05)
    offset = (found[:, 0] + found[:, 2] / 2 - 120) / np.sqrt(found[:, 2] * found[:, 3])
    assert np.abs(offset).max() <= 1.5 + 1e-3
    assert offset.std() == pytest.approx(3 / np.sqrt(12), rel=0.05)


def test_a_bias_makes_all_jittered_boxes_larger_around_the_same_place():
    box, uniform = np.array([100, 100, 40, 10], dtype=np.float32), np.full(2, 0.5)
    for normal in (np.zeros(2), np.array([0.3, -1.0])):
        plain, biased = (boxes.jitter_box(box, normal, uniform, 0.25, 3.0, scale_bias=b) for b in (0.0, 0.2))
        np.testing.assert_allclose(biased[2:], plain[2:] * np.exp(0.2), rtol=1e-6)
        np.testing.assert_allclose(biased[:2] + biased[2:] / 2, [120, 105], rtol=1e-6)


def test_jitter_reaches_as_far_as_the_mean_that_is_asked_for():
    box, noise = np.array([100, 100, 40, 10], dtype=np.float32), np.zeros(2, dtype=np.float32)
    corner = np.ones(2, dtype=np.float32)
    for geometric, mean in ((True, 20.0), (False, 25.0)):
        moved = boxes.jitter_box(box, noise, corner, 0.25, 3.0, geometric)
        np.testing.assert_allclose(moved - box, [1.5 * mean, 1.5 * mean, 0, 0], rtol=1e-6)


def test_centres_are_kept_inside_and_sides_within_bounds():
    some = torch.tensor([[-60.0, 30.0, 40.0, 20.0], [90.0, 70.0, 4.0, 300.0]], dtype=torch.float64)
    sizes = torch.tensor([[80.0, 100.0], [80.0, 100.0]])
    expected = [[-20.0, 30.0, 40.0, 20.0], [92.0 - 5.0, 80.0 - 40.0, 10.0, 80.0]]
    assert boxes.clip_centres(some, sizes).tolist() == expected
