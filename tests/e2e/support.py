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
