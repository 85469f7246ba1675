"""A working directory as a user has it: a clip, a small synthetic benchmark, and a folder of somebody's results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lib.bench import read_boxes, write_boxes
from lib.viz import VideoWriter
from synthetic import Job, SyntheticWorld, WorldConfig, write_benchmark

CONFIG = WorldConfig(length=4, width=160, height=120)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clip.mp4`, `data/synthetic/test` with two sequences, and `other_trackers/theirs` with their true boxes.

    `data/synthetic/train` and `my_videos` are for training.
    """
    folder = tmp_path_factory.mktemp("work")
    world = SyntheticWorld(5, CONFIG)
    with VideoWriter(folder / "clip.mp4", 25) as video:
        for i in range(len(world)):
            video.write(world.render(i))
    write_benchmark(Job("synthetic", folder / "data/synthetic/test", 2, seed=3, split="test", config=CONFIG))
    longer = replace(CONFIG, length=24)
    for root in ("data/synthetic/train", "my_videos"):
        write_benchmark(Job("synthetic", folder / root, 2, seed=4, config=longer))
    for truth in folder.glob("data/synthetic/test/*/*/groundtruth.txt"):
        write_boxes(folder / "other_trackers/theirs" / f"{truth.parent.name}.txt", read_boxes(truth))
    return folder


@pytest.fixture
def here(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`work` as the working directory and data folder, with a fresh folder for results; returns that folder."""
    monkeypatch.chdir(work)
    monkeypatch.delenv("TRACKING_LOCAL_YAML", raising=False)
    monkeypatch.setenv("TRACKING_DATA_DIR", str(work / "data"))
    monkeypatch.setenv("TRACKING_SAVE_DIR", str(tmp_path / "output"))
    return tmp_path / "output"
