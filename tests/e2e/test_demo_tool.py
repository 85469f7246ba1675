"""tracking/demo.py as a user calls it, with a small network of random weights."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lib.methods import load_experiment
from lib.models import save_release
from tests.support.commands import REPOSITORY, run_python


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    experiment = load_experiment("ostrack", "synthetic_small")
    network = experiment.method.build_network(experiment.config, False)
    named = {"script": "ostrack", "config_name": "synthetic_small"}
    return save_release(tmp_path_factory.mktemp("weights") / "small", network.state_dict(), named)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for i in range(8):
        image = np.full((120, 160, 3), 90, np.uint8)
        image[40:70, 30 + 2 * i : 60 + 2 * i] = (20, 20, 220)
        writer.write(image)
    writer.release()
    return path


def demo(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("DISPLAY", None)
    environment.pop("WAYLAND_DISPLAY", None)
    return run_python(["tracking/demo.py", *arguments], environment, cwd)


def test_video_in_video_and_boxes_out(weights: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.mp4"
    done = demo(clip, "--init", "30,40,30,30", "--checkpoint", weights, "--output", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "160 x 120, 8 frames" in done.stdout
    assert "cpu, float32" in done.stdout
    boxes = np.loadtxt(out.with_suffix(".txt"), delimiter=",")
    assert boxes.shape == (8, 4)
    assert boxes[0].tolist() == [30, 40, 30, 30]
    written = next(line.split()[-1] for line in done.stdout.splitlines() if line.startswith("video:"))
    video = cv2.VideoCapture(written)
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 8
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (160, 120)


def test_a_webcam_without_a_box_is_answered_with_the_mouse(tmp_path: Path) -> None:
    done = demo("0")
    assert done.returncode == 2
    assert "the target's box in the first frame is needed: --init mouse draws it" in done.stderr
    assert "x,y,w,h" in demo("clip.mp4").stderr.splitlines()[-1]


def test_folders_of_one_name_write_two_videos(weights: Path, tmp_path: Path) -> None:
    for parent in ("one", "two"):
        folder = tmp_path / parent / "img"
        folder.mkdir(parents=True)
        for i in range(1, 3):
            cv2.imwrite(str(folder / f"{i:04d}.png"), np.full((120, 160, 3), 90, np.uint8))
        done = demo(folder, "--init", "40,40,30,30", "--checkpoint", weights, "--device", "cpu", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    written = {path.stem for path in (tmp_path / "output" / "tracked").iterdir()}
    assert written == {"one-img", "two-img"}


def test_mistakes_are_reported_in_one_line(weights: Path, clip: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((clip, "--init", "300,40,30,30"), "160 x 120"),
        ((clip, "--init", "mouse"), "screen"),
        ((tmp_path / "gone.mp4", "--init", "1,2,3,4"), "no such video"),
        ((clip, "--init", "1,2,3"), "x,y,w,h"),
    ):
        done = demo(*arguments, "--checkpoint", weights, "--boxes", tmp_path / "b.txt", "--no_video", "--device", "cpu")
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "b.txt").exists()
