"""What PySOT's training does with data: pairs, strangers, one warp, prepared crops, clips and their copies."""

from __future__ import annotations

import gc
import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from lib.config import SLT, ConfigError, Copies, Part
from lib.data import (
    CROP_STYLES,
    AnnotatedClipSampler,
    AnnotationError,
    DecodeError,
    Frame,
    FrameSet,
    InvalidSampleError,
    Modality,
    Processing,
    Video,
    WholeFrames,
    warp,
)
from lib.data.datasets import build_dataset
from lib.data.sampling import PairSampler
from lib.methods import load_experiment
from lib.paths import load_paths
from lib.registry import UnknownNameError
from lib.track import CropSettings


def toy_video(length: int = 50, absent: tuple[int, ...] = (), name: str = "one") -> Video:
    boxes = np.tile(np.array([10.0, 10.0, 30.0, 20.0]), (length, 1))
    boxes[list(absent)] = 0
    valid = boxes[:, 2] > 0
    return Video(name, boxes, valid, valid, lambda i: Frame(np.zeros((8, 8, 3), np.uint8)), str)


def config(*overrides: str) -> Any:
    return load_experiment("siamrpnpp", "synthetic_small", overrides).config


def test_pairs_lie_near_each_other_and_some_are_of_strangers() -> None:
    sampler = PairSampler(config("DATA.MAX_SAMPLE_INTERVAL=5", "DATA.NEGATIVE_PAIRS=0.25").data)
    rng, video, other = random.Random(1), toy_video(50, absent=(3, 4, 5)), toy_video(7, name="other")
    drawn = [sampler.sample(video, rng, lambda: other) for _ in range(400)]
    strange = [ids for ids in drawn if ids is not None and ids.search_video is not None]
    assert 60 < len(strange) < 140
    assert all(ids.search_video is other and ids.search[0] < 7 for ids in strange)
    present = [i for i in range(50) if i not in (3, 4, 5)]
    for ids in drawn:
        assert ids is not None
        assert ids.template[0] in present
        if ids.search_video is None:
            # Frames without the target do not count.
            assert abs(present.index(ids.search[0]) - present.index(ids.template[0])) <= 5


def test_pairs_show_occluded_targets_too() -> None:
    """PySOT filters by the size of boxes alone."""
    hidden = np.zeros(6, np.bool_)
    video = replace(toy_video(6, absent=(2,)), visible=hidden)
    sampler, rng = PairSampler(config("DATA.NEGATIVE_PAIRS=0.5").data), random.Random(0)
    assert sampler.accepts(video)
    drawn = [sampler.sample(video, rng, lambda: video) for _ in range(100)]
    frames = [number for ids in drawn if ids is not None for number in (*ids.template, *ids.search)]
    assert set(frames) == {0, 1, 3, 4, 5}
    assert not sampler.accepts(toy_video(2, absent=(0, 1)))


def test_data_sets_may_have_an_interval_of_their_own() -> None:
    own = config("DATA.MAX_SAMPLE_INTERVAL=20", "DATA.INTERVAL_BY_DATASET={YOUTUBE_VOS: 2}", "DATA.NEGATIVE_PAIRS=0")
    sampler, rng = PairSampler(own.data), random.Random(0)
    for dataset, most in (("youtube_vos", 2), ("lasot", 20)):
        video = replace(toy_video(100), dataset=dataset)
        drawn = [sampler.sample(video, rng, lambda: toy_video()) for _ in range(300)]
        assert max(abs(ids.search[0] - ids.template[0]) for ids in drawn if ids is not None) == most
    with pytest.raises(UnknownNameError, match="unknown data set key 'YOUTUBE_VSO'; did you mean"):
        PairSampler(config("DATA.INTERVAL_BY_DATASET={YOUTUBE_VSO: 2}").data)
    assert config().data == config("DATA.INTERVAL_BY_DATASET={}").data


