"""Augmentations as a list of registered transforms, and masks, which follow every one that moves pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lib.config import Augment, ConfigError, Data, Part, Region
from lib.data import (
    AUGMENTATIONS,
    FRAME_SAMPLERS,
    Augmentation,
    CropDraw,
    CropPlan,
    Draws,
    Frame,
    FrameSet,
    Modality,
    Normalise,
    Processing,
    TrackingSampler,
    Video,
    build_loader,
    plan_crop,
)
from lib.methods import load_experiment
from tests.unit.data.tiny import HEIGHT, WIDTH, TinyDataset, section

SIZES: dict[str, Any] = {"template": Region(32, 2.0), "search": Region(64, 4.0, 3.0, 0.25)}


@AUGMENTATIONS.register("toy_negative")
class ToyNegative(Augmentation):
    """A search region becomes its negative: an affine change of colours that the device applies."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def draw(self, rng: np.random.Generator) -> bool:
        return rng.random() < self.probability

    def apply(self, plan: CropPlan, numbers: bool) -> None:
        if numbers and plan.kind == "search":
            plan.recolour(np.concatenate([-np.eye(3), np.full((3, 1), 255.0)], axis=1))


def frames(masks: bool = False, box: tuple[float, ...] = (50.0, 40.0, 20.0, 12.0)) -> FrameSet:
    """A bright target on a dark ground, the same in both frames."""
    picture = np.random.default_rng(0).integers(0, 60, (90, 120, 3), dtype=np.uint8)
    x, y, w, h = (round(v) for v in box)
    mask = np.zeros((90, 120), dtype=bool)
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = True
    picture[mask] = 250
    both = (mask,) if masks else None
    frame, boxes = (Frame(picture),), np.array([box])
    return FrameSet(frame, frame, boxes, boxes, Modality.RGB, "d", "s", (0, 1), template_masks=both, search_masks=both)


def test_the_usual_transforms_draw_in_the_published_order() -> None:
    """Grey, mirror; templates: jitter, then brightness and flip; search frames alike."""
    rng, by_hand = (np.random.default_rng(5) for _ in range(2))
    drawn = Processing(Data()).draw(rng, 1, 2)
    assert drawn.changes == (by_hand.random() < 0.05, by_hand.random() < 0.5)
    for kind in (drawn.template, drawn.search):
        jitters = [(by_hand.standard_normal(2), by_hand.random(2)) for _ in kind]
        for crop, (normal, uniform) in zip(kind, jitters, strict=True):
            assert crop.normal.tolist() == normal.astype(np.float32).tolist()
            assert crop.uniform.tolist() == uniform.astype(np.float32).tolist()
            assert crop.changes == (1 - 0.2 + 2 * 0.2 * by_hand.random(), by_hand.random() < 0.5)


def test_a_transform_from_outside_changes_no_other_number() -> None:
    plain = Augment()
    more = replace(plain, transforms=(Part("toy_negative", {"probability": 1.0}),))
    one, other = (Processing(Data(augment=a, **SIZES)) for a in (plain, more))
    first, second = (p.draw(np.random.default_rng(3), 1, 1) for p in (one, other))
    assert second.changes == first.changes
    assert second.template[0].changes == (*first.template[0].changes, True)
    still = CropDraw(np.zeros(2, dtype=np.float32), np.full(2, 0.5, dtype=np.float32), (1.0, False, True))
    sample = other.apply(frames(), Draws((False, False), (still,), (still,)))
    normalise = Normalise((0, 0, 0), (1, 1, 1))
    found = normalise(torch.from_numpy(sample.search), torch.from_numpy(sample.search_colour))
    torch.testing.assert_close(found, 1 - torch.from_numpy(sample.search) / 255)
    assert np.array_equal(sample.template_colour, [np.eye(3, 4)])


