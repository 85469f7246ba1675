"""Runs that a protocol restarts inside a running batch, and results of polygons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed import HashStore

from lib.bench import Result, ResultFolder, Runner, Summary, Supervised, Team, WorkQueue, read_boxes, read_rows
from lib.bench.vot import read_regions
from lib.data import Frame, Video
from lib.track import Prediction, State, Tracker

FRAMES, BOX = 14, (4.0, 5.0, 8.0, 6.0)
SPEEDS = {"still": 0, "slow": 3, "quick": 4}
"""Pixels per frame that the tracker drifts, given by the picture's grey value; the target stands still."""
MARKS = {
    "still": [1, *[-1] * 13],
    "slow": [1, -1, -1, 2, 0, 0, 0, 0, 1, -1, -1, 2, 0, 0],
    "quick": [1, -1, 2, 0, 0, 0, 0, 1, -1, 2, 0, 0, 0, 0],
}


@dataclass
class DriftState(State):
    """boxes_xywh: [B, 4]."""

    boxes_xywh: Tensor


class DriftTracker(Tracker):
    """Its boxes move by the picture's grey value in every frame. rows: the sizes of the batches it was given."""

    gives_regions = frozenset({"polygon"})

    def __init__(self) -> None:
        self.rows: list[int] = []

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> DriftState:
        return DriftState(boxes_xywh.clone())

    def step(self, state: State, frames: Sequence[Frame], policy: object = None) -> tuple[DriftState, Prediction]:
        assert isinstance(state, DriftState)
        self.rows.append(len(frames))
        boxes = state.boxes_xywh.clone()
        boxes[:, 0] += torch.tensor([float(f.rgb[0, 0, 0]) for f in frames], dtype=torch.float64)
        x, y, w, h = boxes.T
        corners = torch.stack([x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h / 2], dim=1)
        polygons = corners.reshape(-1, 4, 2) if "polygon" in self.regions else None
        return replace(state, boxes_xywh=boxes), Prediction(boxes.clone(), torch.ones(len(frames)), polygons=polygons)


def video(name: str, speed: int) -> Video:
    grey = np.full((32, 64, 3), speed, dtype=np.uint8)
    seen = np.ones(FRAMES, dtype=bool)
    return Video(name, np.tile(BOX, (FRAMES, 1)), seen, seen, lambda i: Frame(grey), lambda i: f"{name}/{i}")


def track(batch: int, tracker: Tracker, protocol: Supervised, speeds: Mapping[str, int] = SPEEDS) -> dict[str, Result]:
    found: dict[str, Result] = {}

    def keep(result: Result) -> Summary:
        found[result.name] = result
        return Summary()

    work = WorkQueue(Team(HashStore()), list(speeds), keep)
    Runner(tracker, lambda name: (video(name, speeds[name]), 0), work, batch, protocol).run()
    assert work.over()
    return found


def test_rows_restart_while_others_run_and_a_batch_changes_nothing() -> None:
    tracker = DriftTracker()
    together, alone = track(3, tracker, Supervised()), track(1, DriftTracker(), Supervised())
    assert tracker.rows[0] == 3, "the rows did not run together"
    for name, marks in MARKS.items():
        assert together[name].marks is not None
        assert together[name].marks.tolist() == marks, name
        np.testing.assert_array_equal(together[name].boxes_xywh, alone[name].boxes_xywh)
        assert alone[name].marks is not None
        assert alone[name].marks.tolist() == marks
        again = [i for i, mark in enumerate(marks) if mark == 1]
        assert together[name].boxes_xywh[again].tolist() == [list(BOX)] * len(again)
        np.testing.assert_array_equal(np.isnan(together[name].boxes_xywh[:, 0]), np.isin(marks, (0, 2)))


@pytest.mark.parametrize("polygons", [False, True])
def test_files_of_supervised_runs_have_marks_and_4_or_8_numbers(tmp_path: Path, polygons: bool) -> None:
    tracker = DriftTracker()
    if polygons:
        tracker.request_regions("polygon")
    result = replace(track(3, tracker, Supervised())["quick"], name="quick_001")
    assert (result.corners is None) is not polygons
    folder = ResultFolder(tmp_path, "vot_polygon" if polygons else "vot")
    folder.write(result)
    path = tmp_path / "quick" / "quick_001.txt"
    first, second, third, fourth = path.read_text().splitlines()[:4]
    assert (first, third, fourth) == ("1", "2", "0")
    line = "12.0000,5.0000,16.0000,8.0000,12.0000,11.0000,8.0000,8.0000" if polygons else "8.0000,5.0000,8.0000,6.0000"
    assert second == line
    marks = [int(line) if line.isdigit() else -1 for line in path.read_text().splitlines()]
    assert marks == MARKS["quick"]
    np.testing.assert_allclose(read_regions(path)[1], [8, 5, 8, 6])
    assert folder.finished(replace(video("quick_001", 4), name="quick_001"))
    np.testing.assert_allclose(read_boxes(folder.path / "float" / "quick_001.txt")[8], [8, 5, 8, 6])


def test_a_format_of_corners_takes_boxes_too(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path, "polygon")
    folder.write(Result("a", np.array([[1.0, 2, 3, 4], [1.5, 2, 3, 4]]), np.ones(2), np.ones(2)))
    assert read_rows(tmp_path / "a.txt")[1].tolist() == [1.5, 2, 4.5, 2, 4.5, 6, 1.5, 6]
    assert read_boxes(tmp_path / "a.txt")[0].tolist() == [1, 2, 3, 4]


def test_a_run_that_fails_on_its_first_tracked_frame() -> None:
    marks = track(2, DriftTracker(), Supervised(skip=3), {"lost": 50, "still": 0})["lost"].marks
    assert marks is not None
    assert marks.tolist() == [1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2]


def test_a_start_waits_for_a_target_in_the_picture() -> None:
    box, away = np.array([20.0, 20.0, 12.0, 10.0]), np.array([80.0, 50.0, 5.0, 5.0])
    truth = np.tile(box, (30, 1))
    truth[[4, 12]] = np.nan
    truth[13] = [30.0, 20.0, 0.0, 5.0]
    truth[14] = [-40.0, 20.0, 12.0, 10.0]
    truth[15] = [100.0, 20.0, 12.0, 10.0]
    known = np.ones(30, dtype=bool)
    video = Video("a", truth, known, known, lambda i: Frame(np.zeros((60, 100, 3), np.uint8)), str)
    protocol = Supervised()
    assert protocol.restart(video, 3, (100, 60), box) is None
    assert protocol.restart(video, 4, (100, 60), away) is None, "nothing is known of this frame"
    for frame, expected in ((3, 8), (7, 16), (8, 16), (24, 29), (25, 30), (29, 30)):
        assert protocol.restart(video, frame, (100, 60), away) == expected
    truth[10:] = np.nan
    assert protocol.restart(video, 8, (100, 60), away) == 30, "the run is over"
