"""docs/own_data.md in miniature: own videos and frames are tracked, scored, shown, annotated and trained on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.e2e.support import command


def scene(index: int) -> np.ndarray:
    """A textured square that moves 3 pixels per frame over noise; its box is `box(index)`."""
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 120, (120, 160, 3), dtype=np.uint8)
    x, y, w, h = box(index)
    picture[y : y + h, x : x + w] = rng.integers(120, 255, (h, w, 3), dtype=np.uint8)
    return picture


def box(index: int) -> list[int]:
    return [20 + 3 * index, 40 + index, 36, 30]


def write_clip(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for i in range(count):
        writer.write(scene(i))
    writer.release()


def rows(count: int) -> str:
    return "".join(",".join(map(str, box(i))) + "\n" for i in range(count))


@pytest.mark.slow
def test_own_videos_are_tracked_scored_and_shown(tmp_path: Path) -> None:
    data = tmp_path / "my videos"
    write_clip(data / "clip.avi", 12)
    (data / "clip.txt").write_text(rows(12))
    write_clip(data / "started.avi", 8)
    (data / "started.txt").write_text(rows(1))
    where = ("--dataset", f"FOLDER:{data}", "--save_dir", tmp_path / "out")
    said = command("test", "ostrack", "synthetic_small", *where, code=1)
    assert "only 1 of 2 sequences" in said
    assert "started: NaN in the ground truth of 7 of 8 frames" in said
    (results,) = (tmp_path / "out" / "test" / "tracking_results" / "ostrack" / "synthetic_small").iterdir()
    assert len(np.loadtxt(results / "started.txt", delimiter=",")) == 8
    said = command("analysis_results", "ostrack", "synthetic_small", *where, "--report", tmp_path / "report", code=1)
    assert "started of synthetic_small cannot be scored" in said
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "clip" in page


@pytest.mark.slow
def test_a_video_becomes_data_that_a_shipped_tracker_is_fine_tuned_on(tmp_path: Path) -> None:
    """The commands of docs/own_data.md, without a screen."""
    write_clip(tmp_path / "clip.avi", 30)
    first = ",".join(map(str, box(0)))
    mine, video = tmp_path / "mine", tmp_path / "look.mp4"
    said = command("annotate", tmp_path / "clip.avi", "--init", first, "--output", mine, "--video", video)
    assert "clip" in said
    assert len(list((mine / "clip").glob("*.jpg"))) == 30
    found = np.loadtxt(mine / "clip" / "groundtruth.txt", delimiter=",")
    centres = found[:, :2] + found[:, 2:] / 2
    true = np.array([box(i) for i in range(30)], dtype=float)
    assert np.abs(centres - true[:, :2] - true[:, 2:] / 2).max() < 20
    assert "is there already" in command("annotate", tmp_path / "clip.avi", "--init", first, "--output", mine, code=2)
    command("annotate", tmp_path / "clip.avi", "--init", first)
    assert len(np.loadtxt(tmp_path / "clip.txt", delimiter=",")) == 30
    command("check_data", f"FOLDER:{mine}", "--full")
    small = (
        "DATA.TRAIN.SAMPLE_PER_EPOCH=16",
        "TRAIN.BATCH_SIZE=8",
        "TRAIN.EPOCH=1",
        "TEST.EPOCH=1",
        "TRAIN.NUM_WORKER=0",
    )
    data = f"DATA.TRAIN.DATASETS_NAME=['FOLDER:{mine}', 'SYNTHETIC:seed=1,sequences=4']"
    experiment = ("--script", "ostrack", "--config", "own_data", "--mode", "single", "--save_dir", tmp_path / "out")
    command("train", *experiment, "--set", *small, data)
    where = ("--dataset", f"FOLDER:{mine}", "--save_dir", tmp_path / "out")
    command("test", "ostrack", "synthetic_small", *where)
    command("test", "ostrack", "own_data", *where, "--set", "TEST.EPOCH=1")
    said = command("analysis_results", "ostrack", "synthetic_small", "own_data", *where)
    assert "own_data" in said


@pytest.mark.slow
def test_boxes_of_other_programs_become_own_data(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", 6)
    shapes = "".join(
        f'<box frame="{i}" outside="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
        for i in (0, 5)
        for x, y, w, h in [box(i)]
    )
    (tmp_path / "cvat.xml").write_text(f'<annotations><track id="0" label="car">{shapes}</track></annotations>')
    command("annotate", tmp_path / "clip.avi", "--cvat", tmp_path / "cvat.xml", "--output", tmp_path / "mine")
    found = np.loadtxt(tmp_path / "mine" / "clip" / "groundtruth.txt", delimiter=",")
    np.testing.assert_allclose(found, [box(i) for i in range(6)])