def test_transforms_are_chosen_in_yaml() -> None:
    key = "DATA.AUGMENT.TRANSFORMS"
    chosen = load_experiment("ostrack", "synthetic_demo", (f"{key}=[{{TYPE: saturation, SPREAD: 0.3}}]",))
    assert Processing(chosen.config.data).augmentations[-1].spread == 0.3
    for wrong, message in (
        ("[{TYPE: saturatoin}]", "did you mean 'saturation'"),
        ("[{TYPE: saturation, SPRED: 1}]", "did you mean 'SPREAD'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_experiment("ostrack", "synthetic_demo", (f"{key}={wrong}",))


def crop_of(transform: Augmentation, numbers: Any, crop: np.ndarray) -> np.ndarray:
    """A crop [S, S, 3] after one transform, the change of colours included."""
    plan = plan_crop(Frame(crop), "search", [transform], (), (numbers,))
    pixels = torch.from_numpy(np.ascontiguousarray(plan.finish(crop).transpose(2, 0, 1)))
    return Normalise((0, 0, 0), (1, 1, 1))(pixels, torch.from_numpy(plan.colour)).mul(255).numpy().transpose(1, 2, 0)


def test_colour_and_blur_transforms_do_what_they_say() -> None:
    crop = np.random.default_rng(0).integers(40, 200, (24, 24, 3), dtype=np.uint8)
    grey = (crop @ np.array([0.299, 0.587, 0.114]))[..., None]
    np.testing.assert_allclose(crop_of(AUGMENTATIONS["saturation"](0.2), 0.0, crop), grey.repeat(3, 2), atol=0.01)
    flat = crop_of(AUGMENTATIONS["contrast"](0.2), 0.0, crop)
    np.testing.assert_allclose(flat, np.full_like(flat, grey.mean()), atol=0.6)
    for name, numbers in (("blur", (True, 1.0)), ("motion_blur", (True, 7, 0, 48))):
        blurred = crop_of(AUGMENTATIONS[name](1.0), numbers, crop)
        assert blurred.std() < 0.7 * crop.std(), name
        assert blurred.mean() == pytest.approx(crop.mean(), abs=4), name
        untouched = crop_of(AUGMENTATIONS[name](1.0), (False, *numbers[1:]), crop)
        np.testing.assert_allclose(untouched, crop, atol=0.01)
    line = np.zeros((15, 15, 3), dtype=np.uint8)
    line[7, 7] = 240
    assert np.count_nonzero(crop_of(AUGMENTATIONS["motion_blur"](1.0), (True, 5, 0, 4), line)[..., 0]) == 5


def test_colour_jitter_clips_after_every_change_and_draws_their_order() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    jitter = AUGMENTATIONS["colour_jitter"](0.2, 0.2, 0.2)
    bright = np.clip(crop * 1.2, 0, 255)
    mean = (bright @ np.array([0.299, 0.587, 0.114])).mean()
    contrast = np.clip(0.8 * bright + 0.2 * mean, 0, 255)
    grey = (contrast @ np.array([0.299, 0.587, 0.114]))[..., None]
    expected = np.clip(1.1 * contrast - 0.1 * grey, 0, 255)
    np.testing.assert_allclose(crop_of(jitter, ((0, 1, 2), (1.2, 0.8, 1.1)), crop), expected, atol=2)
    other = crop_of(jitter, ((2, 1, 0), (1.2, 0.8, 1.1)), crop)
    assert np.abs(other - expected).max() > 10
    numbers = [jitter.draw(np.random.default_rng(i)) for i in range(40)]
    assert len({order for order, _ in numbers}) == 6
    assert all(0.8 <= factor <= 1.2 for _, factors in numbers for factor in factors)


def test_filters_choose_crops_and_pictures() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    blur = AUGMENTATIONS["blur"](1.0, kinds=("template",), pictures=("aux",))
    template, search = (plan_crop(Frame(crop), kind, [blur], (), ((True, 1.0),)) for kind in ("template", "search"))
    assert np.array_equal(template.finish(crop, 0), crop)
    assert template.finish(crop, 1).std() < 0.7 * crop.std()
    assert np.array_equal(search.finish(crop, 1), crop)
    assert not template.alike
    assert search.alike


def test_pictures_of_a_doubled_frame_can_be_changed_apart() -> None:
    """One entry of TRANSFORMS per picture gives each of them numbers of its own, also where both are one object."""
    parts = tuple(Part("colour_jitter", {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "pictures": (p,)})
                  for p in ("rgb", "aux"))  # fmt: skip
    plain = frames().search[0]
    doubled = replace(frames(), template=(Frame(plain.rgb, plain.rgb),), search=(Frame(plain.rgb, plain.rgb),))
    process = Processing(Data(augment=Augment(grey=0, transforms=parts), **SIZES))
    crops = process(doubled, np.random.default_rng(1)).search[0]
    assert not np.array_equal(crops[:3], crops[3:])


@pytest.mark.parametrize("style", ["area", "context", "affine"])
@pytest.mark.parametrize("box", [(50.0, 40.0, 20.0, 12.0), (-6.0, 60.0, 30.0, 40.0)])
@pytest.mark.parametrize(("mirrored", "flipped"), [(False, False), (True, False), (False, True), (True, True)])
def test_masks_follow_the_picture(style: str, box: tuple[float, ...], mirrored: bool, flipped: bool) -> None:
    """The target is bright and all else is dark, so thresholding the crop gives its mask."""
    process = Processing(Data(crop_style=Part(style), masks=True, reject_all_padding=False, **SIZES))
    jitter = np.array([0.4, -0.3], dtype=np.float32), np.array([0.1, 0.9], dtype=np.float32)
    draw = CropDraw(*jitter, (1.0, flipped))
    sample = process.apply(frames(masks=True, box=box), Draws((False, mirrored), (draw,), (draw,)))
    for crops, masks in (
        (sample.template, sample.extras["template_masks"]),
        (sample.search, sample.extras["search_masks"]),
    ):
        assert masks.dtype == np.uint8
        assert 0 < (masks > 127).mean() < 1
        assert ((crops[:, 0] > 150) == (masks > 127)).mean() > 0.98
    assert sample.extras["has_masks"]


def test_masks_are_carried_only_where_they_are_asked_for_and_zero_where_there_are_none() -> None:
    asked, not_asked = (Processing(Data(masks=m, **SIZES)) for m in (True, False))
    rng = np.random.default_rng
    assert not_asked(frames(masks=True), rng(0)).extras == {}
    without = asked(frames(), rng(0)).extras
    assert not without["has_masks"]
    assert not without["search_masks"].any()


class Masked(TinyDataset):
    """Every second video has masks, and of these every frame but those whose number three divides."""

    def __getitem__(self, index: int) -> Video:
        return replace(super().__getitem__(index), read_mask=box_mask if index % 2 else None)


def box_mask(index: int) -> np.ndarray | None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[20:32, 30:46] = True
    return mask if index % 3 else None


def test_masks_come_from_the_video_to_the_batch() -> None:
    data = section(masks=True)
    sampler = TrackingSampler(
        [Masked()], [1.0], FRAME_SAMPLERS["causal"](data), Processing(data), seed=1, masks=data.masks
    )
    batch = next(build_loader(sampler, 24, 24).epoch(1))
    assert batch.extras["search_masks"].shape == (24, 1, 64, 64)
    videos, numbers = zip(*(n.split("/seq")[1].split(":") for n in batch.names), strict=True)
    expected = [int(v) % 2 == 1 and int(n.split(",")[1]) % 3 > 0 for v, n in zip(videos, numbers, strict=True)]
    assert batch.extras["search_masks"].flatten(1).any(dim=1).tolist() == expected
    assert batch.extras["has_masks"].tolist() == [int(v) % 2 == 1 for v in videos]
