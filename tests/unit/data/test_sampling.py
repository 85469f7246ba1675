"""Sampling as a pure function of seed, epoch and index."""

import dataclasses
import logging
import random

import numpy as np
import pytest
import torch

from lib.data import (
    FRAME_SAMPLERS,
    BrokenFiles,
    BrokenReport,
    FrameIds,
    TooManyBadSamplesError,
    build_loader,
    random_streams,
)
from lib.registry import UnknownNameError
from tests.unit.data.tiny import TinyDataset, no_other_video, sampler, section


def same(a, b) -> bool:
    return (
        np.array_equal(a.template, b.template)
        and np.array_equal(a.search, b.search)
        and np.array_equal(a.search_boxes, b.search_boxes)
        and np.array_equal(a.search_colour, b.search_colour)
        and (a.sequence, a.frame_ids) == (b.sequence, b.frame_ids)
    )


def draw(source, count):
    return [source(1, i) for i in range(count)]


def test_pure_function_of_seed_epoch_index():
    first, second = sampler(), sampler()
    second(9, 123)
    random.seed(0)
    np.random.seed(0)
    assert same(first(2, 5), second(2, 5))
    others = [first(2, 6), first(3, 5), sampler(seed=2)(2, 5)]
    assert not any(same(first(2, 5), o) for o in others)


def test_streams_are_the_same_on_every_platform():
    frames, augmenting = random_streams(42, 1, 7)
    assert (frames.random(), augmenting.random()) == pytest.approx((0.5257559104424357, 0.3699635655089809), abs=1e-15)


def test_global_random_state_is_left_alone():
    random.seed(3)
    state, np_state = random.getstate(), np.random.get_state()[1].copy()
    sampler()(1, 1)
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], np_state)


def test_ratios_decide_how_often_a_data_set_is_drawn():
    a, b = TinyDataset("A"), TinyDataset("B", is_video=False)
    names = [sampler(a, b, ratios=[3, 1])(1, i).dataset for i in range(200)]
    assert names.count("A") / 200 == pytest.approx(0.75, abs=0.08)


def test_causal_frames():
    frame_sampler = FRAME_SAMPLERS["causal"](section(2, 2, interval=8))
    video = TinyDataset(frames=60, visible_share=0.6)[0]
    for seed in range(100):
        ids = frame_sampler.sample(video, random.Random(seed), no_other_video)
        base, earlier = ids.template
        assert earlier < base < min(ids.search)
        assert all(video.visible[i] for i in (*ids.template, *ids.search))


def test_interval_frames_lie_on_both_sides():
    frame_sampler = FRAME_SAMPLERS["interval"](section(2, 2, interval=8))
    video = TinyDataset(frames=60, visible_share=0.6)[0]
    sides = set()
    for seed in range(100):
        ids = frame_sampler.sample(video, random.Random(seed), no_other_video)
        base, others = ids.template[0], (*ids.template[1:], *ids.search)
        assert all(abs(i - base) <= 8 for i in others)
        assert all(video.visible[i] for i in (base, *others))
        sides |= {(i > base) - (i < base) for i in others}
    assert sides == {-1, 0, 1}


def test_order_frames_run_forward_or_backward_with_the_templates_first():
    frame_sampler = FRAME_SAMPLERS["order"](section(2, 6, interval=8))
    video = TinyDataset(frames=60, visible_share=0.6)[0]
    backward, repeated = [], 0
    for seed in range(400):
        ids = frame_sampler.sample(video, random.Random(seed), no_other_video)
        frames = (*ids.template, *ids.search)
        assert (len(ids.template), len(ids.search)) == (2, 6)
        assert all(video.visible[i] for i in frames)
        assert max(frames) - min(frames) < 16
        assert list(frames) in (sorted(frames), sorted(frames, reverse=True))
        repeated += len(set(frames)) < len(frames)
        if frames[0] != frames[-1]:
            backward.append(frames[0] > frames[-1])
    assert np.mean(backward) == pytest.approx(0.5, abs=0.08)
    assert repeated > 0


