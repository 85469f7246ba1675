"""What a user would suffer from while a benchmark runs."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from lib.bench import EvalJob, Outcome, ResultFolder, ResultsInUseError, TrackerSpec, read_boxes, run_evaluation
from lib.bench.benchmarks import get_benchmark
from lib.data import Video
from lib.files import try_lock
from lib.paths import load_paths
from tests.support.commands import exit_code, start_python

HERE = Path(__file__).resolve().parent
PATIENCE = 120


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes find the toy by its name."""
    monkeypatch.syspath_prepend(str(HERE))


def job(tmp: Path, **changes: object) -> EvalJob:
    from toy_tracker import ToySpec, paths_at

    return replace(EvalJob(ToySpec(), get_benchmark("synthetic"), paths_at(tmp)), **changes)  # type: ignore[arg-type]


def run(evaluation: EvalJob) -> tuple[Outcome, str]:
    text = StringIO()
    outcome = run_evaluation(evaluation, Console(file=text, width=200))
    return outcome, text.getvalue()


@dataclass(frozen=True)
class Started:
    """The command that evaluates the toy, in a process of its own."""

    pid: int
    out: Path
    err: Path

    def said(self) -> str:
        return self.out.read_text() + self.err.read_text()


def start(tmp: Path, processes: int = 1, batch: int = 1) -> Started:
    out, err = tmp / "out.txt", tmp / "err.txt"
    line = [HERE / "toy_evaluation.py", tmp, processes, batch, 0]
    return Started(start_python(line, {**os.environ, "COLUMNS": "200"}, timeout=PATIENCE, out=out, err=err), out, err)


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def wait_for(path: Path) -> None:
    wait_until(path.exists, f"{path} was not written")


def block(folder: Path, frame: int) -> Callable[[], None]:
    """Let reading a frame wait, so that its run stays in flight; returns a function that lets it be read."""
    picture = folder / "img" / f"{frame + 1:08d}.jpg"
    good = picture.read_bytes()
    picture.unlink()
    os.mkfifo(picture)

    def release() -> None:
        pipe = picture.rename(picture.with_suffix(".pipe"))
        picture.write_bytes(good)
        with contextlib.suppress(OSError):  # nobody reads it any more
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            os.write(descriptor, good)
            os.close(descriptor)

    return release


def boxes_of(outcome: Outcome) -> dict[str, np.ndarray]:
    return boxes_in(outcome.folder)


def boxes_in(folder: Path) -> dict[str, np.ndarray]:
    return {p.stem: read_boxes(p) for p in sorted((folder / "float").glob("*.txt"))}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_tracker_of_two_pictures_is_refused_by_an_rgb_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy_tracker import ToyTracker, write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (3,))
    monkeypatch.setattr(ToyTracker, "needs_aux", True)
    with pytest.raises(ValueError, match="Synthetic has RGB alone, and this tracker reads frames of two pictures"):
        run(job(tmp_path))


def test_any_batch_gives_the_same_files(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic")
    reference, _ = run(job(tmp_path, run_id=0))
    expected = boxes_of(reference)
    assert {n: len(b) for n, b in expected.items()} == {f"toy-{i}": n for i, n in enumerate((5, 9, 3, 7, 12, 4), 1)}
    assert not np.array_equal(expected["toy-5"][-1], expected["toy-5"][0])
    for number, batch in enumerate((2, 4, 6), 1):
        outcome, _ = run(job(tmp_path, run_id=number, batch=batch))
        assert_same(expected, boxes_of(outcome))
        assert outcome.scored is not None
        assert reference.scored is not None
        assert outcome.scored.filed.headline == reference.scored.filed.headline


def test_result_files_are_complete_and_the_manifest_says_what_made_them(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 1))
    outcome, _ = run(job(tmp_path))
    for name, rows in (("toy-1", 4), ("toy-2", 1)):
        for file in (f"{name}.txt", f"float/{name}.txt", f"{name}_time.txt", f"{name}_score.txt"):
            assert len((outcome.folder / file).read_text().splitlines()) == rows, file
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["identity"] == {"weights": "a", "configuration": "c"}
    assert manifest["sequences"]["toy-1"]["frames"] == 4
    scores = json.loads((outcome.folder / "scores.json").read_text())
    assert set(scores["sequences"]) == {"toy-1", "toy-2"}
    assert outcome.exit_code == 0


