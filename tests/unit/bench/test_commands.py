"""The commands as a user types them: exit codes, messages, comparison of runs, submissions."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lib.bench import (
    EvalJob,
    Identity,
    Result,
    ResultFolder,
    SubmissionError,
    TrackerSpec,
    check_requests,
    compare_runs,
    demo_spec,
    export_tracker,
    pack_submission,
    read_boxes,
    run_evaluation,
    run_tests,
    select_videos,
    shortfall,
    write_boxes,
)
from lib.bench.benchmarks import get_benchmark
from lib.command import run_command
from lib.config import ConfigError
from lib.methods import load_experiment
from lib.models import CheckpointNotFoundError
from lib.paths import Paths
from lib.registry import UnknownNameError
from lib.track import Tracker
from tests.support.commands import REPOSITORY, run_python
from tests.support.engines import needs

TOY = REPOSITORY / "tests" / "e2e" / "plugins" / "toy"


def command(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return run_python([f"tracking/{script}.py", *arguments], environment)


def result(name: str, boxes: np.ndarray) -> Result:
    return Result(name, boxes, np.ones(len(boxes)), np.full(len(boxes), 0.01))


@pytest.mark.slow
def test_test_py_end_to_end_with_a_broken_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    (folders["toy-2"] / "img" / "00000002.jpg").write_bytes(b"")
    where = ("--data_dir", tmp_path / "data", "--save_dir", tmp_path / "output")
    done = command("test", "--tracker", "static", "--dataset_name", "synthetic", *where)
    assert done.returncode == 1, done.stderr
    assert "only 1 of 2 sequences" in done.stdout
    assert "toy-2: frame 1" in done.stdout
    assert "00000002.jpg" in done.stdout
    assert "device: cpu" in done.stdout


@pytest.mark.slow
def test_usage_errors_are_one_line_and_exit_2(tmp_path: Path) -> None:
    done = command("test", "ostrack", "vitb_256_mae_ce_32x4_ep300", "--dataset", "lasto", "--data_dir", tmp_path)
    assert done.returncode == 2
    assert "did you mean 'lasot'" in done.stderr
    assert "Traceback" not in done.stderr


def test_letters_that_a_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without a locale, or in a pipe of Windows."""
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding="ascii", write_through=True))
    assert run_command(lambda: print("größe")) == 0
    assert written.getvalue().rstrip() == rb"gr\xf6\xdfe"


def test_a_missing_checkpoint_says_where_it_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    experiment = load_experiment("toy", "toy", plugins=[TOY])
    folder = tmp_path / "checkpoints" / "train" / "toy" / "toy"
    paths = Paths(tmp_path, tmp_path, tmp_path, tmp_path / "pretrained")
    said = []
    for _ in range(2):  # the same words before and after another process has made the folder, so that one is printed
        with pytest.raises(CheckpointNotFoundError, match="which has no checkpoint") as caught:
            experiment.locate_weights("", paths)
        said.append(str(caught.value))
        folder.mkdir(parents=True, exist_ok=True)
    assert said[0] == said[1]
    for name in ("Toy_ep0002.safetensors", "Toy_ep0010.pth.tar", "Toy_ep0010_state.pt", "Other_ep0001.safetensors"):
        (folder / name).touch()
    with pytest.raises(CheckpointNotFoundError, match=r"epoch 1 .*Toy_ep0002.safetensors, Toy_ep0010.pth.tar\)"):
        experiment.locate_weights("", paths)
    assert experiment.locate_weights("latest", paths).name == "Toy_ep0010.pth.tar"
    assert experiment.locate_weights("Other_ep0001.safetensors", paths).parent == folder
    released = tmp_path / "pretrained" / "toy" / "toy.safetensors"
    released.parent.mkdir(parents=True)
    released.touch()
    assert experiment.locate_weights("", paths) == released
    (folder / "Toy_ep0001.safetensors").touch()
    assert experiment.locate_weights("", paths).name == "Toy_ep0001.safetensors"


def test_compare_names_the_first_frame_that_parts(tmp_path: Path) -> None:
    boxes = np.tile([1.0, 2.0, 10.0, 10.0], (6, 1))
    other = boxes.copy()
    other[3:, 0] += [0.5, 2.0, 1.0]
    for run, parts in (("a", {"same": boxes, "moved": boxes}), ("b", {"same": boxes + 1e-5, "moved": other})):
        for name, rows in parts.items():
            ResultFolder(tmp_path / run, "int_tab").write(result(name, rows))
    ResultFolder(tmp_path / "a", "int_tab").write(result("alone", boxes))
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    moved = next(p for p in found.sequences if p.name == "moved")
    assert (moved.frame, moved.first, moved.largest) == (3, 0.5, 2.0)
    assert [p.name for p in found.sequences if p.differs] == ["moved"]
    assert (found.only_a, found.only_b, found.agree) == (["alone"], [], False)
    assert compare_runs(tmp_path / "a", tmp_path / "a").agree
    assert not any(p.differs for p in compare_runs(tmp_path / "a", tmp_path / "b", tolerance=3).sequences)


