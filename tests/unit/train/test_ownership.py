"""Two trainings in one folder, and processes whose starter is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.train import FolderLock, OccupiedError
from tests.e2e.support import REPOSITORY

HOLD = """
import sys, time
from pathlib import Path
from lib.train.ownership import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""
PARENT = """
import subprocess, sys, time
code = "import time; from lib.train.ownership import end_with_parent as e; e(); print(1, flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
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
        FolderLock(tmp_path).acquire(patience=0.3)
    holder.kill()
    holder.wait()
    FolderLock(tmp_path).acquire(patience=0.0)
    assert f"process {os.getpid()} on" in (tmp_path / "training.lock").read_text()


def test_the_wait_ends_with_the_other_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holder = start(HOLD, tmp_path, 0.5)
    assert line_of(holder) == "held"
    FolderLock(tmp_path).acquire(patience=20.0)
    assert f"waiting for process {holder.pid} on" in capsys.readouterr().err
    holder.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux")
def test_a_process_ends_with_the_one_that_started_it() -> None:
    parent = start(PARENT)
    child = int(line_of(parent))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.05)
