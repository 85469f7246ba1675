"""Two trainings in one folder."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from lib.train import CheckpointFolder, OccupiedError, ResumeError, TrainOptions, train


def hold(path: Path, seconds: float, held: Connection) -> None:
    folder = CheckpointFolder(path, "Net")
    folder.claim()
    held.send(True)
    time.sleep(seconds)


def holder_of(path: Path, seconds: float) -> multiprocessing.context.ForkProcess:
    """Another process, which has the folder by now."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    holder = context.Process(target=hold, args=(path, seconds, there))
    holder.start()
    assert here.poll(20)
    return holder


def test_a_folder_is_free_again_when_its_training_was_killed(tmp_path: Path) -> None:
    holder = holder_of(tmp_path, 60)
    with pytest.raises(OccupiedError, match=f"is in use by process {holder.pid} on "):
        CheckpointFolder(tmp_path, "Net").claim(patience=0.3)
    holder.kill()
    holder.join()
    free = CheckpointFolder(tmp_path, "Net")
    free.claim(patience=0.0)
    assert f"process {os.getpid()} on" in (tmp_path / "training.lock").read_text()


def test_the_wait_ends_with_the_other_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holder = holder_of(tmp_path, 0.5)
    CheckpointFolder(tmp_path, "Net").claim(patience=20.0)
    assert f"waiting for process {holder.pid} on" in capsys.readouterr().err
    holder.join()


def test_a_training_without_a_state_to_resume_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="--resume must: no"):
        train(TrainOptions("ostrack", "synthetic_small", save_dir=tmp_path / "out", resume="must"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_training_that_cannot_begin_leaves_all_as_it_was(tmp_path: Path, resume: str) -> None:
    wrong = (f"DATA.TRAIN.DATASETS_NAME=['FOLDER:{tmp_path / 'nowhere'}']",)
    options = TrainOptions("ostrack", "synthetic_small", save_dir=tmp_path / "out", overrides=wrong, resume=resume)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        train(options)
    assert list(tmp_path.iterdir()) == []
    earlier = tmp_path / "out/checkpoints/train/ostrack/synthetic_small/OSTrack_ep0001.safetensors"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        train(options)
    assert sorted(path.name for path in earlier.parent.iterdir()) == [earlier.name, "training.lock"]
