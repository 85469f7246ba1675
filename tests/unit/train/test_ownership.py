"""Two trainings in one folder."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from lib.train import CheckpointFolder, OccupiedError


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
