"""Samples of pseudo labels, which prefer good videos and good frames, and successive frames of annotated ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from lib.data import FRAME_SAMPLERS, Qualities, Video
from tests.unit.data.tiny import TinyDataset, no_other_video, sampler, section


def qualities(frames: int, picked: float = 0.9, corner: float = 0.0, **arrays) -> Qualities:
    zeros, window = np.zeros(frames), np.zeros((frames, 2), dtype=np.int64)
    return Qualities(
        picked, corner, **({"short": zeros, "long": zeros, "window": window, "corner_score": zeros} | arrays)
    )


@dataclass
class RatedVideos(TinyDataset):
    """Videos with qualities; `picked` has one value per video."""

    picked: list[float] = field(default_factory=lambda: [0.9] * 3)
    corner: float = 0.0

    def qualities(self, index: int) -> Qualities:
        return qualities(self.frames, self.picked[index], self.corner)

    def __getitem__(self, index: int) -> Video:
        return replace(super().__getitem__(index), qualities=self.qualities(index))


def rated(picked: list[float], **options) -> RatedVideos:
    return RatedVideos("RATED", sequences=len(picked), picked=picked, **options)


def test_frames_follow_one_another_from_the_best_of_some():
    short = np.zeros(40)
    short[17] = 1.0
    chooser = FRAME_SAMPLERS["quality"](section(1, 2))
    video = replace(TinyDataset(frames=40)[0], qualities=qualities(40, picked=0.05, short=short))
    drawn = [chooser.sample(video, random.Random(seed), no_other_video) for seed in range(200)]
    assert all((*ids.template, *ids.search) == tuple(range(ids.template[0], ids.template[0] + 3)) for ids in drawn)
    # 60 draws among 38 frames: all but one in five samples begin with the frame that stands out
    assert np.mean([ids.template == (17,) for ids in drawn]) == pytest.approx(1 - (37 / 38) ** 60, abs=0.08)


def test_the_last_frames_are_left_to_the_search_regions():
    chooser = FRAME_SAMPLERS["quality"](section(1, 2))
    video = replace(TinyDataset(frames=4)[0], qualities=qualities(4))
    drawn = {chooser.sample(video, random.Random(seed), no_other_video).search for seed in range(60)}
    assert drawn == {(1, 2), (2, 3)}


def test_the_short_term_quality_does_without_the_window():
    window = np.zeros((30, 2), dtype=np.int64)
    window[5] = 0, 29
    corner = np.zeros(30)
    corner[9] = 0.2
    video = replace(TinyDataset()[0], qualities=qualities(30, picked=0.01, window=window, corner_score=corner))
    best = {
        term: FRAME_SAMPLERS["quality"](section(frame_quality=term)).sample(video, random.Random(0), no_other_video)
        for term in ("long", "short")
    }
    assert (best["long"].template, best["short"].template) == ((5,), (9,))


def test_a_bad_video_gives_way_to_a_good_one_near_it():
    dataset = rated([0.9] + [0.1] * 70)
    chooser = FRAME_SAMPLERS["quality"](section())
    near = [chooser.choose_video(dataset, 20, random.Random(seed)) for seed in range(50)]
    assert np.mean(np.array(near) == 0) > 0.5  # 60 draws among 51
    far = [chooser.choose_video(dataset, 50, random.Random(seed)) for seed in range(50)]
    assert set(far) <= set(range(20, 70))
    assert [chooser.choose_video(dataset, 0, random.Random(seed)) for seed in range(20)] == [0] * 20


def test_many_boxes_at_the_margin_make_a_bad_video():
    chooser = FRAME_SAMPLERS["quality"](section())
    calm, edgy = rated([0.9] * 8, corner=0.24), rated([0.9] * 8, corner=0.25)
    assert all(chooser.choose_video(calm, 3, random.Random(seed)) == 3 for seed in range(20))
    assert {chooser.choose_video(edgy, 3, random.Random(seed)) for seed in range(99)} == set(range(7))


def test_the_threshold_of_videos_is_a_key():
    dataset = rated([0.9, 0.5, 0.5, 0.5])
    strict = FRAME_SAMPLERS["quality"](section(video_quality=0.8))
    assert [strict.choose_video(dataset, 2, random.Random(seed)) for seed in range(20)] == [0] * 20
    assert FRAME_SAMPLERS["quality"](section()).choose_video(dataset, 2, random.Random(0)) == 2


def test_samples_are_a_function_of_seed_epoch_and_index():
    dataset = rated([0.9, 0.2, 0.6])
    first, second = (sampler(dataset, data=section(1, 2), mode="quality") for _ in range(2))
    second(4, 9)
    a, b = first(2, 5), second(2, 5)
    assert (a.sequence, a.frame_ids) == (b.sequence, b.frame_ids)
    assert a.search.shape[0] == 2
    assert {first(1, i).sequence for i in range(60)} >= {"seq0", "seq2"}


def test_annotated_videos_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"none of its 3 sequences has 3 frames of pseudo labels .*LASHER_pseudo"):
        sampler(TinyDataset(), data=section(1, 2), mode="quality")


def test_window_frames():
    chooser = FRAME_SAMPLERS["window"](section(1, 2, interval=5))
    video = TinyDataset(frames=60)[0]
    drawn = [chooser.sample(video, random.Random(seed), no_other_video) for seed in range(600)]
    first = [ids.search[1] - ids.template[0] for ids in drawn]
    second = [ids.search[0] - ids.search[1] for ids in drawn]
    assert (min(first), max(first)) == (-5, 4)
    assert (min(second), max(second)) == (0, 4)
    assert {ids.template[0] for ids in drawn} == set(range(60))


def test_window_frames_need_a_pixel():
    video = TinyDataset(frames=10)[0]
    video.boxes_xywh[3:, 2] = 0.5
    chooser = FRAME_SAMPLERS["window"](section(1, 1))
    drawn = [chooser.sample(video, random.Random(seed), no_other_video) for seed in range(200)]
    assert None in drawn
    assert {i for ids in drawn if ids for i in (*ids.template, *ids.search)} == {0, 1, 2}
    video.boxes_xywh[:, 2] = np.nan
    assert not chooser.accepts(video)


def test_an_image_serves_as_a_window():
    assert sampler(TinyDataset(is_video=False), data=section(1, 2), mode="window")(1, 0).frame_ids == (0, 0, 0)
