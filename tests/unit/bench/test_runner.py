"""What a user would suffer from while a benchmark runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from lib.bench import Evaluation, Outcome, read_boxes, run_evaluation
from lib.bench.benchmarks import get_benchmark

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes find the toy by its name."""
    monkeypatch.syspath_prepend(str(HERE))


def job(tmp: Path, **changes: object) -> Evaluation:
    from toy_tracker import ToyFactory, paths_at

    return replace(Evaluation(ToyFactory(), get_benchmark("synthetic"), paths_at(tmp)), **changes)  # type: ignore[arg-type]


def run(evaluation: Evaluation) -> tuple[Outcome, str]:
    text = StringIO()
    outcome = run_evaluation(evaluation, Console(file=text, width=200))
    return outcome, text.getvalue()


def boxes_of(outcome: Outcome) -> dict[str, np.ndarray]:
    return {p.stem: read_boxes(p) for p in sorted((outcome.folder / "float").glob("*.txt"))}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_any_batch_and_any_number_of_workers_give_the_same_files(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic")
    reference, _ = run(job(tmp_path, run_id=0))
    expected = boxes_of(reference)
    assert {n: len(b) for n, b in expected.items()} == {f"toy-{i}": n for i, n in enumerate((5, 9, 3, 7, 12, 4), 1)}
    assert not np.array_equal(expected["toy-5"][-1], expected["toy-5"][0])
    for number, (batch, workers) in enumerate(((2, 0), (4, 0), (6, 0), (2, 2)), 1):
        outcome, _ = run(job(tmp_path, run_id=number, batch=batch, workers=workers))
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
    from toy_tracker import ToyFactory, write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    log = tmp_path / "log"
    first, _ = run(job(tmp_path, factory=ToyFactory(log=log)))
    again, said = run(job(tmp_path, factory=ToyFactory(log=log)))
    assert len(log.read_text().splitlines()) == 2
    assert (again.tracked, again.kept) == (0, 2)
    assert "finished already" in said
    old = boxes_of(first)
    changed, said = run(job(tmp_path, factory=ToyFactory("b", speed=2.0, log=log)))
    assert "other weights" in said
    assert "stale-" in said
    assert len(log.read_text().splitlines()) == 4
    assert not np.array_equal(boxes_of(changed)["toy-1"], old["toy-1"])
    aside = next(changed.folder.glob("stale-*"))
    np.testing.assert_array_equal(read_boxes(aside / "float" / "toy-1.txt"), old["toy-1"])
    assert len(list(changed.folder.glob("toy-?.txt"))) == 2


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
    folders = write_benchmark(data, (6, 7, 8, 9, 10, 6))
    clean, _ = run(job(tmp_path, run_id=1))
    (folders["toy-1"] / "img" / "00000003.jpg").unlink()
    corrupt = folders["toy-2"] / "img" / "00000004.jpg"
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    mark(folders["toy-3"], 5, 255)
    mark(folders["toy-4"], 2, 253)
    truth = folders["toy-5"] / "groundtruth.txt"
    truth.write_text(truth.read_text().replace("9,5,8,6", "9,5,0,6", 1))
    outcome, said = run(job(tmp_path, run_id=2, batch=batch))
    assert outcome.exit_code == 1
    assert set(outcome.failures) == {f"toy-{i}" for i in range(1, 6)}
    assert "frame 2" in outcome.failures["toy-1"]
    assert "00000003.jpg" in outcome.failures["toy-1"]
    assert "00000004.jpg" in outcome.failures["toy-2"]
    assert "frame 5: RuntimeError: the toy does not like this picture" in outcome.failures["toy-3"]
    assert "frame 2" in outcome.failures["toy-4"]
    assert "nan" in outcome.failures["toy-4"]
    assert "frame 0" in outcome.failures["toy-5"]
    assert all(name in said for name in outcome.failures)
    np.testing.assert_array_equal(boxes_of(outcome)["toy-6"], boxes_of(clean)["toy-6"])
    assert set(boxes_of(outcome)) == {"toy-6"}
    assert json.loads((outcome.folder / "manifest.json").read_text())["state"] == "incomplete"
    assert not (outcome.folder / "scores.json").exists()


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


def test_a_dying_worker_is_named_and_the_others_finish(tmp_path: Path) -> None:
    from toy_tracker import mark, write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (6, 7, 5))
    mark(folders["toy-2"], 3, 254)
    outcome, said = run(job(tmp_path, workers=2, batch=2))
    assert set(outcome.failures) == {"toy-2"}
    assert "SIGKILL" in outcome.failures["toy-2"]
    assert "given back" in said
    assert set(boxes_of(outcome)) == {"toy-1", "toy-3"}


SCRIPT = """
import sys
sys.path[:0] = [{here!r}, {repository!r}]
from pathlib import Path
from rich.console import Console
from toy_tracker import ToyFactory, paths_at
from lib.bench.benchmarks import get_benchmark
from lib.bench.evaluation import Evaluation, run_evaluation
tmp = Path({tmp!r})
run_evaluation(Evaluation(ToyFactory(log=tmp / "log"), get_benchmark("synthetic"), paths_at(tmp)), Console())
"""


def test_kill_9_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    from toy_tracker import ToyFactory, write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (12, 3))
    blocked = folders["toy-2"] / "img" / "00000002.jpg"
    good = blocked.read_bytes()
    blocked.unlink()
    os.mkfifo(blocked)  # reading it waits for ever: the run is in the middle of toy-2 when it is killed
    code = SCRIPT.format(here=str(HERE), repository=str(REPOSITORY), tmp=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code])
    folder = job(tmp_path).folder.path
    deadline = time.monotonic() + 60
    while not (folder / "toy-1.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = (folder / "toy-1.txt").stat().st_mtime_ns
    blocked.unlink()
    blocked.write_bytes(good)
    outcome, _ = run(job(tmp_path, factory=ToyFactory(log=tmp_path / "log")))
    assert (outcome.exit_code, outcome.tracked, outcome.kept) == (0, 1, 1)
    assert (folder / "toy-1.txt").stat().st_mtime_ns == before
    assert set(boxes_of(outcome)) == {"toy-1", "toy-2"}


def test_selected_sequences_only_and_unknown_names_are_told(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    write_benchmark(tmp_path / "data" / "synthetic", (4, 3))
    outcome, _ = run(job(tmp_path, names=("1",)))
    assert set(boxes_of(outcome)) == {"toy-2"}
    assert not (outcome.folder / "scores.json").exists()
    with pytest.raises(ValueError, match="no sequence 'toy-3'; did you mean"):
        run(job(tmp_path, names=("toy-3",)))


def test_a_picture_that_is_no_picture_is_named(tmp_path: Path) -> None:
    from toy_tracker import write_benchmark

    folders = write_benchmark(tmp_path / "data" / "synthetic", (4,))
    (folders["toy-1"] / "img" / "00000001.jpg").write_bytes(b"not a jpeg")
    outcome, _ = run(job(tmp_path))
    assert "00000001.jpg" in outcome.failures["toy-1"]
    assert cv2.imread(str(folders["toy-1"] / "img" / "00000002.jpg")) is not None
