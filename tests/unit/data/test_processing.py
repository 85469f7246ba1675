"""From frames to a sample."""

import cv2
import numpy as np
import pytest
import torch

from lib.config import Augment, Data, Part, Region
from lib.data import (
    CROP_STYLES,
    CropDraw,
    Draws,
    Frame,
    FrameSet,
    InvalidSampleError,
    Levels,
    Modality,
    Processing,
    becomes_grey,
    mirror_box,
)

STILL = CropDraw(np.zeros(2, dtype=np.float32), np.full(2, 0.5, dtype=np.float32))


def picture(seed=0, height=90, width=120):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def clip(template, search, box=(50.0, 40.0, 20.0, 12.0)):
    boxes = np.array([box])
    return FrameSet((template,), (search,), boxes, boxes, Modality.RGB, "d", "s", (3, 5))


def draws(grey=False, mirrored=False, draw=STILL):
    return Draws((grey, mirrored), (draw,), (draw,))


def process(training=True, **keys):
    return Processing(Data(template=Region(32, 2.0), search=Region(64, 4.0, 3.0, 0.25), **keys), training)


def test_without_augmentation_it_is_the_tracker_s_crop():
    frame = Frame(picture(1), picture(2))
    sample = process().apply(clip(frame, frame), draws())
    expected = CROP_STYLES["area"]().crop_frames([frame], torch.tensor([[50, 40, 20, 12]]), 4.0, 64)
    assert np.array_equal(sample.search[0], expected.pixels[0])
    assert sample.search.shape == (1, 6, 64, 64)
    assert sample.template.shape == (1, 6, 32, 32)
    centre = sample.search_boxes[0, :2] + sample.search_boxes[0, 2:] / 2
    np.testing.assert_allclose(centre, 31.5 / 64, rtol=1e-6)
    assert sample.frame_ids == (3, 5)


@pytest.mark.parametrize("style", ["area", "context"])
@pytest.mark.parametrize("box", [(50.0, 40.0, 20.0, 12.0), (100.0, 70.0, 18.0, 15.0), (-3.0, 2.0, 15.0, 9.0)])
def test_grey_and_mirror_equal_changing_the_whole_frame_first(box, style):
    image = picture(1)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    changed = Frame(np.ascontiguousarray(grey[:, ::-1]))
    lazy = process(crop_style=Part(style)).apply(clip(Frame(image), Frame(image), box), draws(grey=True, mirrored=True))
    mirrored = tuple(mirror_box(np.array(box, dtype=np.float32), image.shape[1]).tolist())
    eager = process(crop_style=Part(style)).apply(clip(changed, changed, mirrored), draws())
    assert np.array_equal(lazy.search, eager.search)
    assert np.array_equal(lazy.template, eager.template)
    assert np.array_equal(lazy.search_boxes, eager.search_boxes)


def test_crop_flip_turns_picture_and_box():
    frame = Frame(picture(1))
    jitter = {"normal": np.array([0.3, -0.2], dtype=np.float32), "uniform": np.array([0.7, 0.6], dtype=np.float32)}
    plain = process().apply(clip(frame, frame), draws(draw=CropDraw(**jitter)))
    flipped = process().apply(clip(frame, frame), draws(draw=CropDraw(**jitter, changes=(0.9, True))))
    assert np.array_equal(flipped.search[0], plain.search[0, :, :, ::-1])
    x, y, w, h = plain.search_boxes[0]
    np.testing.assert_allclose(flipped.search_boxes[0], [1 - x - w, y, w, h], atol=1e-6)
    np.testing.assert_allclose(flipped.search_colour, [np.eye(3, 4) * 0.9], rtol=1e-6)


def test_the_box_marks_the_target_in_the_crop():
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    image[90:110, 80:120] = 255
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = Processing(Data()).draw(rng, 1, 1)
        sample = process().apply(clip(Frame(image), Frame(image), (80.0, 90.0, 40.0, 20.0)), drawn)
        x, y, w, h = sample.search_boxes[0] * 64
        lit = sample.search[0, 0] > 127
        if x > 1 and y > 1 and x + w < 63 and y + h < 63:
            assert lit.sum() == pytest.approx(w * h, rel=0.3)
            rows, columns = np.nonzero(lit)
            # whole-pixel crops, the -1 of each mirroring and pixel centres add up to two crop pixels at most
            assert columns.mean() == pytest.approx(x + w / 2, abs=2.5)
            assert rows.mean() == pytest.approx(y + h / 2, abs=1.2)


