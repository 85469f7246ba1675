"""Names that the end-to-end tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
PATIENCE = 100.0
"""Seconds, for a machine that has other things to do."""


def kill_between_epochs(folder: Path, arguments: list[str]) -> None:
    """Start a training; end it and its workers when two states of its first epoch are written."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    written: set[int] = set()
    began = time.monotonic()
    try:
        while len(written) < 2:
            written |= {p.stat().st_mtime_ns for p in folder.glob("*_latest_state.pt")}
            assert process.poll() is None, "the training ended before it was killed"
            assert time.monotonic() - began < PATIENCE, "no state was written"
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def command(tool: str, *arguments: object, code: int = 0) -> str:
    """Run a command of `tracking/`, which must end with this exit code and no traceback; what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop("DISPLAY", None)
    line = [sys.executable, str(REPOSITORY / "tracking" / f"{tool}.py"), *map(str, arguments)]
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=300, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
