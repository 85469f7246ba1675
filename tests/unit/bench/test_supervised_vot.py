"""VOT2018 on disk, tracked by a toy with restarts: files as the challenge's toolkit writes them, and their scores."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from lib.bench import EvalJob, Outcome, read_results, run_evaluation
from lib.bench.benchmarks import get_benchmark
from lib.bench.metrics import polygon_overlap
from tests.unit.bench.toy_tracker import ToySpec, paths_at

FRAMES = {"a": 40, "b": 17, "c": 30}


def write_tree(root: Path) -> Path:
    """Targets that stand still, polygons in "a" and "c", a box in "b"; the toy drifts away to the right."""
    for number, (name, frames) in enumerate(FRAMES.items()):
        (root / name / "color").mkdir(parents=True)
        for i in range(frames):
            picture = np.full((60, 100, 3), 60 + 20 * number + i, np.uint8)
            cv2.imwrite(str(root / name / f"color/{i + 1:08d}.jpg"), picture)
        row = "20,20,12,10" if name == "b" else "20.5,20,32,22.25,31,34,19,31.5"
        (root / name / "groundtruth.txt").write_text(f"{row}\n" * frames)
    (root / "list.txt").write_text("".join(f"{name}\n" for name in FRAMES))
    return root


def tracked(tmp: Path, **changes: object) -> Outcome:
    job = EvalJob(ToySpec(), get_benchmark("vot2018_supervised"), paths_at(tmp), metric_options={"low": 5, "high": 20})
    return run_evaluation(replace(job, **changes), Console(file=StringIO(), width=200))  # type: ignore[arg-type]


def test_runs_start_again_and_are_scored_from_their_files_alone(tmp_path: Path) -> None:
    write_tree(tmp_path / "data/vot2018")
    outcome = tracked(tmp_path, batch=2)
    assert outcome.exit_code == 0
    assert outcome.scored is not None
    failures = 0
    for name, frames in FRAMES.items():
        lines = (outcome.folder / name / f"{name}_001.txt").read_text().splitlines()
        assert len(lines) == frames
        assert lines[0] == "1"
        failed = [i for i, line in enumerate(lines) if line == "2"]
        failures += len(failed)
        for i in failed:
            assert lines[i + 1 : i + 5] == ["0"] * len(lines[i + 1 : i + 5])
            assert lines[i + 5 : i + 6] == ["1"] * len(lines[i + 5 : i + 6])
        assert {line.count(",") for line in lines if "," in line} == {7}
    assert failures > 2
    headline = outcome.scored.filed.headline
    assert headline["robustness"] == pytest.approx(100 * failures / sum(FRAMES.values()))
    assert 0 < headline["eao"] < 100
    # Accuracy by hand, ten frames from each initialisation left out.
    overlaps = []
    for video in get_benchmark("vot2018_supervised").sequences(paths_at(tmp_path)):
        found = read_results(outcome.folder, video)[0]
        assert found.marks is not None
        assert video.corners is not None
        inside = polygon_overlap(found.boxes_xywh, video.corners, (100, 60))
        for start in np.flatnonzero(found.marks == 1):
            inside[start : start + 10] = np.nan
        overlaps += inside[~np.isnan(inside)].tolist()
    assert headline["accuracy"] == pytest.approx(100 * np.mean(overlaps) if overlaps else 0.0)


def test_a_batch_with_restarts_writes_what_runs_alone_write(tmp_path: Path) -> None:
    write_tree(tmp_path / "data/vot2018")
    alone, together = (tracked(tmp_path, batch=b, run_id=b).folder for b in (1, 3))
    for name in FRAMES:
        file = f"{name}/{name}_001.txt"
        assert (alone / file).read_text() == (together / file).read_text()


def test_trackers_are_given_a_box_of_the_polygons_area(tmp_path: Path) -> None:
    write_tree(tmp_path / "data/vot2018")
    first, second, _ = get_benchmark("vot2018_supervised").sequences(paths_at(tmp_path))
    assert second.boxes_xywh[0].tolist() == [20, 20, 12, 10]
    x, y, w, h = first.boxes_xywh[0]
    corners = np.array([20.5, 20, 32, 22.25, 31, 34, 19, 31.5]).reshape(4, 2)
    np.testing.assert_allclose([x + (w - 1) / 2, y + (h - 1) / 2], corners.mean(axis=0))
    area = np.linalg.norm(corners[0] - corners[1]) * np.linalg.norm(corners[1] - corners[2])
    assert (w - 1) * (h - 1) == pytest.approx(area)
    assert (w - 1) / (h - 1) == pytest.approx(13 / 14)
