"""Names that the end-to-end tests share."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.commands import exit_code, run_python, start_python

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PATIENCE = 100.0
"""Seconds, for a machine that has other things to do."""


def kill_between_epochs(folder: Path, arguments: list[str]) -> None:
    """Start a training; end it and its workers when two states of its first epoch are written."""
    process = start_python(arguments)
    written: set[int] = set()
    began = time.monotonic()
    try:
        while len(written) < 2:
            written |= {p.stat().st_mtime_ns for p in folder.glob("*_latest_state.pt")}
            assert time.monotonic() - began < PATIENCE, "no state was written"
            time.sleep(0.01)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        assert exit_code() == -signal.SIGKILL, "the training ended before it was killed"


def command(tool: str, *arguments: object, code: int = 0) -> str:
    """Run a command of `tracking/`, which must end with this exit code and no traceback; what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop("DISPLAY", None)
    done = run_python([f"tracking/{tool}.py", *arguments], environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
