"""Clips of whole frames: which frames, what becomes of them, how they reach the main process."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from lib.config import SLT
from lib.data import (
    ClipBatch,
    Frame,
    FrameSet,
    Levels,
    Modality,
    TrackingSampler,
    VisibleClipSampler,
    WholeFrames,
    build_clip_loader,
    pack_clip,
    unpack_clip,
)
from tests.support.pictures import merged
from tests.unit.data.tiny import TinyDataset, no_other_video

SECTION = SLT(frames=8, max_gap=20, max_interval=5, interval_prob=0.5)
LONG = TinyDataset(frames=120, visible_share=0.7)


def sampler(dataset: TinyDataset = LONG, slt: SLT = SECTION, **keys: float) -> TrackingSampler[FrameSet]:
    slt = replace(slt, **keys)
    return TrackingSampler((dataset,), [1.0], VisibleClipSampler(slt), WholeFrames(slt), seed=1)


def samples(slt: SLT, dataset: TinyDataset = LONG, count: int = 200):
    video, clip_sampler = dataset[0], VisibleClipSampler(slt)
    assert clip_sampler.accepts(video)
    found = [clip_sampler.sample(video, random.Random(seed), no_other_video) for seed in range(count)]
    return video, [p for p in found if p is not None]


def test_frame_by_frame_takes_every_visible_frame_from_somewhere_near_the_template():
    video, found = samples(replace(SECTION, interval_prob=0.0))
    seen = np.flatnonzero(video.visible)
    assert len(found) == 200
    for ids in found:
        start = int(np.searchsorted(seen, ids.search[0]))
        expected = seen[start : start + 8].tolist()
        assert list(ids.search) == expected + expected[-1:] * (8 - len(expected))
        assert ids.template[0] <= ids.search[0] < ids.template[0] + 20
    assert len({p.search[0] for p in found}) > 30


def test_random_steps_are_no_longer_than_the_interval():
    _, found = samples(replace(SECTION, interval_prob=1.0), TinyDataset(frames=120))
    steps = np.concatenate([np.diff(p.search) for p in found])
    assert steps.min() == 0, "a frame may be shown twice"
    assert steps.max() == 5
    assert all(len(p.search) == 8 and p.template[0] <= p.search[0] < p.template[0] + 20 for p in found)
    assert 70 < max(p.template[0] for p in found) < 120 - 7 * 5, "seven steps of five frames are left behind it"


def test_random_steps_that_leave_the_video_are_made_up_by_frames_between():
    _, found = samples(replace(SECTION, interval_prob=1.0, max_interval=10), TinyDataset(frames=40))
    assert all(p.real_length == 8 and list(p.search) == sorted(p.search) for p in found)
    assert any(p.search[-1] == 39 for p in found)


def test_the_target_is_visible_throughout():
    video, found = samples(SECTION, TinyDataset(frames=120, visible_share=0.4))
    assert all(video.visible[[*p.template, *p.search]].all() for p in found)
    assert all(list(p.search) == sorted(p.search) for p in found)


def test_a_video_that_ends_too_soon_ends_in_copies():
    visible = np.zeros(40, dtype=bool)
    visible[:24] = True
    video = replace(TinyDataset(frames=40)[0], visible=visible)
    clip_sampler = VisibleClipSampler(replace(SECTION, interval_prob=0.0, max_gap=40))
    ids = next(
        p
        for seed in range(500)
        if (p := clip_sampler.sample(video, random.Random(seed), no_other_video)) and p.search[0] > 17
    )
    assert ids.search[-2:] == (23, 23)
    assert ids.real_length is not None
    assert ids.search[ids.real_length - 1 :] == (23,) * (9 - ids.real_length)
    assert ids.search[ids.real_length - 2] < 23


def test_time_runs_backwards_as_often_as_asked():
    _, found = samples(replace(SECTION, reverse=0.5))
    backwards = [p for p in found if p.search[0] > p.search[-1]]
    assert 60 < len(backwards) < 140
    assert all(list(p.search) == sorted(p.search, reverse=True) and p.template[0] >= p.search[0] for p in backwards)


def test_without_a_gap_the_clip_starts_on_the_template():
    _, found = samples(replace(SECTION, max_gap=-1))
    assert all(p.template[0] == p.search[0] for p in found)


def test_short_videos_are_not_taken_and_images_are_clips_of_themselves():
    assert not VisibleClipSampler(SECTION).accepts(TinyDataset(frames=18)[0])
    with pytest.raises(ValueError, match="more than 18 frames with a visible target"):
        sampler(TinyDataset(frames=10))
    assert sampler(TinyDataset(is_video=False))(1, 0).frame_ids == (0,) * 9


def test_a_mirrored_clip_shows_what_its_boxes_say():
    plain, mirrored = sampler()(1, 3), sampler(mirror=1.0)(1, 3)
    assert mirrored.frame_ids == plain.frame_ids
    for frames, boxes, whole, old in (
        (mirrored.template, mirrored.template_boxes, plain.template, plain.template_boxes),
        (mirrored.search, mirrored.search_boxes, plain.search, plain.search_boxes),
    ):
        for frame, box, before, at in zip(frames, boxes, whole, old, strict=True):
            assert np.array_equal(frame.rgb[:, ::-1], before.rgb)
            x, y, w, h = at
            assert box.tolist() == [frame.size_hw[1] - 1 - x - w, y, w, h]


def test_packing_gives_back_every_kind_of_frame_and_stores_repeated_ones_once():
    rng = np.random.default_rng(0)
    picture = lambda *shape: rng.integers(0, 256, shape, dtype=np.uint8)  # noqa: E731
    frames = [
        Frame(picture(5, 7, 3)),
        Frame(picture(6, 4, 3), picture(6, 4, 3)),
        Frame(picture(3, 3, 3), Levels(picture(3, 3), picture(256, 3))),
    ]
    boxes = np.ones((5, 4))
    clip = FrameSet(
        (frames[0],),
        (frames[0], frames[1], frames[2], frames[2]),
        boxes[:1],
        boxes[1:],
        Modality.RGB,
        "a",
        "b",
        (0,) * 5,
    )
    packed = pack_clip(clip)
    again = unpack_clip(packed)
    assert packed.pixels.numel() == 105 + 144 + 27 + 9 + 768
    assert again.name == clip.name
    for one, other in zip((*clip.template, *clip.search), (*again.template, *again.search), strict=True):
        assert np.array_equal(merged(one), merged(other))
    assert again.search[2].rgb is not None
    assert isinstance(again.search[2].second, Levels)
    assert np.shares_memory(again.search[2].rgb, again.search[3].rgb)


def contents(batch: ClipBatch) -> list[bytes]:
    return [b"".join(f.rgb.tobytes() for f in (*c.template, *c.search)) for c in batch.clips]


def test_the_same_clips_for_any_number_of_workers_and_from_any_position():
    one = list(build_clip_loader(sampler(), 7, 2).epoch(3))
    assert [len(b) for b in one] == [2, 2, 2]
    loader = build_clip_loader(sampler(), 7, 2, workers=2)
    assert len(loader) == 3
    for start in (0, 1):
        found = list(loader.epoch(3, start))
        assert [b.names for b in found] == [b.names for b in one[start:]]
        assert [contents(b) for b in found] == [contents(b) for b in one[start:]]


def test_processes_share_the_clips_of_a_batch():
    alone = [name for b in build_clip_loader(sampler(), 8, 4).epoch(1) for name in b.names]
    ranks = [[b.names for b in build_clip_loader(sampler(), 8, 2, rank=r, world_size=2).epoch(1)] for r in (0, 1)]
    pairs = [zip(first, second, strict=True) for first, second in zip(*ranks, strict=True)]
    assert [name for batch in pairs for pair in batch for name in pair] == alone
