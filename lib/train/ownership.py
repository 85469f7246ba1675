"""One training per folder."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

PATIENCE_SECONDS = 30.0
"""How long to wait for a training that is about to end: one that was stopped a moment ago still writes its state."""


class OccupiedError(RuntimeError):
    """Another training writes to the same folder."""


class FolderLock:
    """A claim on a folder that the system withdraws when the process ends, however it ends.

    Locks by record (POSIX), so that data workers, which are forked, do not hold them on; they also work over NFS.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "training.lock"
        self._file: IO[str] | None = None

    def acquire(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait up to `patience` seconds. Raises OccupiedError that names the process which holds the folder."""
        if self._file is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+", encoding="utf-8")
        deadline = time.monotonic() + patience
        told = False
        while not _lock(file):
            file.seek(0)
            owner = file.read().strip() or "another process"
            if time.monotonic() >= deadline:
                file.close()
                raise OccupiedError(
                    f"{self.path.parent} is in use by {owner}: two trainings must not write to one folder; "
                    "wait for it or end it, or name another --save_dir"
                )
            if not told:
                print(f"waiting for {owner}, which still writes to {self.path.parent}", file=sys.stderr, flush=True)
                told = True
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file


def _lock(file: IO[str]) -> bool:
    """False while another process holds the lock; a file system without locks has nothing to ask."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