def test_videos_are_chosen_by_rank_or_name() -> None:
    scores = {"a": 30.0, "b": 10.0, "c": 20.0}
    assert select_videos("worst:2", list(scores), scores) == ["b", "c"]
    assert select_videos("best:1", list(scores), scores) == ["a"]
    assert select_videos("c,a", list(scores), scores) == ["c", "a"]
    with pytest.raises(ValueError, match="no sequence 'd'"):
        select_videos("d", list(scores), scores)


@pytest.fixture
def got10k(tmp_path: Path) -> Paths:
    for name in ("GOT-10k_Test_000001", "GOT-10k_Test_000002"):
        folder = tmp_path / "got10k/test" / name
        folder.mkdir(parents=True)
        for i in (1, 2, 3):
            (folder / f"{i:08d}.jpg").touch()
        (folder / "groundtruth.txt").write_text("1,2,3,4\n")
    return Paths(workspace=tmp_path, data_dir=tmp_path, save_dir=tmp_path / "output", pretrained=tmp_path)


def test_an_incomplete_submission_is_refused_with_what_lacks(got10k: Paths, tmp_path: Path) -> None:
    benchmark, folder = get_benchmark("got10k_test"), tmp_path / "results"
    boxes = np.array([[1.25, 2, 3, 4]] * 3)
    ResultFolder(folder, "int_tab").write(result("GOT-10k_Test_000001", boxes))
    with pytest.raises(SubmissionError, match="GOT-10k_Test_000002: no result"):
        pack_submission(benchmark, folder, got10k)
    ResultFolder(folder, "int_tab").write(result("GOT-10k_Test_000002", boxes[:2]))
    with pytest.raises(SubmissionError, match="2 rows for 3 frames"):
        pack_submission(benchmark, folder, got10k)
    (tmp_path / "got10k/test/list.txt").write_text("GOT-10k_Test_000001\nGOT-10k_Test_000003\n")
    present = benchmark.sequences(got10k, skip_missing=True)
    with zipfile.ZipFile(pack_submission(benchmark, folder, got10k, sequences=present)) as archive:
        assert {Path(name).parts[0] for name in archive.namelist()} == {"GOT-10k_Test_000001"}
    assert "2 of 180 sequences" in shortfall(benchmark, 2)
    assert not shortfall(benchmark, 180)


