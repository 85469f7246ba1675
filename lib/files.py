"""Files that are there whole or not at all: every result, checkpoint and list of this library is written here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file to write; it takes the place of `path` when the block ends well.

    Whatever happens meanwhile, a kill and a power cut included, `path` holds what it held before or all that the block
    wrote. The folder is made where it lacks. A killed process leaves `<name>.<process id>.tmp` behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a file in one step (see `replacing`)."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file in one step (see `replacing`); lines end with a line feed on every system."""
    write_bytes(path, text.encode())


def _sync_folder(folder: Path) -> None:
    """A rename lasts once its folder is on the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
