"""Crops: geometry, padding, and batches that equal single crops."""

import math
import tracemalloc

import cv2
import numpy as np
import pytest
import torch

from lib.data import (
    CropError,
    CropRegion,
    Frame,
    Levels,
    TooLargeBoxError,
    TooSmallBoxError,
    crop_batch,
    crop_region,
    cut,
    mean_colours,
    padding_mask,
    sample_target,
)


def picture(height=90, width=120, channels=3, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (height, width, channels), dtype=np.uint8)


def padded_crop(image, box, factor, size):
    """The geometry the slow way: the whole frame padded, then cut, then resized; with the mask in two dimensions."""
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
    pad = 2 * side + 400
    inside = np.zeros(image.shape[:2], dtype=np.float64)
    kept = image.copy()
    # a crop that reaches the last column or row loses it
    if left + side >= image.shape[1]:
        kept[:, -1], inside[:, -1] = 0, 1
    if top + side >= image.shape[0]:
        kept[-1], inside[-1] = 0, 1
    wide = cv2.copyMakeBorder(kept, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    mask = cv2.copyMakeBorder(inside, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=1.0)
    rows, columns = slice(top + pad, top + pad + side), slice(left + pad, left + pad + side)
    crop = cv2.resize(np.ascontiguousarray(wide[rows, columns]), (size, size))
    return crop, cv2.resize(np.ascontiguousarray(mask[rows, columns]), (size, size)).astype(bool)


def crop_in_mean_colour(image, box, factor, size):
    """The style "context" the slow way: the whole frame padded with its mean colour, then cut, then resized."""
    x, y, w, h = box
    m = (w + h) / 2
    side = math.ceil(math.sqrt((w + (factor - 1) * m) * (h + (factor - 1) * m)))
    left, top = (math.floor(v - (side + 1) / 2 + 0.5) for v in (x + w / 2, y + h / 2))
    pad = 2 * side + 400
    colour = [int(v) for v in image.reshape(-1, image.shape[2]).mean(axis=0)]
    wide = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=colour)
    return cv2.resize(np.ascontiguousarray(wide[top + pad :, left + pad :][:side, :side]), (size, size))


def boxes_everywhere(n=150):
    rng = np.random.default_rng(3)
    some = rng.uniform([-30, -30, 2, 2], [130, 100, 60, 60], (n, 4)).tolist()
    return [*some, [100, 70, 10, 10], [40, 30, 20, 20], [0, 0, 120, 90], [109, 79, 10, 10], [-30, 10, 20, 20]]


@pytest.mark.parametrize(("factor", "size"), [(2.0, 32), (4.0, 64)])
def test_context_crops_equal_cropping_a_frame_padded_with_its_mean_colour(factor, size):
    image, aux = picture(), picture(seed=1)
    frame = Frame(image, aux)
    padding = torch.from_numpy(mean_colours(frame))[None]
    for box in boxes_everywhere(60):
        region = crop_region(box, factor, "context")
        box_row = torch.tensor([box], dtype=torch.float64)
        crops, factors = crop_batch([frame], box_row, factor, size, "context", padding)
        expected = np.concatenate([crop_in_mean_colour(p, box, factor, size) for p in (image, aux)], axis=2)
        assert np.array_equal(crops[0].numpy().transpose(1, 2, 0), expected), box
        assert factors.tolist() == [size / region.side]
        inside = region.left >= 0 and region.top >= 0 and region.left + region.side <= 120
        assert region.leaves(90, 120) == (not (inside and region.top + region.side <= 90))


def test_mean_colours_of_a_picture_given_by_its_levels():
    table = picture(256, 1)[:, 0]
    levels = Levels(picture(30, 40, 1)[..., 0], table)
    frame = Frame(picture(30, 40), levels)
    assert mean_colours(frame).tolist() == mean_colours(Frame(frame.rgb, frame.aux)).tolist()


@pytest.mark.parametrize(("factor", "size"), [(2.0, 32), (4.0, 64), (5.0, 48)])
def test_equal_to_cropping_a_padded_frame(factor, size):
    image = picture()
    for box in boxes_everywhere():
        crop = sample_target(image, box, factor, size, with_mask=True)
        expected, mask = padded_crop(image, box, factor, size)
        assert np.array_equal(crop.image, expected), box
        assert np.array_equal(crop.mask, mask), box