def picture(height: int = 300, width: int = 400) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [127 + 100 * np.sin(x / (19 + i)) * np.cos(y / (21 + i)) for i in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def frame_set(image: np.ndarray, box: tuple[float, ...]) -> FrameSet:
    boxes, frame = np.array([box]), Frame(image)
    return FrameSet((frame,), (frame,), boxes, boxes, Modality.RGB, "toy", "video", (0, 0))


def test_one_warp_shows_what_two_of_them_show() -> None:
    """A crop of 511 pixels of the whole frame, then its augmentation."""
    image, box = picture(), (180.0, 120.0, 60.0, 40.0)
    published = load_experiment("siamrpnpp", "siamrpnpp").config.data
    data = replace(published, augment=replace(published.augment, transforms=()))
    whole, prepared = Processing(data), Processing(replace(data, crop_style=Part("pysot_511")))
    style = CROP_STYLES["pysot"]().in_training()
    square = style.region(box, 2 * 511 / 127, 511, image.shape[:2])
    large = warp(image, square, (511, 511), style.border(Frame(image)))  # type: ignore[arg-type]
    side = 127 / np.sqrt((60 + 50) * (40 + 50))
    inside = (255 - 30 * side, 255 - 20 * side, 60 * side, 40 * side)
    draws = whole.draw(np.random.default_rng(5), 1, 1)
    direct = whole.apply(frame_set(image, box), draws)
    twice = prepared.apply(frame_set(large, inside), draws)
    np.testing.assert_allclose(direct.search_boxes, twice.search_boxes, atol=1e-5)
    assert np.abs(direct.search.astype(int) - twice.search).max() <= 4
    assert np.abs(direct.search.astype(int) - twice.search).mean() < 0.7


def test_crops_stay_inside_the_large_square() -> None:
    data = config("DATA.SEARCH.CENTER_JITTER=1000").data
    sample = Processing(data)(frame_set(picture(), (180.0, 120.0, 60.0, 40.0)), np.random.default_rng(1))
    centre = sample.search_boxes[0, :2] + sample.search_boxes[0, 2:] / 2
    # The square is twice as large as the crop and a little more, so that the target is near the crop's border.
    assert (np.abs(centre - 0.5) < 0.75).all()


def test_training_and_tracking_have_one_amount_of_context() -> None:
    box, size_hw = (180.0, 120.0, 60.0, 40.0), (300, 400)
    for override, amount in (("pysot", 0.5), ("{TYPE: pysot, CONTEXT_AMOUNT: 0.3}", 0.3)):
        experiment = config(f"DATA.CROP_STYLE={override}", "DATA.SEARCH={CENTER_JITTER: 0, SCALE_JITTER: 0}")
        side = np.sqrt((60 + amount * 100) * (40 + amount * 100))
        train, settings = Processing(experiment.data), CropSettings.from_config(experiment)
        for region, expected in ((experiment.data.template, side), (experiment.data.search, side * 255 / 127)):
            style, half = settings.style.build(CROP_STYLES), np.full(4, 0.5, np.float32)
            for crop in (
                style.region(box, region.factor, region.size, size_hw),
                train.styles["search"].region(box, region.factor, region.size, size_hw),
                train.styles["search"].training_region(np.float32(box), half, half, region, size_hw),
            ):
                assert crop.sides_wh == pytest.approx((expected, expected), rel=1e-6)
    with pytest.raises(ConfigError, match=r"CONTEXT_AMOUNT must lie in 0\.\.2, not 3"):
        config("DATA.CROP_STYLE={TYPE: pysot, CONTEXT_AMOUNT: 3}")


@pytest.mark.parametrize("size", [127, 255])
def test_prepared_crops_are_read_by_their_json(tmp_path: Path, size: int) -> None:
    table = {"train/a": {"00": {"000000": [10, 10, 70, 50], "000003": [5, 5, 5, 20], "000004": [0, 0, 60, 40]}}}
    (tmp_path / "train.json").write_text(json.dumps(table))
    folder = tmp_path / "crop511/train/a"
    folder.mkdir(parents=True)
    for frame in ("000000", "000004"):
        cv2.imwrite(str(folder / f"{frame}.00.x.jpg"), np.full((511, 511, 3), 90, np.uint8))
    name = f"PYSOT511:{tmp_path / 'train.json'}"
    video = build_dataset(name, SimpleNamespace())[0]  # type: ignore[arg-type]
    assert len(video) == 2
    assert video.read_frame(1).rgb.shape == (511, 511, 3)
    side = 127 / np.sqrt((60 + 50) * (40 + 50))
    np.testing.assert_allclose(video.boxes_xywh[0], [255 - 30 * side, 255 - 20 * side, 60 * side, 40 * side])
    mix = f"DATA.TRAIN.DATASETS_NAME=['{name}']"
    assert config(mix).data.crop_style == Part("pysot_511")
    with pytest.raises(ConfigError, match=r"has crops with a CONTEXT_AMOUNT of 0\.5; leave the key out"):
        config(mix, "DATA.CROP_STYLE={TYPE: pysot, CONTEXT_AMOUNT: 0.3}")
    with pytest.raises(ConfigError, match="and SYNTHETIC_train whole frames; train with one kind"):
        config(f"DATA.TRAIN.DATASETS_NAME=['{name}', SYNTHETIC_train]", "DATA.TRAIN.DATASETS_RATIO=[1, 1]")
    with pytest.raises(ConfigError, match="follows targets through whole frames, not PYSOT511"):
        load_experiment("slt_siamrpnpp", "slt_synthetic", (mix,))
    cv2.imwrite(str(folder / "000004.00.x.jpg"), np.full((300, 300, 3), 90, np.uint8))
    with pytest.raises(DecodeError, match=r"000004\.00\.x\.jpg: a picture of 300 x 300; crops have 511 x 511 pixels"):
        video.read_frame(1)
    (folder / "000000.00.x.jpg").unlink()
    with pytest.raises(AnnotationError, match=r"the crops that it names are not there, such as .*000000\.00\.x\.jpg"):
        build_dataset(name, SimpleNamespace())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "found another form"),
        ("{oops", "not readable JSON"),
        ('{"a": {"00": {"000000": [0, 0, 0, 10]}}}', "no box of positive size"),
        ('{"a": {"00": {"000000": [0, 0, 5]}}}', r"train\.json, a, 00: not {.*} of numbers; .*expected 4, got 3"),
        ('{"a": {"00": {"000000": [0, 0, 5, NaN]}}}', r"train\.json, a, 00: .*\[0, 0, 5, nan\] is no box"),
        ('{"a": {"00": {"000000": [0, 0, 5, 1%s]}}}' % ("0" * 400), r"train\.json, a, 00: not {.*} of numbers"),
    ],
)
def test_a_json_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        build_dataset(f"PYSOT511:{tmp_path / 'train.json'}", SimpleNamespace())  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["sequential", "random", "uniform"])
@pytest.mark.parametrize("length", [1, 5, 30, 200])
def test_clips_begin_with_a_box_and_stay_in_the_video(mode: str, length: int) -> None:
    slt = SLT(frames=8, max_interval=7, interval_prob=0.0 if mode == "sequential" else 1.0, clip_sampler="annotated",
              interval_mode=mode if mode != "sequential" else "random")  # fmt: skip
    sampler, rng = AnnotatedClipSampler(slt), random.Random(4)
    video = toy_video(length, absent=tuple(range(2, min(6, length))))
    for _ in range(40):
        ids = sampler.sample(video, rng, lambda: video)
        assert ids is not None
        assert ids.template == (0,)
        assert len(ids.search) == 8
        assert 1 <= ids.real_length <= 8
        assert all(0 <= i < length for i in ids.search)
        assert list(ids.search) == sorted(ids.search)
        assert set(ids.search[ids.real_length :]) <= {ids.search[ids.real_length - 1]}