def test_a_got10k_submission_has_what_its_server_reads(got10k: Paths, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    for i in (1, 2):
        boxes = np.array([[1.25, 2, 3, 4]] * 3)
        ResultFolder(folder, "int_tab").write(result(f"GOT-10k_Test_00000{i}", boxes))
    name = "GOT-10k_Test_000001/GOT-10k_Test_000001"
    for exact, line in ((True, "1.250,2.000,3.000,4.000"), (False, "1,2,3,4")):
        with zipfile.ZipFile(pack_submission(get_benchmark("got10k_test"), folder, got10k, exact)) as archive:
            assert len(archive.namelist()) == 4
            assert archive.read(f"{name}_001.txt").decode().splitlines() == [line] * 3
            assert archive.read(f"{name}_time.txt").decode().splitlines() == ["0.010000"] * 3


def test_three_runs_are_one_got10k_submission(got10k: Paths, tmp_path: Path) -> None:
    folders = [tmp_path / f"run{run}" for run in range(3)]
    for run, folder in enumerate(folders):
        for i in (1, 2):
            boxes = np.array([[float(run), 2, 3, 4]] * 3)
            ResultFolder(folder, "int_tab").write(result(f"GOT-10k_Test_00000{i}", boxes))
    name = "GOT-10k_Test_000002/GOT-10k_Test_000002"
    written = pack_submission(get_benchmark("got10k_test"), folders[0], got10k, repetitions=folders[1:])
    with zipfile.ZipFile(written) as archive:
        for run in range(3):
            assert archive.read(f"{name}_{run + 1:03d}.txt").decode().startswith(f"{run}.000,2.000")
        assert archive.read(f"{name}_time.txt").decode().splitlines() == ["0.010000,0.010000,0.010000"] * 3
    with pytest.raises(SubmissionError, match="TrackingNet takes a single run"):
        pack_submission(get_benchmark("trackingnet"), folders[0], got10k, repetitions=folders[1:])


def test_results_on_disk_are_read_back_as_written(tmp_path: Path) -> None:
    boxes = np.array([[1.9, -2.9, 3.5, 4.2]])
    folder = ResultFolder(tmp_path, "int_tab")
    folder.write(result("s", boxes))
    assert (tmp_path / "s.txt").read_text() == "1\t-2\t3\t4\n"
    np.testing.assert_allclose(read_boxes(tmp_path / "float" / "s.txt"), boxes, atol=1e-12)
    write_boxes(tmp_path / "t.txt", boxes, "float_comma")
    assert read_boxes(tmp_path / "t.txt").shape == (1, 4)


@pytest.mark.parametrize("name", ["../../secret", "/etc/x", "a/../b"])
@pytest.mark.parametrize("format", ["float_comma", "vot"])
def test_no_result_is_written_outside_its_folder(tmp_path: Path, name: str, format: str) -> None:
    folder = ResultFolder(tmp_path / "a" / "b" / "c", format)
    with pytest.raises(ValueError, match="is not a name of a video"):
        folder.write(Result(name, np.ones((2, 4)), np.ones(2), np.ones(2)))
    assert not list(tmp_path.rglob("*"))


def test_what_cannot_be_scored_or_drawn_is_refused_before_the_tracking(tmp_path: Path) -> None:
    check_requests("pysot", "worst:3")
    with pytest.raises(UnknownNameError, match="unknown metric variant 'pysott'; did you mean 'pysot'"):
        check_requests("pysott", None)
    with pytest.raises(ValueError, match="'worst:x': expected worst:N"):
        check_requests(None, "worst:x")


@pytest.mark.parametrize(
    ("videos", "second", "message"),
    [
        ("name:2", "synthetic", r"no sequence 'name:2' \(expected all, worst:N, best:N or names with commas\)"),
        ("worst:2", "got10k_test", "--save_video worst:2: GOT-10k test has no scores here to rank its sequences by"),
        (None, "uav", "uav"),
    ],
)
def test_what_no_benchmark_can_do_is_said_before_the_first_is_tracked(
    got10k: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos: str | None, second: str, message: str
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "synthetic", (4,))
    spec = TrackerSpec(reference="static")
    jobs = [EvalJob(spec, get_benchmark(name), got10k) for name in ("synthetic", second)]
    with pytest.raises((ValueError, OSError), match=message):
        run_tests(jobs, "test.py", [], videos)
    assert not got10k.save_dir.exists()


def test_a_tracker_that_cannot_be_built_displaces_no_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "synthetic", (4,))

    class Wrong(TrackerSpec):
        def identity(self) -> Identity:
            return Identity({"tracker": "another"})

        def build(self, slot: int = 0) -> Tracker:
            raise ValueError("the weights do not fit")

    paths = Paths(workspace=tmp_path, data_dir=tmp_path, save_dir=tmp_path / "output", pretrained=tmp_path)
    job = EvalJob(TrackerSpec(reference="static"), get_benchmark("synthetic"), paths)
    assert run_evaluation(job, Console(quiet=True)).tracked == 1
    with pytest.raises(ValueError, match="do not fit"):
        run_evaluation(replace(job, spec=Wrong(reference="static")), Console(quiet=True))
    assert run_evaluation(job, Console(quiet=True)).kept == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"untrained": True, "checkpoint": "x.pth"}, "--untrained means random weights; leave it out, or --checkpoint"),
        ({"seed": 3}, "--seed 3 draws random weights: it goes with --untrained"),
    ],
)
def test_options_of_random_weights_exclude_others(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    paths = Paths(workspace=tmp_path, data_dir=tmp_path, save_dir=tmp_path, pretrained=tmp_path)
    with pytest.raises(ConfigError, match=message):
        TrackerSpec("ostrack", "synthetic_small", **given).resolve(paths)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("LASHR", r"TEST\.BY_BENCHMARK\.LASHR: unknown benchmark 'LASHR'; did you mean 'lasher'"),
        ("LASHER_TEST", r"TEST\.BY_BENCHMARK\.LASHER_TEST: write LASHER"),
    ],
)
def test_a_key_that_is_to_name_a_benchmark_must_name_one(tmp_path: Path, key: str, message: str) -> None:
    override = (f"TEST.BY_BENCHMARK={{{key}: {{SEARCH_FACTOR: 3}}}}",)
    spec = TrackerSpec("ostrack", "synthetic_small", untrained=True, overrides=override)
    with pytest.raises(ConfigError, match=message):
        spec.resolve(Paths(tmp_path, tmp_path, tmp_path, tmp_path))


@needs("onnx")
@pytest.mark.engines
def test_an_ended_export_does_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def ended(tracker: Tracker, folder: Path, *others: object) -> None:
        folder.mkdir()
        (folder / "template.onnx").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr("lib.bench.export.export", ended)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            export_tracker(demo_spec(TrackerSpec(device="cpu", engine="onnx", scores="raw")), tmp_path / "there")
    assert list(tmp_path.iterdir()) == []
