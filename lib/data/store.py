"""Files of a data set: a directory, a zip archive or an LMDB environment behind one interface.

Keys are relative paths with '/' between their parts. Nothing is held open until the first read, every process has
handles of its own (safe after a fork), and a store can be pickled.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from bisect import bisect_left
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Protocol

import lmdb
import numpy as np

from lib.data.listing import children_of
from lib.files import is_hidden, user_path

_LOCAL_HEADER = 30
"""Bytes before the name in the header of each file of a zip archive."""


class Store(Protocol):
    """Files by key, a relative path."""

    def read(self, key: str) -> bytes:
        """Read a file.

        Args:
            key: Its relative path.

        Raises:
            FileNotFoundError: Naming where it was looked for.
            OSError: The store is damaged.
        """

    def exists(self, key: str) -> bool:
        """Look for a file or a folder without reading it.

        Args:
            key: Its relative path; "" for the root.
        """

    def listdir(self, prefix: str = "") -> list[str]:
        """List a folder.

        Args:
            prefix: Its relative path; "" for the root.

        Returns:
            Sorted names directly below it, hidden ones left out.

        Raises:
            FileNotFoundError: There is no such folder.
        """

    def describe(self, key: str) -> str:
        """The key as a full path, for messages."""

    def file(self, key: str) -> Path:
        """The file on disk that has the content of a key: itself, or the archive."""


class DirectoryStore:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def read(self, key: str) -> bytes:
        with open(self._inside(key), "rb") as file:
            return file.read()

    def exists(self, key: str) -> bool:
        return os.path.exists(self._inside(key))

    def listdir(self, prefix: str = "") -> list[str]:
        return sorted(name for name in os.listdir(self._inside(prefix)) if not is_hidden(name))

    def describe(self, key: str) -> str:
        return os.path.join(self.root, key) if key else str(self.root)

    def file(self, key: str) -> Path:
        return Path(self._inside(key))

    def _inside(self, key: str) -> str:
        """The full path of a key.

        Raises:
            OSError: The key leads out of the folder.
        """
        if key.startswith("/") or (".." in key and ".." in key.split("/")):
            raise OSError(f"{key!r} leads out of {self.root}")
        return self.describe(key)


class ZipStore:
    """Files in a zip archive, stored or deflated.

    One folder that holds them all (`zip -r lasot.zip lasot`) may be left out of keys. Reads do not move the file
    offset, so threads and forked processes can share the open file. The index is read at the first use. Damage is found
    by the checksum.
    """

    def __init__(self, path: Path, top: str | None = None) -> None:
        """Remember the archive; it is opened at the first use.

        Args:
            path: The archive.
            top: The common folder that keys may leave out; None finds it, "" takes keys literally.
        """
        self.path = Path(path)
        self._given_top = top
        self._index: _Index | None = None
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_given_top": self._given_top, "_index": None, "_file": None}

    def read(self, key: str) -> bytes:
        """The file's bytes.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: The archive is damaged at this file, encrypted, or compressed by other means than deflate.
        """
        index, full, position, _ = self._find(key)
        name = f"{self.path}:{full}"
        if position is None:
            raise FileNotFoundError(f"no such file: {name}")
        offset, size, checksum, method, encrypted, whole = (int(v) for v in index.places[position])
        if encrypted or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise OSError(f"{name}: encrypted, or compressed by other means than deflate")
        try:
            header = self._bytes_at(offset, _LOCAL_HEADER)
            if len(header) < _LOCAL_HEADER or header[:4] != b"PK\3\4":
                raise OSError(f"{name}: the archive is damaged here")
            name_length, extra_length = struct.unpack_from("<HH", header, 26)
            data = self._bytes_at(offset + _LOCAL_HEADER + name_length + extra_length, size)
            if method == zipfile.ZIP_DEFLATED:  # no longer than the index says, which a damaged file may be
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, whole + 1)
        except (zlib.error, OverflowError, MemoryError) as error:
            raise OSError(f"{name}: the archive is damaged here ({error})") from None
        if zlib.crc32(data) != checksum:
            raise OSError(f"{name}: the archive is damaged here (wrong checksum)")
        return data

    def exists(self, key: str) -> bool:
        _, _, position, is_folder = self._find(key)
        return position is not None or is_folder

    def listdir(self, prefix: str = "") -> list[str]:
        """Sorted names directly below a folder.

        Raises:
            FileNotFoundError: There are none.
        """
        index, full, _, _ = self._find(prefix)

        def first_from(key: str) -> str | None:
            at = bisect_left(index.names, key)
            return index.names[at] if at < len(index.names) else None

        # a zero byte makes the smallest name behind a name
        found = children_of(full, first_from, lambda key: first_from(f"{key}\0"))
        if not found:
            raise FileNotFoundError(f"no such folder: {self.path}:{full}")
        return found

    def describe(self, key: str) -> str:
        return f"{self.path}:{self._find(key)[1]}"

    def file(self, key: str) -> Path:
        return self.path

    def _find(self, key: str) -> tuple[_Index, str, int | None, bool]:
        """Place of a key in the archive: as given if that is there, else below the common folder.

        Returns:
            The index; the full name; its position in the index, None unless it is a file; whether it is a folder.
        """
        if self._index is None:
            self._index = _Index(self.path)
        names = self._index.names
        top = self._index.top if self._given_top is None else self._given_top
        below_top = f"{top}/{key}" if top and key else top or key
        for full in (key, below_top) if key else (below_top,):
            at, below = bisect_left(names, full), bisect_left(names, prefix := f"{full}/" if full else "")
            position = at if at < len(names) and names[at] == full else None
            is_folder = below < len(names) and names[below].startswith(prefix)
            if position is not None or is_folder:
                break
        return self._index, full, position, is_folder

    def _bytes_at(self, offset: int, size: int) -> bytes:
        if self._file is None:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115  (lives as long as the store)
        parts, missing = [], size
        size_of_file = os.fstat(self._file.fileno()).st_size
        if not 0 <= offset <= offset + size <= size_of_file:
            raise OverflowError(f"bytes {offset} to {offset + size} of {size_of_file}")
        while missing > 0 and (part := os.pread(self._file.fileno(), missing, offset)):
            parts.append(part)
            offset, missing = offset + len(part), missing - len(part)
        return b"".join(parts)


class _Index:
    """The files of an archive.

    Attributes:
        names: Sorted.
        places: [N, 6] int64 offset of the header, compressed size, checksum, compression method, encrypted or not,
            size.
        top: The folder that holds every file, or "".
    """

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [e for e in archive.infolist() if not e.is_dir() and not is_hidden(e.filename.split("/")[0])]
        except (zipfile.BadZipFile, NotImplementedError, ValueError, IndexError, struct.error) as error:
            raise OSError(f"{path}: not a complete zip archive ({error})") from None
        entries.sort(key=lambda e: e.filename)
        self.names = [e.filename for e in entries]
        places = [
            (e.header_offset, e.compress_size, e.CRC, e.compress_type, e.flag_bits & 1, e.file_size) for e in entries
        ]
        self.places = np.array([[min(v, 2**62) for v in place] for place in places], dtype=np.int64).reshape(-1, 6)
        tops = {name.split("/", 1)[0] if "/" in name else "" for name in (self.names[:1] + self.names[-1:])}
        # Names are sorted: when the first and the last lie below one folder, those between do, unless one is a file
        # whose name begins like it.
        top = tops.pop() if len(tops) == 1 else ""
        self.top = top if top and all(name.startswith(f"{top}/") for name in self.names) else ""


class LmdbStore:
    """Files in an LMDB environment: key = UTF-8 path, value = the file's bytes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._real_path = str(self.path.resolve())

    def read(self, key: str) -> bytes:
        with _environment(self._real_path).begin() as txn:
            value = txn.get(key.encode()) if key else None
        if value is None:
            raise FileNotFoundError(f"no such file: {self.path}:{key}")
        return bytes(value)

    def exists(self, key: str) -> bool:
        with _environment(self._real_path).begin() as txn, txn.cursor() as cursor:
            if not key or cursor.set_key(key.encode()):
                return True
            folder = f"{key}/".encode()
            return bool(cursor.set_range(folder)) and cursor.key().startswith(folder)

    def listdir(self, prefix: str = "") -> list[str]:
        """Sorted names directly below a folder.

        Raises:
            FileNotFoundError: There are none.
        """
        with _environment(self._real_path).begin() as txn, txn.cursor() as cursor:
            found = children_of(
                prefix,
                first_from=lambda key: cursor.key().decode() if cursor.set_range(key.encode() or b"\0") else None,
                following=lambda key: cursor.key().decode() if cursor.next() else None,
            )
        if not found:
            raise FileNotFoundError(f"no such folder: {self.path}:{prefix}")
        return found

    def describe(self, key: str) -> str:
        return f"{self.path}:{key}"

    def file(self, key: str) -> Path:
        return self.path / "data.mdb"


