"""Crops that are moved into the image: training crops and tracking patches of TrDiMP."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.config import Part, Region, schema
from lib.data import Frame, FrameSet, InsideStyle, Modality, PatchStyle, Processing

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("box", "width", "corner"),
    [
        ((70, 50, 20, 20), 60, (50, 30)),  # around the centre
        ((-4, 2, 12, 20), 47, (0, 0)),
        ((150, 110, 20, 30), 74, (86, 46)),
        ((20, 10, 120, 100), 219, (-29, -49)),  # 329 is longer than the image: shrunk by 1.5
    ],
)
def test_a_training_crop_shows_what_lies_there(
    box: tuple[float, float, float, float], width: int, corner: tuple[int, int]
) -> None:
    style = InsideStyle()
    region = style.region(box, 3.0, 64, IMAGE.shape[:2])
    assert region.width == region.height == width
    assert (region.left, region.top) == corner
    cut = style.cut(IMAGE, region)
    rows = np.arange(int(region.top), int(region.top + region.height)).clip(
        0, 118 if region.top + region.height >= 120 else 119
    )
    columns = np.arange(int(region.left), int(region.left + region.width)).clip(
        0, 158 if region.left + region.width >= 160 else 159
    )
    assert np.array_equal(cut, IMAGE[rows[:, None], columns])
    corners = style.to_crop((region.left, region.top, region.width / 2, 1.0), region, 64)
    assert corners[:3].tolist() == [0, 0, 32]


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("centre", [(80.7, 60.2), (-30.0, 40.0), (170.0, 128.0), (400.0, -300.0)])
def test_a_patch_shows_what_lies_there(centre: tuple[float, float], inside: bool, scale: float) -> None:
    style = PatchStyle()
    region = style.place_at(centre, scale, 32, IMAGE.shape[:2], inside)
    side = int(region.width) // region.step
    rows, columns = ((int(first) + region.step * np.arange(side)) for first in (region.top, region.left))
    if not inside:
        middle = (side - 1) // 2
        assert (columns[middle], rows[middle]) == tuple(map(int, centre))
    limits = [
        max(range(int(first) % region.step, n, region.step)) for first, n in ((region.top, 120), (region.left, 160))
    ]
    rows, columns = (
        np.clip(at, int(first) % region.step, limit)
        for at, first, limit in ((rows, region.top, limits[0]), (columns, region.left, limits[1]))
    )
    patch = style.crop(IMAGE, region, side)
    assert patch.dtype == np.float32
    assert np.array_equal(patch, IMAGE[rows[:, None], columns])
    if inside and region.width <= 120:
        assert region.left >= 0 <= region.top
        assert region.left + region.width <= 160
        assert region.top + region.height <= 120


def test_boxes_and_places_are_the_same_patch() -> None:
    style = PatchStyle()
    frames, box = [Frame(IMAGE)], torch.tensor([[40.0, 30.0, 25.0, 16.0]], dtype=torch.float64)
    crops = style.crop_frames(frames, box, 3.0, 48)
    region = style.place_at((52.0, 37.5), 3 * 20 / 48, 48, (120, 160))
    assert np.array_equal(crops.pixels[0].numpy().transpose(1, 2, 0), style.crop(IMAGE, region, 48))
    assert crops.sides.tolist() == [[60, 60]]


def test_a_flipped_training_crop_is_a_pixel_short_of_its_mirror_image() -> None:
    crop = Region(size=64, factor=3.0)
    data = schema.Data(crop_style=Part("inside"), search=crop, template=crop, reject_all_padding=False)
    box = np.array([[60.0, 40.0, 30.0, 20.0]])
    frames = FrameSet((Frame(IMAGE),), (Frame(IMAGE),), box, box, Modality.RGB, "set", "video", (0, 0))
    boxes = {}
    for flipped in (0.0, 1.0):
        augment = schema.Augment(grey=0.0, mirror=0.0, crop_flip=flipped, brightness=0.0)
        process = Processing(schema.Data(**{**data.__dict__, "augment": augment}))
        boxes[flipped] = process(frames, np.random.default_rng(1)).search_boxes[0]
    assert boxes[1.0][0] == pytest.approx(63 / 64 - boxes[0.0][0] - boxes[0.0][2], abs=1e-6)