def test_a_video_whose_first_frame_has_no_box_gives_no_clip() -> None:
    sampler = AnnotatedClipSampler(SLT(clip_sampler="annotated"))
    assert not sampler.accepts(toy_video(50, absent=(0,)))
    assert sampler.accepts(toy_video(50, absent=(1,)))


def clip_of(real: int, copies: int, mask: bool = False) -> FrameSet:
    frame, box = Frame(picture(120, 160)), np.array([60.0, 40.0, 40.0, 30.0])
    masks = np.zeros((120, 160), dtype=bool)
    masks[40:70, 60:100] = True
    count = real + copies
    boxes = np.tile(box, (count, 1))
    return FrameSet(
        (frame,), (frame,) * count, boxes[:1], boxes, Modality.RGB, "toy", "video", (0,) * (count + 1),
        real_length=real, search_masks=(masks,) * count if mask else None,
    )  # fmt: skip


def test_augmented_copies_make_a_clip_of_a_picture() -> None:
    slt = SLT(copies=Copies(colour=1.0, blur=0.0))
    clip = WholeFrames(slt)(clip_of(1, 5, mask=True), np.random.default_rng(2))
    assert clip.real_length == 6
    assert np.array_equal(clip.search[0].rgb, picture(120, 160))
    assert len({tuple(box) for box in clip.search_boxes.tolist()}) == 6
    assert clip.search_masks is not None
    for box, mask in zip(clip.search_boxes, clip.search_masks, strict=True):
        assert mask is not None
        rows, columns = mask.nonzero()
        assert (box[:2] >= 0).all()
        assert (box[:2] + box[2:] <= [160, 120]).all()
        # The mask is the box, up to the pixels into which some of it is mixed.
        assert abs(columns.min() - box[0]) < 2.5
        assert abs(rows.max() + 1 - box[1] - box[3]) < 2.5


def test_a_clip_with_one_real_frame_is_refused() -> None:
    with pytest.raises(InvalidSampleError, match="has a single frame"):
        WholeFrames(SLT())(clip_of(1, 5), np.random.default_rng(2))


def test_prepared_crops_keep_no_object_per_track_or_box(tmp_path: Path) -> None:
    table = {f"class/{v:04d}": {"00": {f"{i:06d}": [1, 2, 30 + v % 9, 40 + i] for i in range(20)}} for v in range(500)}
    (tmp_path / "train.json").write_text(json.dumps(table))
    (tmp_path / "class" / "0000").mkdir(parents=True)
    (tmp_path / "class" / "0000" / "000000.00.x.jpg").touch()
    before = build_dataset(f"PYSOT511:{tmp_path / 'train.json'}", load_paths())  # imports, caches
    gc.collect()
    count = len(gc.get_objects())
    dataset = build_dataset(f"PYSOT511:{tmp_path / 'train.json'}", load_paths())
    gc.collect()
    assert len(gc.get_objects()) - count < 200
    assert len(pickle.dumps(dataset)) < 100 * 10_000, "bytes per box"
    assert len(dataset) == len(before) == 500
    assert dataset[7].frame_path(19) == str(tmp_path / "class/0007/000019.00.x.jpg")