class SubStore:
    """The part of another store below one of its folders."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store, self.folder = store, folder

    def read(self, key: str) -> bytes:
        return self.store.read(self._full(key))

    def exists(self, key: str) -> bool:
        return self.store.exists(self._full(key))

    def listdir(self, prefix: str = "") -> list[str]:
        return self.store.listdir(self._full(prefix))

    def describe(self, key: str) -> str:
        return self.store.describe(self._full(key))

    def file(self, key: str) -> Path:
        return self.store.file(self._full(key))

    def _full(self, key: str) -> str:
        return f"{self.folder}/{key}" if key else self.folder


# LMDB allows one handle on an environment per process, so all stores of a path share it: path -> (process, handle).
_OPEN: dict[str, tuple[int, lmdb.Environment]] = {}
_LOCKS: dict[int, Lock] = {}


def _environment(path: str) -> lmdb.Environment:
    """This process's handle on an environment. A forked child closes its copy of its parent's and opens its own.

    Raises:
        OSError: It cannot be read, or is cut short: to read past the end of a mapped file would end the process.
    """
    process, file = os.getpid(), os.path.join(path, "data.mdb")
    with _LOCKS.setdefault(process, Lock()):  # a lock per process: a fork may happen while the parent holds its own
        held = _OPEN.get(path)
        if held is not None and held[0] == process:
            return held[1]
        if held is not None:
            held[1].close()
        try:
            handle = lmdb.open(path, readonly=True, lock=False, readahead=False, meminit=False, create=False)
        except lmdb.Error as error:
            raise OSError(f"{path}: not a readable LMDB environment ({error})") from None
        needed, found = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"], os.path.getsize(file)
        if found < needed:
            handle.close()
            raise OSError(f"{file} is cut short: {found} bytes of at least {needed}; copy or build it again")
        _OPEN[path] = (process, handle)
        return handle


def open_store(path: Path | str) -> Store:
    """The store at a path.

    Args:
        path: A `.zip` file, a folder with an LMDB environment (data.mdb), or a plain folder; "~" is expanded.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is another kind of file.
    """
    path = user_path(path)
    if path.is_dir():
        return LmdbStore(path) if (path / "data.mdb").is_file() else DirectoryStore(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        return ZipStore(path)
    if path.is_file():
        raise ValueError(f"{path} is neither a folder, nor a .zip archive, nor an LMDB folder")
    raise FileNotFoundError(f"no such folder or archive: {path}")
