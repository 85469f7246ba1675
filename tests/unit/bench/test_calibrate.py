"""Fitting the expected overlap, and the figures that say what scores are worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.bench import ConfidenceSamples, EvalJob, TrackerSpec, calibrate_scores, collect_samples
from lib.bench.benchmarks import get_benchmark
from lib.bench.metrics import reliability
from lib.config import ConfigError
from lib.data import Frame, Video
from lib.methods import load_experiment
from lib.models import save_release
from lib.paths import Paths
from lib.track import FEATURES, ConfidenceTracker, ReacquiringTracker


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


@pytest.mark.slow
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
    torch.manual_seed(0)  # some networks of random weights never meet the target
    experiment = load_experiment("ostrack", "synthetic_small")
    tracker = experiment.build_tracker(experiment.method.build_network(experiment.config, False))
    rng = np.random.default_rng(0)
    picture = Frame(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8))
    boxes = np.tile([30.0, 20.0, 24.0, 30.0], (12, 1))
    boxes[3], boxes[4] = np.nan, 0
    visible = np.ones(12, dtype=bool)
    visible[5] = False
    video = Video("a", boxes, visible, visible, lambda i: picture, lambda i: f"{i}.jpg")
    tracked: list[int] = []
    samples = collect_samples(tracker, [video, video], batch=1, seed=3, progress=tracked.append)
    assert tracked == [2] * 2 * 12, "both passes of each video, frame by frame"
    assert len(samples.raw) == 2 * 2 * 10
    assert samples.features.shape == (40, len(FEATURES))
    assert samples.features.isfinite().all()
    each = samples.overlaps.reshape(2, 10, 2)
    assert (each[:, [2, 3]] == 0).all(), "frames 4 and 5"
    assert (samples.overlaps > 0).any()
    assert samples.natural.reshape(2, 10, 2)[..., 0].all()
    assert not samples.natural.all()
    assert samples.videos.tolist() == [0] * 20 + [1] * 20


@pytest.mark.slow
def test_one_command_calibrates_a_tracker_and_the_others_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "tracking"))
    from toy_tracker import write_benchmark

    from tracking.calibrate import main

    write_benchmark(tmp_path / "synthetic", (5, 6, 4))
    experiment = load_experiment("ostrack", "synthetic_small")
    network = experiment.method.build_network(experiment.config, False)
    weights = save_release(tmp_path / "small", network.state_dict(), {"script": "ostrack"})
    paths = Paths(tmp_path, tmp_path, tmp_path / "output", tmp_path)
    asked = TrackerSpec("ostrack", "synthetic_small", checkpoint=weights, device="cpu")
    raw = asked.resolve(paths)
    with pytest.raises(ConfigError, match="--reacquire needs calibrated scores"):
        replace(asked, reacquire=True).resolve(paths)
    with pytest.raises(ValueError, match="--reacquire is for trained trackers"):
        TrackerSpec(reference="static", reacquire=True).resolve(paths)
    options = ["--dataset", "synthetic", "--checkpoint", weights, "--data_dir", tmp_path, "--save_dir", tmp_path / "o"]
    before = raw.identity()
    assert main(["ostrack", "synthetic_small", *map(str, options)]) == 0
    printed = capsys.readouterr().out
    assert "3 videos, 24 frames" in printed
    assert f"written: {tmp_path / 'small.confidence.json'}" in printed
    assert main(["ostrack", "synthetic_small", *map(str, options)]) == 2
    assert "small.confidence.json is there already; --overwrite replaces it" in capsys.readouterr().err
    spec = asked.resolve(paths)
    assert isinstance(spec.build(), ConfidenceTracker)
    file = tmp_path / "small.confidence.json"
    written = file.read_text()
    file.write_text(written.replace(spec.weights_hash, "0" * 64))
    with pytest.raises(ConfigError, match="was made for other weights than"):
        spec.build()
    file.write_text(written)
    assert spec.identity().difference(before.values)
    assert replace(spec, scores="raw").identity().values == before.values
    again = replace(spec, reacquire=True)
    assert isinstance(again.build(), ReacquiringTracker)
    assert again.labels == ("ostrack", "synthetic_small_reacquire")
    job = EvalJob(again, get_benchmark("synthetic"), paths, metric="vot_multistart")
    with pytest.raises(ValueError, match=r"short-term protocol \(vot_multistart\) forbids --reacquire"):
        job.check()
    replace(job, metric=None).check()
