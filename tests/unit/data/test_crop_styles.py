"""A crop style from outside: float32, sub-pixel, anisotropic, replicated border; it trains and tracks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lib.data import (
    CROP_STYLES,
    Colours,
    CropRegion,
    CropStyle,
    Frame,
    FrameSet,
    Image,
    Modality,
    Normalise,
    PictureChanges,
    Pixels,
    Processing,
    collate,
    normalise_batch,
    xywh_to_cxcywh,
)
from lib.methods import load_experiment
from lib.objectives import Progress
from tests.support.boxes import cxcywh_to_xywh


@CROP_STYLES.register("toy_warp")
class ToyWarp(CropStyle):
    """`factor` times the box, its sides by themselves, resampled between pixels; the border is replicated."""

    dtype = np.dtype(np.float32)
    geometric_jitter = False

    def place(
        self, box_xywh: tuple[float, float, float, float], factor: float, size: int, size_hw: tuple[int, int]
    ) -> CropRegion:
        x, y, w, h = box_xywh
        width, height, centre = factor * w, factor * h, (x + w / 2, y + h / 2)
        return CropRegion(centre[0] - width / 2, centre[1] - height / 2, width, height, centre, (width, height))

    def resample(self, image: Image, region: CropRegion, size: int, border: Colours | None) -> Pixels:
        per_x, per_y = size / region.width, size / region.height
        # pixel centres: crop pixel u shows the image at left + (u + 0.5) / per_x - 0.5
        matrix = np.array([[per_x, 0, (0.5 - region.left) * per_x - 0.5], [0, per_y, (0.5 - region.top) * per_y - 0.5]])
        mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT
        value = (0.0,) if border is None else tuple(float(c) for c in border)
        return cv2.warpAffine(  # OpenCV drops a single channel, as everybody's style does
            image.astype(np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=mode, borderValue=value
        )


BOX = (41.3, 28.6, 30.5, 14.2)


def experiment(*overrides: str):
    return load_experiment("ostrack", "synthetic_demo", ("DATA.CROP_STYLE=toy_warp", *overrides))


def frame(shift: int = 0) -> Frame:
    """A smooth picture, so that resampling between pixels keeps its values."""
    y, x = np.mgrid[0:90, 0:120].astype(np.float64)
    waves = [127 + 100 * np.sin((x + shift) / (9 + i)) * np.cos(y / (11 + i)) for i in range(3)]
    return Frame(np.stack(waves, axis=2).astype(np.uint8))


def frame_set(box: tuple[float, ...] = BOX) -> FrameSet:
    boxes = np.array([box])
    return FrameSet((frame(),), (frame(2),), boxes, boxes, Modality.RGB, "toy", "video", (0, 1))


def test_it_trains() -> None:
    chosen = experiment()
    process = Processing(chosen.config.data)
    samples = [process(frame_set(), np.random.default_rng(i)) for i in range(2)]
    assert all(s.template.dtype == s.search.dtype == np.float32 for s in samples)
    assert (samples[0].search % 1 != 0).any()
    normalise = Normalise(chosen.config.data.mean, chosen.config.data.std)
    batch = normalise_batch(collate(samples), normalise)
    network = chosen.method.build_network(chosen.config, True)
    losses = chosen.method.build_objective(chosen.config, network)(network, batch, Progress(1, 1))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_labels_follow_the_anisotropic_rectangle() -> None:
    data = experiment().config.data
    still = replace(data.search, center_jitter=0.0, scale_jitter=0.0)
    sample = Processing(replace(data, search=still), training=False)(frame_set(), np.random.default_rng(3))
    np.testing.assert_allclose(sample.search_boxes[0, 2:], 1 / still.factor, rtol=1e-5)


def test_the_border_is_replicated_and_masks_know_it() -> None:
    style, size = ToyWarp(), 32
    region = style.region((-20.0, 30.0, 40.0, 20.0), 2.0, size, (90, 120))
    crop = style.crop(frame().rgb, region, size)
    mask = style.padding_mask(region, (90, 120), size)
    assert crop.min() > 0
    assert mask[:, 0].all()
    assert not mask[:, -1].any()
    np.testing.assert_allclose(crop[:, 0], crop[:, 1], atol=1e-3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_whole_pixels_are_shown_as_they_are(mirrored: bool) -> None:
    image, style = frame().rgb, ToyWarp()
    shown = image[:, ::-1] if mirrored else image
    region = style.region((20.0, 10.0, 32.0, 16.0), 1.0, 32, (90, 120))
    crop = style.crop(image, replace(region, height=32, sides_wh=(32, 32)), 32, PictureChanges(mirrored))
    np.testing.assert_allclose(crop, shown[10:42, 20:52], atol=1e-3)


def test_it_tracks_and_boxes_come_back_from_the_crop() -> None:
    chosen = experiment()
    network = chosen.method.build_network(chosen.config, False)
    tracker = chosen.build_tracker(network)
    state = tracker.init([frame()], torch.tensor([BOX], dtype=torch.float64))
    region = tracker.crop_search(state, [frame(2)])
    assert region.crops.dtype == torch.float32
    assert region.sides.tolist() == [[pytest.approx(BOX[2] * 4), pytest.approx(BOX[3] * 4)]]
    truth = torch.tensor([[45.0, 30.0, 28.0, 15.0]], dtype=torch.float64)
    inside = xywh_to_cxcywh(region.to_crop(truth))
    torch.testing.assert_close(tracker.crop_style.to_image(inside, region.centres, region.sides), truth)
    torch.testing.assert_close(cxcywh_to_xywh(inside), region.to_crop(truth))
    _, prediction = tracker.step(state, [frame(2)])
    assert torch.isfinite(prediction.boxes_xywh).all()