def test_box_units():
    frame = Frame(picture())
    size = process().apply(clip(frame, frame), draws()).search_boxes
    minus = process(box_unit="size_minus_one").apply(clip(frame, frame), draws()).search_boxes
    np.testing.assert_allclose(minus * 63, size * 64, rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "plain", "same", "other"),
    [
        ("rgb_only", (True, False), (False, False), (False, False)),
        ("rgb", (True, False), (True, False), (True, False)),
        ("rgb_and_equal_aux", (True, False), (True, True), (True, False)),
    ],
)
def test_grey_rules(rule, plain, same, other):
    image = picture()
    assert becomes_grey(Frame(image), rule) == plain
    assert becomes_grey(Frame(image, image.copy()), rule) == same
    assert becomes_grey(Frame(image, image), rule) == same
    assert becomes_grey(Frame(image, picture(9)), rule) == other


@pytest.mark.parametrize("rule", ["rgb_only", "rgb", "rgb_and_equal_aux"])
def test_what_the_rule_names_is_grey_in_the_crop(rule):
    frame = Frame(picture(), picture(9))
    for shown in (frame, Frame(frame.rgb, frame.rgb)):
        sample = process(augment=Augment(grey_rule=rule)).apply(clip(shown, shown), draws(grey=True))
        found = [np.array_equal(sample.search[0, i], sample.search[0, i + 2]) for i in (0, 3)]
        assert tuple(found) == becomes_grey(shown, rule)


def test_a_picture_given_by_its_levels_is_cropped_as_if_it_were_coloured():
    levels = Levels(picture()[..., 0], np.random.default_rng(5).integers(0, 256, (256, 3), dtype=np.uint8))
    lazy, eager = Frame(picture(), levels), Frame(picture(), levels.picture())
    jitter = CropDraw(np.array([0.4, -0.3], dtype=np.float32), np.array([0.1, 0.9], dtype=np.float32), (1.0, True))
    for box in ((50.0, 40.0, 20.0, 12.0), (-6.0, 60.0, 30.0, 40.0)):
        for mirrored in (False, True):
            found, wanted = (
                process(reject_all_padding=False).apply(clip(f, f, box), draws(mirrored=mirrored, draw=jitter))
                for f in (lazy, eager)
            )
            assert np.array_equal(found.search, wanted.search)
            assert np.array_equal(found.template, wanted.template)


def test_crops_that_show_nothing_are_invalid():
    frame = Frame(picture())
    for box in [(4000.0, 0.0, 10.0, 10.0), (0.0, 0.0, 0.0, 10.0), (np.nan, 0.0, 1.0, 1.0)]:
        with pytest.raises(InvalidSampleError):
            process().apply(clip(frame, frame, box), draws())
    # one column shows, but no token's corner pixel does
    sliver = (-13.0, 40.0, 12.0, 12.0)
    with pytest.raises(InvalidSampleError, match="padding"):
        process().apply(clip(frame, frame, sliver), draws())
    process(reject_all_padding=False).apply(clip(frame, frame, (-11.5, 40.0, 12.0, 12.0)), draws())


def test_validation_has_jitter_but_neither_brightness_nor_crop_flip():
    drawn = [process(training=False).draw(np.random.default_rng(i), 1, 1) for i in range(30)]
    assert all(d.search[0].changes == () for d in drawn)
    assert len({float(d.search[0].normal[0]) for d in drawn}) == 30
    assert any(d.changes[1] for d in drawn)


def test_training_draws_have_the_stated_shares():
    usual = Processing(Data())
    drawn = [usual.draw(np.random.default_rng(i), 1, 2) for i in range(3000)]
    assert np.mean([d.changes[0] for d in drawn]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([d.changes[1] for d in drawn]) == pytest.approx(0.5, abs=0.04)
    gains = [c.changes[0] for d in drawn for c in d.search]
    assert 0.8 <= min(gains) < 0.81
    assert 1.19 < max(gains) <= 1.2
    assert np.mean([c.changes[1] for d in drawn for c in d.search]) == pytest.approx(0.5, abs=0.04)
