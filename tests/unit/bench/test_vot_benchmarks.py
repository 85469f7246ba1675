"""DepthTrack and VOT-RGBD2022 on disk, tracked by a toy: runs from anchors, resuming, what a user can get wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lib.bench import (
    EvalJob,
    FolderFiles,
    Outcome,
    ResultSource,
    Scoring,
    find_results,
    load_runs,
    read_results,
    run_evaluation,
    write_videos,
)
from lib.bench.benchmarks import BenchmarkError, get_benchmark
from lib.bench.report import export
from tests.unit.bench.toy_tracker import ToySpec, paths_at
from tests.unit.bench.vot_tree import SMALL, write_sequence, write_tree

RUNS = {"a_00000000": 8, "a_00000004": 5, "a_00000007": 8, "b_00000000": 5, "b_00000003": 4}


def tracked(tmp: Path, benchmark: str, **changes: object) -> Outcome:
    job = EvalJob(ToySpec(), get_benchmark(benchmark), paths_at(tmp))
    return run_evaluation(replace(job, **changes), Console(file=StringIO(), width=200))  # type: ignore[arg-type]


def test_every_anchor_is_a_run_forward_or_backward(tmp_path: Path) -> None:
    write_tree(tmp_path / "data/vot_rgbd22")
    first, second = get_benchmark("votrgbd2022").sequences(paths_at(tmp_path))
    assert [*first.run_names, *second.run_names] == list(RUNS)
    assert first.passes == (range(8), range(4, -1, -1), range(7, -1, -1))
    backward = first.runs[1]
    assert backward.boxes_xywh[0].tolist() == [9.25, 8, 12, 10]
    assert backward.frame_path(4).endswith("a/color/00000001.jpg")
    assert backward.read_frame(4).rgb.mean() < backward.read_frame(0).rgb.mean()
    (tmp_path / "data/vot_rgbd22/a/occlusion.tag").write_text("0\n1\n")
    (tmp_path / "data/vot_rgbd22/a/size-change.tag").write_text("0\n0\n")
    tagged = get_benchmark("vot_rgbd22").sequences(paths_at(tmp_path))
    assert [sorted(s.attributes) for s in tagged] == [["occlusion"], []]


@pytest.mark.parametrize("batch", [1, 3])
def test_runs_are_the_rows_of_a_batch_and_each_is_kept(tmp_path: Path, batch: int) -> None:
    root = write_tree(tmp_path / "data/vot_rgbd22")
    outcome = tracked(tmp_path, "vot_rgbd22", batch=batch, metric_options={"low": 2, "high": 5})
    assert outcome.exit_code == 0
    assert outcome.tracked == len(RUNS)
    for run, frames in RUNS.items():
        place = outcome.folder / run[0]
        assert len((place / f"{run}.txt").read_text().splitlines()) == frames
        assert len((place / f"{run}_confidence.value").read_text().split("\n")) == frames + 1
    assert outcome.scored is not None
    assert 0 < outcome.scored.filed.headline["eao"] < 100
    assert outcome.scored.notes[0] == "these are 2 sequences, VOT-RGBD2022 has 127"
    assert outcome.scored.plain()["metric_options"] == {"low": 2, "high": 5}

    (outcome.folder / "a/a_00000004.txt").unlink()
    again = tracked(tmp_path, "vot_rgbd22", batch=batch)
    assert (again.tracked, again.kept) == (1, 4)
    (root / "b/color/00000002.jpg").write_bytes(b"no picture")
    broken = tracked(tmp_path, "vot_rgbd22", rerun=True)
    assert sorted(broken.failures) == ["b_00000000", "b_00000003"]
    assert [s.name for s in broken.finished] == ["a"]


def test_batches_give_the_files_of_one_run_at_a_time(tmp_path: Path) -> None:
    write_tree(tmp_path / "data/vot_rgbd22")
    alone, together = (tracked(tmp_path, "vot_rgbd22", batch=b, run_id=b).folder for b in (1, 5))
    for run in RUNS:
        assert (alone / run[0] / f"{run}.txt").read_text() == (together / run[0] / f"{run}.txt").read_text()


def test_confidence_is_kept_next_to_depthtracks_boxes(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data/depthtrack/test")
    (root / "a/groundtruth.txt").write_text("5,8,12,10\n" * 5 + "NaN,NaN,NaN,NaN\n" * 3)
    outcome = tracked(tmp_path, "depthtrack")
    assert outcome.scored is not None
    assert set(outcome.scored.filed.headline) == {"f_score", "precision", "recall"}
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    assert manifest["second_picture"] == {"kind": "depth", "clip": True, "style": "colormap"}
    assert (outcome.folder / "a/a_001_confidence.value").read_text().split("\n")[:2] == ["", "0.5"]
    (sequence, _) = outcome.sequences
    assert sequence.present is not None
    assert sequence.present.tolist() == [True] * 5 + [False] * 3
    rescored = tracked(tmp_path, "depthtrack", metric="matlab").scored
    assert rescored is not None
    assert rescored.filed.headline["auc"] > 0
    (result,) = read_results(outcome.folder, sequence)
    assert result.scores[1] == 0.5
    assert write_videos(outcome.sequences, {"toy": outcome.folder}, tmp_path / "v", ["a"])[0].stat().st_size > 0


@pytest.mark.slow
def test_results_of_the_toolkit_and_flat_ones_are_compared(tmp_path: Path) -> None:
    write_tree(tmp_path / "data/depthtrack/test")
    outcome = tracked(tmp_path, "depthtrack")
    flat = tmp_path / "flat"
    (flat / "scores").mkdir(parents=True)
    for name in SMALL:
        shutil.copy(outcome.folder / f"{name}/{name}_001.txt", flat / f"{name}.txt")
        shutil.copy(outcome.folder / f"{name}/{name}_001_confidence.value", flat / f"scores/{name}_confidence.txt")
    sources = [ResultSource("kit", (outcome.folder,)), ResultSource("flat", (flat,))]
    runs = load_runs(sources, outcome.sequences, Scoring("vot_longterm"))
    assert runs[0].scores.headline == runs[1].scores.headline
    written = {path.name for path in export(runs, {}, tmp_path / "report")}
    assert {"f_score_plot.png", "precision_recall_plot.png", "scores.csv"} <= written


def test_a_sequence_without_one_of_its_runs_has_no_result(tmp_path: Path) -> None:
    write_tree(tmp_path / "data/vot_rgbd22")
    outcome = tracked(tmp_path, "vot_rgbd22")
    (outcome.folder / "a/a_00000007.txt").unlink()
    assert [len(find_results(FolderFiles(outcome.folder), s)) for s in outcome.sequences] == [0, 2]
    with pytest.raises(FileNotFoundError, match="no result for 1 of 2 sequences: a"):
        load_runs([ResultSource("kit", (outcome.folder,))], outcome.sequences, Scoring("vot_multistart"))


def test_without_a_list_every_folder_counts(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data/vot_rgbd22")
    (root / "list.txt").write_text("b\n")
    benchmark = get_benchmark("vot_rgbd22")
    assert benchmark.names(paths_at(tmp_path)) == ["b"]
    (root / "list.txt").unlink()
    assert benchmark.names(paths_at(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: (a / "anchor.value").unlink(), "a: no .*a/anchor.value .a number per frame: 1 start forward"),
        (lambda a: (a / "anchor.value").write_text("0\n" * 8), "anchor.value: no anchor, all values are 0"),
        (lambda a: write_absent(a), "an anchor on frame 4, which has no box"),
    ],
)
def test_anchors_that_cannot_be_used_are_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    root = write_tree(tmp_path / "data/vot_rgbd22")
    damage(root / "a")
    with pytest.raises(BenchmarkError, match=message):
        get_benchmark("vot_rgbd22").sequences(paths_at(tmp_path))


def write_absent(folder: Path) -> None:
    shutil.rmtree(folder)
    write_sequence(folder, SMALL["a"], absent=[4])


def test_a_first_frame_without_a_box_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data/depthtrack/test")
    (root / "a/groundtruth.txt").write_text("nan,nan,nan,nan\n" + "1,2,3,4\n" * 7)
    with pytest.raises(BenchmarkError, match="a: the first frame has no box to start on"):
        get_benchmark("depthtrack").sequences(paths_at(tmp_path))
