"""Two trainings in one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib.train import CheckpointFolder, OccupiedError
from tests.support.commands import REPOSITORY

HOLD = """
import sys, time
from pathlib import Path
from lib.train import CheckpointFolder
folder = CheckpointFolder(Path(sys.argv[1]), "Net")
folder.claim()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_folder_is_free_again_when_its_training_was_killed(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path, 60)
    assert line_of(holder) == "held"
    with pytest.raises(OccupiedError, match=f"is in use by process {holder.pid} on "):
        CheckpointFolder(tmp_path, "Net").claim(patience=0.3)
    holder.kill()
    holder.wait()
    free = CheckpointFolder(tmp_path, "Net")
    free.claim(patience=0.0)
    assert f"process {os.getpid()} on" in (tmp_path / "training.lock").read_text()


def test_the_wait_ends_with_the_other_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holder = start(HOLD, tmp_path, 0.5)
    assert line_of(holder) == "held"
    CheckpointFolder(tmp_path, "Net").claim(patience=20.0)
    assert f"waiting for process {holder.pid} on" in capsys.readouterr().err
    holder.wait()
