"""Names that the end-to-end tests share."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.commands import run_and_kill, run_python

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def kill_between_epochs(folder: Path, arguments: list[str]) -> None:
    """Start a training that writes a state after every step; end it and its workers when two are written."""
    written: set[int] = set()

    def is_written() -> bool:
        with contextlib.suppress(FileNotFoundError):  # one that is being replaced
            written.update(p.stat().st_mtime_ns for p in folder.glob("*_latest_state.pt"))
        return len(written) >= 2

    run_and_kill([*arguments, "--set", "TRAIN.STATE_INTERVAL_STEPS=1"], is_written)


def command(tool: str, *arguments: object, code: int = 0) -> str:
    """Run a command of `tracking/`, which must end with this exit code and no traceback; what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop("DISPLAY", None)
    done = run_python([f"tracking/{tool}.py", *arguments], environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