def test_the_last_column_is_black_when_the_crop_reaches_it():
    image = np.full((100, 100, 3), 200, dtype=np.uint8)
    reaching = cut(image, CropRegion(60, 20, 40))
    assert reaching[:, -1].max() == 0
    assert reaching[:, -2].min() == 200
    assert cut(image, CropRegion(59, 20, 40)).min() == 200


def test_no_copy_inside_the_image():
    image = picture()
    assert np.shares_memory(cut(image, CropRegion(10, 10, 30)), image)


def test_mirrored_equals_cropping_the_mirrored_image():
    image = picture()
    flipped = np.ascontiguousarray(image[:, ::-1])
    for box in boxes_everywhere():
        region = crop_region(box, 3.0)
        assert np.array_equal(cut(image, region, mirrored=True), cut(flipped, region))


def test_six_channels_equal_two_pictures():
    image = picture(channels=6)
    box = [90.0, 50.0, 33.0, 21.0]
    both = sample_target(image, box, 4.0, 64).image
    assert np.array_equal(both[..., :3], sample_target(image[..., :3], box, 4.0, 64).image)
    assert np.array_equal(both, cv2.resize(cut(image, crop_region(box, 4.0)), (64, 64)))


@pytest.mark.parametrize("box", [[5000, 5000, 20, 20], [-900, 10, 20, 20], [121, 0, 1, 1], [119, 10, 0.2, 0.2]])
def test_far_outside_is_black(box):
    crop = sample_target(picture(), box, 4.0, 32, with_mask=True)
    assert crop.image.max() == 0
    assert crop.mask.all()


@pytest.mark.parametrize(
    ("box", "error"),
    [
        ([10, 10, 0, 5], TooSmallBoxError),
        ([10, 10, -3, -5], TooSmallBoxError),
        ([10, 10, -3, 5], TooSmallBoxError),
        ([0, 0, 1e6, 1e6], TooLargeBoxError),
        ([0, 0, float("nan"), 4], CropError),
        ([float("inf"), 0, 4, 4], CropError),
    ],
)
def test_degenerate_boxes(box, error):
    with pytest.raises(error):
        sample_target(picture(), box, 4.0, 32)


def test_a_batch_of_different_frames_equals_single_crops():
    frames = [Frame(picture(seed=1), picture(seed=2)), Frame(picture(60, 50), picture(60, 50, seed=4))]
    boxes = torch.tensor([[70.5, 60.25, 30, 20], [-5, 3, 20, 40]], dtype=torch.float64)
    crops, factors = crop_batch(frames, boxes, 4.0, 64)
    assert (crops.dtype, crops.shape, factors.dtype) == (torch.uint8, (2, 6, 64, 64), torch.float64)
    for i, frame in enumerate(frames):
        alone = sample_target(frame.merged(), boxes[i].tolist(), 4.0, 64)
        assert np.array_equal(crops[i].numpy(), alone.image.transpose(2, 0, 1))
        assert float(factors[i]) == alone.resize_factor


def test_mixed_modalities_in_one_batch_are_refused():
    boxes = torch.tensor([[10.0, 10, 20, 20]] * 2)
    with pytest.raises(ValueError, match="mixed"):
        crop_batch([Frame(picture(), picture()), Frame(picture())], boxes, 2.0, 32)


def test_a_view_with_negative_strides_can_be_cropped():
    bgr = picture()
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    box = [60.0, 40.0, 20.0, 20.0]
    assert np.array_equal(sample_target(bgr[..., ::-1], box, 2.0, 32).image, sample_target(rgb, box, 2.0, 32).image)


def test_the_frame_is_not_copied():
    image = np.zeros((2000, 3000, 3), dtype=np.uint8)
    sample_target(image, [1000, 1000, 30, 30], 4.0, 64)
    tracemalloc.start()
    sample_target(image, [2990, 1000, 30, 30], 4.0, 64, with_mask=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_mask_size_follows_the_output():
    assert padding_mask(CropRegion(-10, 0, 40), 90, 120, 16).shape == (16, 16)