def test_the_interval_grows_where_nothing_is_near():
    video = dataclasses.replace(TinyDataset(frames=60)[0], visible=np.arange(60) % 10 == 0)
    frame_sampler = FRAME_SAMPLERS["causal"](section(1, 2, interval=1))
    for seed in range(20):
        ids = frame_sampler.sample(video, random.Random(seed), no_other_video)
        assert ids is not None
        assert min(ids.search) - ids.template[0] >= 10


def test_order_frames_repeat_an_image():
    images = sampler(TinyDataset(is_video=False), data=section(2, 6), mode="order")
    sample = images(1, 0)
    assert sample.frame_ids == (0,) * 8
    assert (len(sample.template), len(sample.search)) == (2, 6)


def test_an_image_serves_as_template_and_search():
    images = sampler(TinyDataset(is_video=False))
    assert images(1, 0).frame_ids == (0, 0)


def test_unknown_mode_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="causal"):
        FRAME_SAMPLERS["causl"]


def test_a_broken_file_is_reported_once_and_left_out(caplog):
    source = sampler(TinyDataset(broken=frozenset({7})), max_bad_samples=0.5)
    with caplog.at_level(logging.WARNING, logger="lib.data"):
        samples = [source(1, i) for i in range(150)]
    assert all(7 not in s.frame_ids for s in samples)
    messages = [r.message for r in caplog.records]
    assert source.broken.failures > len(messages)
    assert sorted(messages) == [f"left out: tiny/{i}/7.jpg: cut short" for i in range(3)]


def test_unreadable_annotations_are_counted_too():
    source = sampler(TinyDataset(bad_annotations=frozenset({1})), max_bad_samples=0.9)
    assert {source(1, i).sequence for i in range(40)} == {"seq0", "seq2"}
    assert "tiny/1/groundtruth.txt: no annotation row" in source.broken.messages


def test_too_many_broken_files_end_the_training():
    source = sampler(TinyDataset(broken=frozenset(range(4, 30, 4))), max_bad_samples=0.05)
    with pytest.raises(TooManyBadSamplesError, match=r"more than TRAIN.MAX_BAD_SAMPLES 0.05 allows: tiny/\d/\d+.jpg"):
        draw(source, 1000)


def test_everything_broken_ends_even_where_all_is_tolerated():
    source = sampler(TinyDataset("GONE", broken=frozenset(range(30))), max_bad_samples=1.0)
    with pytest.raises(TooManyBadSamplesError, match=r"GONE gave no sample.*jpg"):
        source(1, 0)


def test_a_data_set_whose_crops_are_always_invalid_is_named():
    lost = TinyDataset("LOST", box=(5000.0, 0.0, 10.0, 10.0))
    source = sampler(TinyDataset("GOOD"), lost)
    with pytest.raises(TooManyBadSamplesError, match="LOST"):
        draw(source, 2000)


def test_a_defect_of_the_code_is_not_swallowed():
    source = sampler()
    source.make_sample = lambda clip, rng: 1 / 0
    with pytest.raises(ZeroDivisionError):
        source(1, 0)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (TinyDataset("SHORT", frames=19), "SHORT: none of its 3 sequences has at least 20 frames"),
        (TinyDataset("HIDDEN", visible_share=0.0), "HIDDEN: none"),
        (TinyDataset("EMPTY", sequences=0), "EMPTY: none of its 0"),
        (TinyDataset("TORN", bad_annotations=frozenset(range(3))), "TORN has no usable.*no annotation row"),
    ],
)
def test_useless_data_sets_are_errors_at_once(dataset, message):
    with pytest.raises(ValueError, match=message):
        sampler(TinyDataset(), dataset)


def test_useless_data_set_of_weight_zero_is_allowed():
    source = sampler(TinyDataset(), TinyDataset("SHORT", frames=3), ratios=[1, 0])
    assert {source(1, i).dataset for i in range(8)} == {"TINY"}


