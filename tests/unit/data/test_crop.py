"""Crops: geometry, padding, and batches that equal single crops."""

import math
import tracemalloc

import cv2
import numpy as np
import pytest
import torch

from lib.data import (
    CROP_STYLES,
    CropError,
    CropRegion,
    Frame,
    Levels,
    PictureChanges,
    TooLargeBoxError,
    TooSmallBoxError,
    resize_cuts,
)

AREA, CONTEXT = CROP_STYLES["area"](), CROP_STYLES["context"]()


def square(left, top, side):
    return CropRegion(left, top, side, side, (left + side / 2, top + side / 2), (side, side))


def cropped(image, box, factor, size):
    """The area crop of a picture and its padding mask."""
    region = AREA.region(box, factor, size, image.shape[:2])
    return AREA.crop(image, region, size), AREA.padding_mask(region, image.shape[:2], size)


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


def boxes_everywhere(n=80):
    rng = np.random.default_rng(3)
    some = rng.uniform([-30, -30, 2, 2], [130, 100, 60, 60], (n, 4)).tolist()
    return [*some, [100, 70, 10, 10], [40, 30, 20, 20], [0, 0, 120, 90], [109, 79, 10, 10], [-30, 10, 20, 20]]


@pytest.mark.parametrize(("factor", "size"), [(2.0, 32), (4.0, 64)])
def test_context_crops_equal_cropping_a_frame_padded_with_its_mean_colour(factor, size):
    image, aux = picture(), picture(seed=1)
    frame = Frame(image, aux)
    borders = CONTEXT.borders([frame])
    for box in boxes_everywhere(40):
        region = CONTEXT.region(box, factor, size, frame.size_hw)
        crops = CONTEXT.crop_frames([frame], torch.tensor([box], dtype=torch.float64), factor, size, borders)
        expected = np.concatenate([crop_in_mean_colour(p, box, factor, size) for p in (image, aux)], axis=2)
        assert np.array_equal(crops.pixels[0].numpy().transpose(1, 2, 0), expected), box
        assert crops.sides.tolist() == [[region.width, region.height]]
        inside = region.left >= 0 and region.top >= 0 and region.left + region.width <= 120
        assert region.leaves((90, 120)) == (not (inside and region.top + region.height <= 90))


def test_mean_colours_of_a_picture_given_by_its_levels():
    table = picture(256, 1)[:, 0]
    levels = Levels(picture(30, 40, 1)[..., 0], table)
    frame = Frame(picture(30, 40), levels)
    assert CONTEXT.border(frame).tolist() == CONTEXT.border(Frame(frame.rgb, frame.aux)).tolist()


@pytest.mark.parametrize(("factor", "size"), [(2.0, 32), (4.0, 64), (5.0, 48)])
def test_equal_to_cropping_a_padded_frame(factor, size):
    image = picture()
    for box in boxes_everywhere():
        crop, mask = cropped(image, box, factor, size)
        expected, expected_mask = padded_crop(image, box, factor, size)
        assert np.array_equal(crop, expected), box
        assert np.array_equal(mask, expected_mask), box


def test_the_last_column_is_black_when_the_crop_reaches_it():
    image = np.full((100, 100, 3), 200, dtype=np.uint8)
    reaching = AREA.cut(image, square(60, 20, 40))
    assert reaching[:, -1].max() == 0
    assert reaching[:, -2].min() == 200
    assert AREA.cut(image, square(59, 20, 40)).min() == 200


def test_no_copy_inside_the_image():
    image = picture()
    assert np.shares_memory(AREA.cut(image, square(10, 10, 30)), image)


def test_mirrored_equals_cropping_the_mirrored_image():
    image = picture()
    flipped = np.ascontiguousarray(image[:, ::-1])
    for box in boxes_everywhere():
        region = AREA.region(box, 3.0, 32, image.shape[:2])
        assert np.array_equal(AREA.cut(image, region, PictureChanges(mirrored=True)), AREA.cut(flipped, region))


@pytest.mark.parametrize("box", [[5000, 5000, 20, 20], [-900, 10, 20, 20], [121, 0, 1, 1], [119, 10, 0.2, 0.2]])
def test_far_outside_is_black(box):
    crop, mask = cropped(picture(), box, 4.0, 32)
    assert crop.max() == 0
    assert mask.all()


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
        AREA.region(box, 4.0, 32, (90, 120))


def test_a_batch_of_different_frames_equals_single_crops():
    frames = [Frame(picture(seed=1), picture(seed=2)), Frame(picture(60, 50), picture(60, 50, seed=4))]
    boxes = torch.tensor([[70.5, 60.25, 30, 20], [-5, 3, 20, 40]], dtype=torch.float64)
    crops = AREA.crop_frames(frames, boxes, 4.0, 64)
    assert (crops.pixels.dtype, crops.pixels.shape, crops.sides.dtype) == (torch.uint8, (2, 6, 64, 64), torch.float64)
    for i, frame in enumerate(frames):
        alone = [cropped(p, boxes[i].tolist(), 4.0, 64)[0] for p in (frame.rgb, frame.aux)]
        assert np.array_equal(crops.pixels[i].numpy(), np.concatenate(alone, axis=2).transpose(2, 0, 1))


