"""Fitting the expected overlap, and the figures that say what scores are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.bench import ConfidenceSamples, calibrate_scores, collect_samples
from lib.bench.metrics import reliability
from lib.data import Frame, Video
from lib.methods import load_experiment
from lib.track import FEATURES


def test_reliability_of_a_few_frames_by_hand() -> None:
    found = reliability(np.array([0.05, 0.95, 0.91, 0.5, 0.7]), np.array([0.0, 0.9, 1.0, 0.1, np.nan]))
    assert found is not None
    assert found.counts.tolist() == [1, 1, 2]
    assert found.expected == pytest.approx([0.05, 0.5, 0.93])
    assert found.observed == pytest.approx([0.0, 0.1, 0.95])
    assert found.calibration_error == pytest.approx((0.05 + 0.4 + 2 * 0.02) / 4)
    assert found.auroc == 1.0
    tied = reliability(np.full(4, 0.5), np.array([0.0, 0.9, 0.0, 0.9]))
    assert tied is not None
    assert tied.auroc == 0.5
    assert reliability(np.array([0.5]), np.array([np.nan])) is None


def made_up(videos: int = 8, frames: int = 150) -> ConfidenceSamples:
    """Overlaps that two features tell, and a raw score that is too sure of itself."""
    rng = np.random.default_rng(0)
    count = videos * frames
    features = rng.normal(size=(count, len(FEATURES)))
    logit = 2 * features[:, 0] + 2 * np.maximum(features[:, 3], 0) - 1
    overlaps = 1 / (1 + np.exp(-logit))
    numbers = np.repeat(np.arange(videos), frames)
    own = np.ones(count, dtype=bool)
    raw = 0.6 + 0.4 / (1 + np.exp(-features[:, 0]))
    return ConfidenceSamples(torch.from_numpy(features), raw, overlaps, numbers, own)


def test_the_fit_is_calibrated_on_videos_that_it_was_not_made_on() -> None:
    samples = made_up()
    samples.natural[::7] = False
    samples.raw[::7], samples.overlaps[1::7] = np.nan, samples.overlaps[1::7]
    result = calibrate_scores(samples, {"dataset": ["made up"]})
    assert result.calibrated.auroc is not None
    assert result.raw.auroc is not None
    assert result.calibrated.auroc > max(0.97, result.raw.auroc)
    assert result.calibrated.calibration_error < 0.03 < result.raw.calibration_error
    assert result.calibrated.counts.sum() == samples.natural.sum(), "frames that were made up do not count"
    assert result.calibration.about["held_out"]["auroc"] == result.calibrated.auroc
    with pytest.raises(ValueError, match="at least two videos"):
        calibrate_scores(made_up(videos=1), {})


def test_samples_of_absent_targets_have_no_overlap_and_unknown_ones_are_left_out() -> None:
    experiment = load_experiment("ostrack", "synthetic_small")
    tracker = experiment.build_tracker(experiment.method.build_network(experiment.config, False))
    rng = np.random.default_rng(0)
    picture = Frame(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8))
    boxes = np.tile([30.0, 20.0, 24.0, 30.0], (12, 1))
    boxes[3], boxes[4] = np.nan, 0
    visible = np.ones(12, dtype=bool)
    visible[5] = False
    video = Video("a", boxes, visible, visible, lambda i: picture, lambda i: f"{i}.jpg")
    names: list[str] = []
    samples = collect_samples(tracker, [video, video], seed=3, on_video=names.append)
    assert len(samples.raw) == 2 * 2 * 10
    assert samples.features.shape == (40, len(FEATURES))
    assert samples.features.isfinite().all()
    each = samples.overlaps.reshape(4, 10)
    assert (each[:, [2, 3]] == 0).all(), "frames 4 and 5"
    assert (samples.overlaps > 0).any()
    assert samples.natural.reshape(4, 10)[::2].all()
    assert not samples.natural.all()
    assert names == ["a", "a"]