@pytest.mark.parametrize("ratios", [[1], [1, -1], [0, 0]])
def test_wrong_ratios(ratios):
    with pytest.raises(ValueError, match="ratios"):
        sampler(TinyDataset(), TinyDataset(), ratios=ratios)


def test_reports_add_up():
    worker, main = BrokenFiles(quiet=True), BrokenFiles(quiet=True)
    for i in range(3):
        worker.count_read()
        worker.count_unreadable(OSError(f"file {i % 2}"))
    main.merge(worker.take_report())
    worker.count_read()
    main.merge(worker.take_report())
    assert worker.take_report() == BrokenReport()
    assert (main.attempts, main.failures, list(main.messages)) == (7, 3, ["file 0", "file 1"])
    main.count_unreadable(FileNotFoundError(2, "No such file or directory", "a.jpg"))
    assert list(main.messages)[-1] == "a.jpg: no such file or directory"


@FRAME_SAMPLERS.register("toy_negative_pairs")
class NegativePairs:
    """With a probability of 0.4 the search frame is of another video (as PySOT draws its negative pairs)."""

    requirement = "a frame"

    def __init__(self, data):
        self.data = data

    def accepts(self, video):
        return len(video) > 0

    def sample(self, video, rng, draw_video):
        template = (rng.randrange(len(video)),)
        if rng.random() < 0.4:
            other = draw_video()
            return FrameIds(template, (rng.randrange(len(other)),), search_video=other)
        return FrameIds(template, (rng.randrange(len(video)),))


def test_a_search_frame_may_be_of_another_video_of_any_data_set():
    sets = TinyDataset("A", frames=20), TinyDataset("B", box=(5.0, 5.0, 20.0, 20.0), frames=20)
    source = sampler(*sets, mode="toy_negative_pairs")
    batch = next(build_loader(source, 60, 60).epoch(1))
    assert torch.equal(batch.negative, torch.tensor([";" in name for name in batch.names]))
    assert 10 < batch.negative.sum() < 40
    pairs = {(n[0], n.partition(";")[2][0]) for n in batch.names if ";" in n}
    assert pairs == {("A", "A"), ("A", "B"), ("B", "A"), ("B", "B")}
    again = next(build_loader(sampler(*sets, mode="toy_negative_pairs"), 60, 60, workers=1).epoch(1))
    assert again.names == batch.names
    assert torch.equal(again.search, batch.search)


def test_the_other_video_of_a_negative_pair_is_of_any_data_set_in_use_whatever_the_ratios():
    sets = [TinyDataset(name, frames=20) for name in "ABC"]
    source = sampler(*sets, ratios=[8, 1, 0], mode="toy_negative_pairs")
    source.make_sample = lambda frames, rng: frames.negative_sequence
    strangers = [name[0] for i in range(400) if (name := source(1, i))]
    assert set(strangers) == {"A", "B"}
    assert 0.4 < strangers.count("B") / len(strangers) < 0.6


def test_masks_that_no_data_set_has_are_remarked_on(caplog):
    sampler(TinyDataset("A"), TinyDataset("B"), masks=True)
    assert "DATA.MASKS: there is no mask in A, B, so that none is learned" in caplog.text


def test_a_negative_pair_shows_and_places_the_other_target():
    sets = TinyDataset("A", sequences=1), TinyDataset("B", sequences=1, box=(5.0, 5.0, 20.0, 20.0))
    source = sampler(*sets, mode="toy_negative_pairs")
    source.make_sample = lambda frames, rng: frames
    found = [source(1, i) for i in range(60)]
    negative = [f for f in found if f.negative_sequence == "B/seq0" and f.dataset == "A"]
    assert negative
    for frames in negative:
        assert frames.name == f"A/seq0:{frames.frame_ids[0]};B/seq0:{frames.frame_ids[1]}"
        assert frames.template_boxes.tolist() == [[30.0, 20.0, 16.0, 12.0]]
        assert frames.search_boxes.tolist() == [[5.0, 5.0, 20.0, 20.0]]