def test_the_target_of_a_crop_lies_half_a_pixel_before_its_middle():
    box = [40.0, 30.0, 20.0, 20.0]
    crops = AREA.crop_frames([Frame(picture())], torch.tensor([box], dtype=torch.float64), 2.0, 128)
    region = AREA.region(box, 2.0, 128, (90, 120))
    placed = AREA.to_crop(box, region, 128)
    assert (placed[:2] + placed[2:] / 2).tolist() == [63.5, 63.5]
    assert crops.boxes_xywh.tolist() == [(placed / 128).tolist()]


def test_mixed_modalities_in_one_batch_are_refused():
    boxes = torch.tensor([[10.0, 10, 20, 20]] * 2)
    with pytest.raises(ValueError, match="mixed"):
        AREA.crop_frames([Frame(picture(), picture()), Frame(picture())], boxes, 2.0, 32)


def test_a_view_with_negative_strides_can_be_cropped():
    bgr = picture()
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    box = [60.0, 40.0, 20.0, 20.0]
    assert np.array_equal(cropped(bgr[..., ::-1], box, 2.0, 32)[0], cropped(rgb, box, 2.0, 32)[0])


def test_the_frame_is_not_copied():
    image = np.zeros((2000, 3000, 3), dtype=np.uint8)
    cropped(image, [1000, 1000, 30, 30], 4.0, 64)
    tracemalloc.start()
    cropped(image, [2990, 1000, 30, 30], 4.0, 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_mask_size_follows_the_output():
    assert AREA.padding_mask(square(-10, 0, 40), (90, 120), 16).shape == (16, 16)


def test_affine_crops_lie_between_pixels_and_show_a_fixed_colour_beyond_the_image() -> None:
    style, image = CROP_STYLES["affine"](), np.full((60, 80, 3), 10, dtype=np.uint8)
    image[:, 40:] = 200
    region = style.region((30.25, 20.0, 20.0, 20.0), 2.0, 80, (60, 80))
    assert (region.left, region.width) == (20.25, 40)
    crop = style.crop(image, region, 80)
    # Column u shows the image at 20.25 + u / 2: the edge between columns 39 and 40 is crossed in quarters of a pixel.
    assert crop[40, 36:42, 0].tolist() == pytest.approx([10, 10, 57, 152, 200, 200], abs=2)
    outside = style.crop(image, style.region((-90.0, 20.0, 20.0, 20.0), 2.0, 40, (60, 80)), 40)
    assert np.unique(outside.reshape(-1, 3), axis=0).tolist() == [[124, 116, 104]]


@pytest.mark.parametrize(("name", "truncates"), [("affine", False), ("affine", True), ("affine_stretched", False)])
def test_labels_of_affine_crops_are_inclusive_corners_within_the_crop(name: str, truncates: bool) -> None:
    style, box = CROP_STYLES[name](truncates=truncates), (30.0, 20.0, 20.0, 10.0)
    region = style.region(box, 2.0, 77, (60, 80))
    assert (region.width, region.height) == ((40, 20) if name == "affine_stretched" else (30, 30))
    scale = 77 / np.array([region.width, region.height])
    first = (np.array(box[:2]) - [region.left, region.top]) * scale
    last = first + (np.array(box[2:]) - 1) * scale
    if truncates:
        first, last = np.trunc(first), np.trunc(last)
    np.testing.assert_allclose(style.to_crop(box, region, 77), [*first, *(last - first + 1)])
    np.testing.assert_allclose(style.to_crop((-500.0, -500.0, 1000.0, 1000.0), region, 77), [0, 0, 77, 77])


@pytest.mark.parametrize("style", [AREA, CONTEXT, CROP_STYLES["pysot"]()], ids=["area", "context", "pysot"])
@pytest.mark.parametrize("size", [32, 63])
def test_resizing_on_a_device_gives_the_crops_of_opencv_to_the_bit(style, size):
    rng = np.random.default_rng(size)
    frames, boxes = [], []
    for i in range(90):  # more than are resized at once
        image, levels = picture(seed=i), Levels(picture(channels=1, seed=100 + i)[..., 0], picture(256, 1)[:, 0])
        frames.append(Frame(image, levels))
        centre, sides = rng.uniform(-40, 160, 2), np.exp(rng.uniform(0, 4.5, 2))
        boxes.append([*(centre - sides / 2), *sides])
    boxes[:4] = [20, 30, size / 4, size / 4], [20, 30, size / 2, size / 2], [-900, 0, 20, 20], [10, 10, 1, 1]
    boxes = torch.tensor(boxes, dtype=torch.float64)
    borders = style.borders(frames)
    expected = style.crop_frames(frames, boxes, 4.0, size, borders).pixels
    regions = [style.region(box, 4.0, size, f.size_hw) for f, box in zip(frames, boxes.tolist(), strict=True)]
    found = resize_cuts(style.cuts(frames, regions, borders), size, torch.device("cpu"))
    assert torch.equal(found.unflatten(0, (90, 2)).flatten(1, 2), expected)