def test_finished_sequences_do_not_run_again_until_weights_change(tmp_path: Path) -> None:
    from toy_tracker import ToySpec, write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    log = tmp_path / "log"
    first, _ = run(job(tmp_path, spec=ToySpec(log=log)))
    again, said = run(job(tmp_path, spec=ToySpec(log=log)))
    assert len(log.read_text().splitlines()) == 2
    assert (again.tracked, again.kept) == (0, 2)
    assert "finished already" in said
    old = boxes_of(first)
    changed, said = run(job(tmp_path, spec=ToySpec(weights="b", speed=2.0, log=log)))
    assert "other weights" in said
    assert "stale-" in said
    assert len(log.read_text().splitlines()) == 4
    assert not np.array_equal(boxes_of(changed)["toy-1"], old["toy-1"])
    aside = next(changed.folder.glob("stale-*"))
    np.testing.assert_array_equal(read_boxes(aside / "float" / "toy-1.txt"), old["toy-1"])
    assert len(list(changed.folder.glob("toy-?.txt"))) == 2


def test_results_that_are_finished_are_checked_once_and_must_still_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    run(job(tmp_path))
    checked: list[str] = []
    finished = ResultFolder.finished

    def check(folder: ResultFolder, video: Video, start: int = 0) -> bool:
        checked.append(video.name)
        found = finished(folder, video, start)
        if gone and video.name == "toy-2":
            folder.boxes_file("toy-1").unlink()
        return found

    gone = False
    monkeypatch.setattr(ResultFolder, "finished", check)
    run(job(tmp_path))
    assert sorted(checked) == ["toy-1", "toy-2"]
    gone = True
    assert list(run(job(tmp_path))[0].failures) == ["toy-1"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_file_system_without_locks_takes_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toy_tracker import ToySpec, write_benchmark

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    monkeypatch.setattr("fcntl.lockf", refuse)
    assert run(job(tmp_path, spec=ToySpec()))[0].tracked == 2


@pytest.mark.parametrize("weights", ["a", "b"])
def test_two_trackers_at_once_do_not_mix_their_results(tmp_path: Path, weights: str) -> None:
    from toy_tracker import ToySpec, write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    first = job(tmp_path, spec=ToySpec())
    before = boxes_of(run(first)[0])
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def track() -> None:
        with first.folder.claim(first.identity) as claim:
            try_lock(claim, shared=True)
            there.send("tracking")
            there.recv()

    other = context.Process(target=track)
    other.start()
    try:
        assert here.poll(60)
        here.recv()
        with first.folder.claim(first.identity, patience=0.0):  # the same tracker may share the work
            pass
        again = job(tmp_path, spec=ToySpec(weights=weights))
        if weights == "b":
            with pytest.raises(
                ResultsInUseError, match=r"synthetic: another process tracks .* a --runid or --save_dir"
            ):
                again.folder.claim(again.identity, patience=0.3)
            assert {name: boxes.tolist() for name, boxes in boxes_of(run(first)[0]).items()} == {
                name: boxes.tolist() for name, boxes in before.items()
            }
        else:
            assert run(again)[0].kept == 2
    finally:
        here.send("end")
        other.join()
    assert run(job(tmp_path, spec=ToySpec(weights="b")))[0].tracked == 2


def test_results_of_other_data_run_again(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    run(job(tmp_path))
    truth = folders["toy-2"] / "groundtruth.txt"
    truth.write_text(truth.read_text().replace("6,5,8,6", "7,5,8,6"))
    outcome, said = run(job(tmp_path))
    assert (outcome.tracked, outcome.kept) == (1, 1)
    assert "do not fit the data" in said
    assert "toy-2" in said


def test_rerun_tracks_everything_again(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    run(job(tmp_path))
    outcome, _ = run(job(tmp_path, rerun=True))
    assert (outcome.tracked, outcome.kept) == (2, 0)


@pytest.mark.parametrize("batch", [1, 4])
def test_failures_are_named_and_touch_no_other_sequence(tmp_path: Path, batch: int) -> None:
    from toy_tracker import mark, write_benchmark

    data = tmp_path / "data" / "synthetic"
    folders = write_benchmark(data, (6, 7, 8, 9, 10, 6, 7))
    clean, _ = run(job(tmp_path, run_id=1))
    (folders["toy-1"] / "img" / "00000003.jpg").unlink()
    corrupt = folders["toy-2"] / "img" / "00000004.jpg"
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    mark(folders["toy-3"], 5, 255)
    mark(folders["toy-4"], 2, 253)
    mark(folders["toy-7"], 4, 252)
    truth = folders["toy-5"] / "groundtruth.txt"
    truth.write_text(truth.read_text().replace("9,5,8,6", "9,5,0,6", 1))
    outcome, said = run(job(tmp_path, run_id=2, batch=batch))
    assert outcome.exit_code == 1
    assert set(outcome.failures) == {f"toy-{i}" for i in (1, 2, 3, 4, 5, 7)}
    assert "frame 2" in outcome.failures["toy-1"]
    assert "00000003.jpg" in outcome.failures["toy-1"]
    assert "00000004.jpg" in outcome.failures["toy-2"]
    assert "frame 5: RuntimeError: the toy does not like this picture" in outcome.failures["toy-3"]
    assert "frame 2" in outcome.failures["toy-4"]
    assert "nan" in outcome.failures["toy-4"]
    assert "frame 0" in outcome.failures["toy-5"]
    assert re.search(r"frame 4: the tracker gave the box .* with the score nan", outcome.failures["toy-7"])
    assert all(name in said for name in outcome.failures)
    np.testing.assert_array_equal(boxes_of(outcome)["toy-6"], boxes_of(clean)["toy-6"])
    assert set(boxes_of(outcome)) == {"toy-6"}
    assert json.loads((outcome.folder / "manifest.json").read_text())["state"] == "incomplete"
    assert not (outcome.folder / "scores.json").exists()


def test_a_first_box_outside_the_picture_is_a_failure_and_a_change_of_size_is_remarked_on(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (4, 5, 3))
    truth = folders["toy-1"] / "groundtruth.txt"
    truth.write_text(truth.read_text().replace("5,5,8,6", "40,5,8,6", 1))
    cv2.imwrite(str(folders["toy-2"] / "img" / "00000003.jpg"), np.full((48, 64, 3), 90, dtype=np.uint8))
    truth3 = folders["toy-3"] / "groundtruth.txt"
    truth3.write_text("\n".join(["0,0,0,0", *truth3.read_text().splitlines()[1:]]))
    outcome, said = run(job(tmp_path))
    assert outcome.failures.keys() == {"toy-1", "toy-3"}
    assert "toy-3 cannot be tracked: there is no target in its first frame" in said
    assert "frame 0: the box 40,5,8,6 (x,y,w,h) lies outside the picture" in outcome.failures["toy-1"]
    assert outcome.notes == {"toy-2": "frame 2: the picture changes its size from 32 x 24 to 64 x 48 pixels"}


def test_a_truth_that_cannot_be_scored_is_named_before_tracking_and_hides_no_other_score(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (4, 5, 3))
    truth = folders["toy-2"] / "groundtruth.txt"
    truth.write_text("\n".join([*truth.read_text().splitlines()[:3], "nan,nan,nan,nan", "6,5,8,6"]))
    outcome, said = run(job(tmp_path))
    assert outcome.scored is not None
    assert outcome.scored.filed.names == ("toy-1", "toy-3")
    assert (outcome.exit_code, outcome.tracked, outcome.failures) == (1, 3, {})
    assert outcome.unscored.keys() == {"toy-2"}
    assert "toy-2 cannot be scored by 'ostrack': NaN in the ground truth" in said
    stored = json.loads((outcome.folder / "scores.json").read_text())
    assert (set(stored["sequences"]), set(stored["unscored"])) == ({"toy-1", "toy-3"}, {"toy-2"})
    matlab, _ = run(job(tmp_path, metric="matlab"))
    assert (matlab.exit_code, matlab.kept, matlab.unscored) == (0, 3, {})


def test_a_repaired_sequence_is_all_that_runs_next_time(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (6, 7))
    picture = folders["toy-1"] / "img" / "00000003.jpg"
    good = picture.read_bytes()
    picture.unlink()
    assert run(job(tmp_path))[0].exit_code == 1
    picture.write_bytes(good)
    outcome, _ = run(job(tmp_path))
    assert (outcome.exit_code, outcome.tracked, outcome.kept) == (0, 1, 1)


@pytest.mark.slow
def test_a_run_that_kills_its_worker_twice_is_named_and_the_others_finish(tmp_path: Path) -> None:
    from toy_tracker import mark, write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (6, 7, 5))
    mark(folders["toy-2"], 3, 254)
    process = start(tmp_path, processes=2, batch=2)
    assert exit_code() == 1, process.said()
    folder, said = job(tmp_path, run_id=0).folder.path, process.said()
    failed = json.loads((folder / "manifest.json").read_text())["failed"]
    assert set(failed) == {"toy-2"}
    assert "SIGKILL" in failed["toy-2"]
    assert "given back" in said
    assert set(boxes_in(folder)) == {"toy-1", "toy-3"}


@pytest.mark.slow
def test_two_workers_give_the_same_files_and_a_killed_one_costs_its_rows_in_flight_alone(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (9, 8, 3, 4))
    release = [block(folders[name], 5) for name in ("toy-1", "toy-2")]  # one for each process
    process = start(tmp_path, processes=2)
    log = tmp_path / "log"
    wait_for(log)
    wait_until(
        lambda: len({line.split()[0] for line in log.read_text().splitlines()}) == 2, "two workers did not begin"
    )
    workers = {(line.split()[0], line.split()[2]) for line in log.read_text().splitlines()}
    (victim,) = [pid for pid, rank in workers if rank == "0"]
    os.kill(int(victim), signal.SIGKILL)
    for let_go in release:
        let_go()
    assert exit_code() == 0, process.said()
    said = process.said()
    assert "worker 0 ended (killed by SIGKILL) while tracking toy-" in said
    assert "4 sequences tracked" in said
    assert said.count("Synthetic, metric") == 1
    expected, _ = run(job(tmp_path, run_id=1))
    folder = job(tmp_path, run_id=0).folder.path
    assert_same(boxes_of(expected), boxes_in(folder))
    assert json.loads((folder / "manifest.json").read_text())["state"] == "complete"
    assert expected.scored is not None
    assert json.loads((folder / "scores.json").read_text())["headline"] == expected.scored.filed.headline
    starts = [line.split()[1] for line in log.read_text().splitlines()]
    assert len(starts) == 5, "only the killed row was tracked again"


@pytest.mark.slow
def test_ctrl_c_keeps_finished_results(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (9, 8, 3))
    release = block(folders["toy-1"], 5)
    process = start(tmp_path, processes=2)
    folder = job(tmp_path, run_id=0).folder.path
    wait_for(folder / "toy-3.txt")
    os.kill(process.pid, signal.SIGINT)
    wait_until(lambda: "stopped" in process.said(), "the command did not stop")
    release()  # so that the thread that reads the picture can end
    assert exit_code() == 130, process.said()
    assert process.said().count("stopped") == 1
    assert (folder / "toy-2.txt").exists()
    assert not (folder / "toy-1.txt").exists()


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (12, 3))
    release = block(folders["toy-2"], 1)  # the run is in the middle of toy-2 when it is killed
    process = start(tmp_path)
    folder = job(tmp_path, run_id=0).folder.path
    wait_for(folder / "toy-1.txt")
    os.kill(process.pid, signal.SIGKILL)
    assert exit_code() == -signal.SIGKILL
    before = (folder / "toy-1.txt").stat().st_mtime_ns
    release()
    outcome, _ = run(job(tmp_path, run_id=0))
    assert (outcome.exit_code, outcome.tracked, outcome.kept) == (0, 1, 1)
    assert (folder / "toy-1.txt").stat().st_mtime_ns == before
    assert set(boxes_of(outcome)) == {"toy-1", "toy-2"}


def test_selected_sequences_only_and_unknown_names_are_reported(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    outcome, _ = run(job(tmp_path, names=("1",)))
    assert set(boxes_of(outcome)) == {"toy-2"}
    assert not (outcome.folder / "scores.json").exists()
    outcome, _ = run(job(tmp_path, names=("TOY-1",)))
    assert [s.name for s in outcome.sequences] == ["toy-1"]
    with pytest.raises(ValueError, match="no sequence 'toy-3'; did you mean"):
        run(job(tmp_path, names=("toy-3",)))


def test_a_picture_that_is_no_picture_is_named(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (4,))
    (folders["toy-1"] / "img" / "00000001.jpg").write_bytes(b"not a jpeg")
    outcome, _ = run(job(tmp_path))
    assert "00000001.jpg" in outcome.failures["toy-1"]
    assert cv2.imread(str(folders["toy-1"] / "img" / "00000002.jpg")) is not None


def test_frames_are_decoded_by_the_decoder_of_the_tracker(tmp_path: Path) -> None:
    from toy_tracker import ToySpec, write_benchmark

    class Bright(ToySpec):
        def jpeg_decoder(self, slot: int) -> Callable[[bytes], np.ndarray]:
            return lambda data: np.full((24, 32, 3), 200, np.uint8)

    write_benchmark(tmp_path / "data" / "synthetic", (4,))
    outcome, _ = run(job(tmp_path, spec=Bright()))
    np.testing.assert_allclose(np.diff(boxes_of(outcome)["toy-1"][:, 1]), 0.2, atol=1e-3)


def test_pictures_are_decoded_on_a_gpu_in_the_fast_protocol_alone() -> None:
    for protocol in ("official", "fast"):
        spec = TrackerSpec(reference="static", protocol=protocol, device="cpu", decode="gpu")
        with pytest.raises(ValueError, match="--decode gpu changes pixels by a few levels and needs a GPU"):
            spec.resolve(load_paths())
