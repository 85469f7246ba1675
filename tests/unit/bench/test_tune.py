"""Search of settings: rows of one batch are single runs, frames are decoded once, ended searches go on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from lib.bench import EvalJob, Span, TrackerSpec, Tuning, read_results, run_evaluation, settings_to_try, tune
from lib.bench.benchmarks import get_benchmark
from lib.bench.tune import SharedFrames, overrides_of, search, with_setting, yaml_snippet
from lib.methods import load_experiment
from tests.support.commands import import_command
from tests.unit.bench.test_commands import command
from tests.unit.bench.toy_tracker import paths_at, write_sequence
from tests.unit.methods.test_siamrpnpp import TINY, network

KEYS = ("search_factor", "penalty_k", "window_influence", "size_lr")


@pytest.fixture
def job(tmp_path: Path) -> EvalJob:
    """A small SiamRPN++ whose boxes depend on its settings, on two videos of noise."""
    rng = np.random.default_rng(0)
    for name, frames in (("toy-1", 5), ("toy-2", 4)):
        folder = write_sequence(tmp_path / "data/synthetic", name, frames)
        (folder / "groundtruth.txt").write_text("30,25,30,24\n" * frames)
        for i in range(frames):
            cv2.imwrite(str(folder / f"img/{i + 1:08d}.jpg"), rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
    torch.save({"state_dict": network().state_dict()}, tmp_path / "weights.pth")
    spec = TrackerSpec("siamrpnpp", "synthetic_small", checkpoint=tmp_path / "weights.pth", overrides=TINY)
    paths = paths_at(tmp_path)
    return EvalJob(spec.resolve(paths, "synthetic"), get_benchmark("synthetic"), paths, batch=3)


def boxes(job: EvalJob) -> np.ndarray:
    found = [read_results(job.folder.path, s, exact=True)[0].boxes_xywh for s in job.sequences()]
    return np.concatenate(found)


@pytest.mark.slow
def test_rows_are_single_runs_and_what_is_finished_stays(job: EvalJob, tmp_path: Path) -> None:
    untuned = dict(zip(KEYS, (3.0, 0.05, 0.42, 0.38), strict=True))
    settings = [untuned, {**untuned, "penalty_k": 3.0, "window_influence": 0.0}, {**untuned, "size_lr": 0.9}]
    quiet = Console(quiet=True)
    trials = search(job, settings, KEYS, tmp_path / "tune", quiet)
    together = [boxes(t.job) for t in trials]
    for trial, found in zip(trials, together, strict=True):
        alone = with_setting(job, trial.setting, tmp_path / "alone" / trial.job.folder.path.name)
        outcome = run_evaluation(alone, quiet)
        assert alone.identity == trial.job.identity
        np.testing.assert_allclose(found, boxes(alone), atol=1e-3)
        assert trial.scored is not None
        assert outcome.scored is not None
        assert outcome.scored.filed.headline == trial.scored.filed.headline
    assert np.abs(together[0] - together[1]).max() > 0.1
    assert np.abs(together[0] - together[2]).max() > 0.1
    rows = json.loads((tmp_path / "tune/settings.json").read_text())
    assert [row["scores"]["auc"] for row in rows] == sorted((t.score for t in trials), reverse=True)

    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "tune").glob("*/toy-?.txt")}
    gone = trials[1].job.folder.boxes_file("toy-2")
    gone.unlink()
    again = search(job, settings, KEYS, tmp_path / "tune", quiet)
    assert {p for p, t in files.items() if p.stat().st_mtime_ns != t} == {gone}
    assert [t.score for t in again] == [t.score for t in trials]


def test_other_keys_have_a_tracker_each_and_pasted_results_are_the_same_tracker(job: EvalJob, tmp_path: Path) -> None:
    setting = {"template_factor": 2.5, "window_influence": 0.3}
    tuned = with_setting(job, setting)
    trials = search(
        job, [{"template_factor": 2.0, "window_influence": 0.3}, setting], KEYS, tmp_path / "t", Console(quiet=True)
    )
    assert np.abs(boxes(trials[0].job) - boxes(trials[1].job)).max() > 0.1
    path = tmp_path / "pasted.yaml"
    base = Path(__file__).parents[3] / "experiments/siamrpnpp/synthetic_small.yaml"
    path.write_text(f"BASE: {base}\n{yaml_snippet(setting, job.benchmark, 'found')}")
    assert load_experiment("siamrpnpp", str(path), TINY).hash == tuned.spec.experiment.hash
    assert yaml.safe_load(path.read_text())["TEST"]["BY_BENCHMARK"]["SYNTHETIC"]["WINDOW_INFLUENCE"] == 0.3
    assert overrides_of(setting, get_benchmark(f"FOLDER:{tmp_path / 'data'}"))[1] == "TEST.WINDOW_INFLUENCE=0.3"


def test_rows_share_frames_and_their_errors(job: EvalJob) -> None:
    video, read = job.sequences()[0], []

    def counting(i: int):
        read.append(i)
        if i == 2:
            raise ValueError("broken")
        return i

    plain = video.runs[0]
    object.__setattr__(plain, "read_frame", counting)
    shared = SharedFrames()
    rows = [shared.video(plain, f"{k}:x") for k in range(3)]
    assert [row.read_frame(1) for row in rows] == [1, 1, 1]
    for row in rows:
        with pytest.raises(ValueError, match="broken"):
            row.read_frame(2)
    assert read == [1, 2]


def test_settings_are_reproducible_and_begin_with_the_untuned_one() -> None:
    untuned = {"window_influence": 0.42, "update.interval": 25}
    spans = [Span.parse("TEST.WINDOW_INFLUENCE=0.2:0.6"), Span.parse("update.interval=10:30")]
    drawn = settings_to_try(spans, untuned, 20, 3)
    assert drawn == settings_to_try(spans, untuned, 20, 3) != settings_to_try(spans, untuned, 20, 4)
    assert drawn[0] == untuned
    assert all(0.2 <= s["window_influence"] <= 0.6 and s["update.interval"] in range(10, 31) for s in drawn)
    grid = [Span.parse("window_influence=0.2:0.4:3"), Span.parse("update.interval=5,25")]
    assert settings_to_try(grid, untuned, 0, 0)[1:] == [
        {"window_influence": w, "update.interval": i} for w in (0.2, 0.3, 0.4) for i in (5, 25)
    ]
    with pytest.raises(ValueError, match="WINDOW_INFLUENCE is a range: say --trials"):
        settings_to_try(spans, untuned, 0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SIZE_LR=0.6:0.2", "the range is empty; LOW must be below HIGH"),
        ("SIZE_LR=0.2:0.2:3", "the range is empty"),
        ("SIZE_LR=0.2:0.6:1", "a whole one from 2 on"),
        ("SIZE_LR=", "expected KEY=LOW:HIGH"),
        ("0.2:0.6", "expected KEY=LOW:HIGH"),
        ("SIZE_LR=0:nan", "expected KEY=LOW:HIGH"),
    ],
)
def test_malformed_spans_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Span.parse(text)


@pytest.mark.parametrize(
    ("spans", "share", "message"),
    [
        (("SIZE_RL=0.2,0.3",), 1.0, "SIZE_RL is no key that SiamRPNTracker names for a search; did you mean 'SIZE_LR'"),
        (("SIZE_LR=0.2,0.3", "SIZE_LR=0.2"), 1.0, "SIZE_LR is given twice"),
        (("SIZE_LR=0.2,1.3",), 1.0, r"TEST\.BY_BENCHMARK\.SYNTHETIC\.SIZE_LR"),
        (("SIZE_LR=0.2,0.3",), 0.0, "--share must be above 0"),
    ],
)
def test_what_cannot_be_searched_is_said_in_a_sentence(
    spans: tuple[str, ...], share: float, message: str, job: EvalJob
) -> None:
    with pytest.raises(ValueError, match=message):
        tune(Tuning(job, job, [Span.parse(text) for text in spans], share=share), Console(quiet=True))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--test_dataset", "uav"), "data set 'uav'"),
        (("--metric", "ostrak"), "unknown metric variant 'ostrak'; did you mean 'ostrack'"),
    ],
)
def test_what_comes_after_the_search_is_checked_before_it(
    more: tuple[str, ...], message: str, job: EvalJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        "siamrpnpp", "synthetic_small", "--checkpoint", tmp_path / "weights.pth", "--dataset", "synthetic",
        "--data_dir", tmp_path / "data", "--save_dir", tmp_path / "out", "--keys", "SIZE_LR=0,0.5", "--set", *TINY,
    )  # fmt: skip
    assert import_command("tune").main([*map(str, line), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_searches_tests_and_says_where_both_are(job: EvalJob, tmp_path: Path) -> None:
    line = (
        "tune", "siamrpnpp", "synthetic_small", "--checkpoint", tmp_path / "weights.pth", "--dataset", "synthetic",
        "--data_dir", tmp_path / "data", "--save_dir", tmp_path / "out", "--batch", "4", "--trials", "3",
        "--keys", "WINDOW_INFLUENCE=0.1:0.99", "SIZE_LR=0:0.5", "--set", "TEST.SIZE_LR=1", *TINY,
    )  # fmt: skip
    same = command(*line, "--test_dataset", "synthetic_test")
    assert (same.returncode, same.stderr.count("\n")) == (2, 1)
    assert "--test_dataset is Synthetic, which is searched on" in same.stderr
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert "searched on 1 videos, tested on the other 1" in done.stdout
    best = yaml.safe_load((tmp_path / "out/tune/siamrpnpp/synthetic_small/synthetic/best.yaml").read_text())
    assert best["TEST"]["BY_BENCHMARK"]["SYNTHETIC"].keys() == {"WINDOW_INFLUENCE", "SIZE_LR"}
    report = command(
        "analysis_results", "siamrpnpp", "synthetic_small", "synthetic_small_tuned", "--dataset", "synthetic",
        "--data_dir", tmp_path / "data", "--save_dir", tmp_path / "out", "--skip_missing",
    )  # fmt: skip
    assert report.returncode == 0, report.stderr
    assert "synthetic_small_tuned" in report.stdout
    assert "runs are finished already" in command(*line).stdout
