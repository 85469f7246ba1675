"""Files: atomic writes, by which all results, checkpoints and lists of this library are written, locks, names."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import yaml

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_BYTE = 1 << 30
"""Where Windows locks a file: behind its text, which stays readable."""
_LEFT_BEHIND = {
    "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "@recycle", "#recycle", "#snapshot",
}  # fmt: skip


@contextmanager
def errors_name(path: Path | str, temporary: Path | str = "") -> Iterator[None]:
    """Give errors of the system that come without a file name this one: a full disk is met when bytes are written.

    Args:
        path: The file.
        temporary: Its name while it is written; errors name `path` in its place.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def require_shared_memory() -> None:
    """Raise an error that names /dev/shm where it is full; what other processes share begins with a lock there."""
    with errors_name("/dev/shm"):
        multiprocessing.Lock()


def require_writable(folder: Path) -> None:
    """Raise an OSError, before long work, if a folder cannot be made or nothing can be written to it."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        kind = errno.EACCES if above.is_dir() else errno.ENOTDIR
        raise OSError(kind, os.strerror(kind), str(folder))


def sentence(error: BaseException) -> str:
    """An error for a reader; those of the system as `FILE: what is wrong`."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        if isinstance(error, FileExistsError | NotADirectoryError):
            places = (path := Path(os.fsdecode(error.filename)), *path.parents)
            if file := next((place for place in places if place.is_file()), None):
                return f"{file}: a file stands where a folder is needed"
            if link := next((place for place in places if place.is_symlink() and not place.exists()), None):
                return f"{link}: a link to {os.readlink(link)}, which is not there"
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


def user_path(text: Path | str) -> Path:
    """A path as a user writes it, ~ replaced. `Path.expanduser` fails for a user without a home; this leaves the ~."""
    return Path(os.path.expanduser(text))


def is_hidden(name: str) -> bool:
    """Recognise names that systems and disk stations leave behind: `.DS_Store`, `._x`, `Thumbs.db`, `@eaDir`."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def visible_files(folder: Path, pattern: str) -> list[Path]:
    """The sorted paths below a folder that match a pattern of `Path.glob`, without those with a hidden name."""
    return sorted(p for p in folder.glob(pattern) if not any(map(is_hidden, p.relative_to(folder).parts)))


def try_lock(file: IO[Any], shared: bool = False) -> bool:
    """Lock an open file until it is closed or this process ends, however it ends.

    Locks by record (POSIX), so that data workers, which are forked, do not hold them on; they also work over NFS.

    Args:
        file: A file open for reading and writing.
        shared: Let other processes share the lock, also one that this process holds alone. Windows has no such lock:
            there, it is given up.

    Returns:
        False if another process holds its lock; True also where the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(file.fileno(), _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK if shared else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # the file system has no locks
    return True


@contextmanager
def atomic_write(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file to write; it takes the place of `path` when the block ends well.

    Whatever happens meanwhile, a kill and a power cut included, `path` holds what it held before or all that the block
    wrote. A killed process leaves `<name>.<process id>.tmp` behind, which the next process to write this file deletes.

    Args:
        path: File to write or replace; its folder is made if it does not exist.

    Yields:
        The open temporary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_file(path)
    try:
        with errors_name(path, temporary), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # a rename lasts once its folder is on the disk
        with suppress(OSError):  # which shares (SMB, FUSE) do by themselves and refuse on demand
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def temporary_file(path: Path, ending: str = "tmp") -> Path:
    """Name of the file that this process writes before it takes the place of `path`; what killed ones left is deleted.

    Args:
        path: The file.
        ending: Of the temporary one, `<name>.<process id>.<ending>`.
    """
    for left in _left_behind(Path(os.path.abspath(path.parent)), ending).get(path.name, ()):
        if not _may_run(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)
    return path.with_name(f"{path.name}.{os.getpid()}.{ending}")


@lru_cache(maxsize=64)
def _left_behind(folder: Path, ending: str) -> dict[str, list[Path]]:
    """File -> its temporary files that are there when this process first writes to a folder.

    The folder is listed once, since it may get tens of thousands of files.
    """
    found: dict[str, list[Path]] = {}
    for left in folder.glob(f"*.*.{ending}"):
        found.setdefault(left.name.rsplit(".", 2)[0], []).append(left)
    return found


def _may_run(process: str) -> bool:
    """True unless there is no process of that number on this machine; always on Windows, where asking interrupts it."""
    try:
        if sys.platform != "win32":
            os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):  # no number, or a process of another user
        pass
    return True


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a file in one step (see `atomic_write`).

    Args:
        path: File to write or replace.
        data: Its content.
    """
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file in one step (see `atomic_write`); lines end with a line feed on every system.

    Args:
        path: File to write or replace.
        text: Its content.
    """
    write_bytes(path, text.encode())


def yaml_rows(path: Path) -> dict[str, Any]:
    """The rows of a YAML file that comes with the library, by name.

    Args:
        path: File with a row under each name.

    Returns:
        Name -> row; lists are tuples.
    """

    def fixed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fixed(inner) for key, inner in value.items()}
        return tuple(map(fixed, value)) if isinstance(value, list) else value

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as quick, where PyYAML has it
    return {name: fixed(row) for name, row in yaml.load(path.read_text(encoding="utf-8"), loader).items()}
