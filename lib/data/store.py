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
from typing import Any, BinaryIO, Protocol, runtime_checkable

import lmdb
import numpy as np

from lib.data.listing import children_of, is_hidden

_LOCAL_HEADER = 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@runtime_checkable
class Store(Protocol):
    """Files by key, a relative path."""

    def read(self, key: str) -> bytes:
        """The file's bytes; FileNotFoundError names where it was looked for."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a file or a folder of this name."""
        ...

    def listdir(self, prefix: str = "") -> list[str]:
        """Sorted names directly below a folder ("" for the root), hidden ones left out; FileNotFoundError if none."""
        ...

    def describe(self, key: str) -> str:
        """The key as a full path, for messages."""
        ...


class DirectoryStore:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def read(self, key: str) -> bytes:
        with open(self.describe(key), "rb") as file:
            return file.read()

    def exists(self, key: str) -> bool:
        return os.path.exists(self.describe(key))

    def listdir(self, prefix: str = "") -> list[str]:
        return sorted(name for name in os.listdir(self.describe(prefix)) if not is_hidden(name))

    def describe(self, key: str) -> str:
        return os.path.join(self.root, key) if key else str(self.root)


class ZipStore:
    """Files in a zip archive. One folder that holds them all (`zip -r lasot.zip lasot`) may be left out of keys.

    top: that common folder; None finds it, "" takes keys literally.
    """

    def __init__(self, path: Path, top: str | None = None) -> None:
        self.path = Path(path)
        self._wanted_top = top
        self._archive = ZipArchive(self.path)

    @property
    def top(self) -> str:
        """The folder that holds all files, or ""."""
        return self._archive.common_top if self._wanted_top is None else self._wanted_top

    def read(self, key: str) -> bytes:
        position = self._archive.find(self._full(key))
        if position is None:
            raise FileNotFoundError(f"no such file: {self.describe(key)}")
        return self._archive.read(position)

    def exists(self, key: str) -> bool:
        return self._archive.find(full := self._full(key)) is not None or self._archive.has_folder(full)

    def listdir(self, prefix: str = "") -> list[str]:
        found = self._archive.listdir(self._full(prefix))
        if not found:
            raise FileNotFoundError(f"no such folder: {self.describe(prefix)}")
        return found

    def describe(self, key: str) -> str:
        return f"{self.path}:{self._full(key)}"

    def _full(self, key: str) -> str:
        """The key as the archive has it: as given if that is there, else below the common folder."""
        if not self.top:
            return key
        if key and (self._archive.find(key) is not None or self._archive.has_folder(key)):
            return key
        return f"{self.top}/{key}" if key else self.top


class _Index:
    """The files of an archive: sorted names, and where each one's data are."""

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [e for e in archive.infolist() if not e.is_dir() and not is_hidden(e.filename.split("/")[0])]
        except zipfile.BadZipFile as error:
            raise OSError(f"{path}: not a complete zip archive ({error})") from None
        entries.sort(key=lambda e: e.filename)
        self.names = [e.filename for e in entries]
        places = [(e.header_offset, e.compress_size, e.CRC, e.compress_type, e.flag_bits & 1) for e in entries]
        self.places = np.array(places, dtype=np.int64).reshape(-1, 5)
        tops = {name.split("/", 1)[0] if "/" in name else "" for name in (self.names[:1] + self.names[-1:])}
        # Names are sorted: when the first and the last lie below one folder, those between do, unless one is a file
        # whose name begins like it.
        top = tops.pop() if len(tops) == 1 else ""
        self.top = top if top and all(name.startswith(f"{top}/") for name in self.names) else ""


class ZipArchive:
    """Files of a zip archive, stored or deflated.

    Reads do not move the file offset, so threads and forked processes can share the open file. The index is read at
    the first use. Damage is found by the checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: _Index | None = None
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_index": None, "_file": None}

    @property
    def index(self) -> _Index:
        """Names and places, read once per process."""
        if self._index is None:
            self._index = _Index(self.path)
        return self._index

    @property
    def common_top(self) -> str:
        """The folder that holds every file, or ""."""
        return self.index.top

    def find(self, name: str) -> int | None:
        """Position of a file in the index."""
        names = self.index.names
        position = bisect_left(names, name)
        return position if position < len(names) and names[position] == name else None

    def has_folder(self, folder: str) -> bool:
        """Whether any file lies below `folder` ("" is the archive itself)."""
        names, prefix = self.index.names, f"{folder}/" if folder else ""
        position = bisect_left(names, prefix)
        return position < len(names) and names[position].startswith(prefix)

    def listdir(self, folder: str) -> list[str]:
        """Sorted names directly below `folder`; empty if there is no such folder."""
        names = self.index.names
        at = 0

        def first_from(key: str) -> str | None:
            nonlocal at
            at = bisect_left(names, key)
            return names[at] if at < len(names) else None

        def following(key: str) -> str | None:
            nonlocal at
            at += 1
            return names[at] if at < len(names) else None

        return children_of(folder, first_from, following)

    def read(self, position: int) -> bytes:
        """The bytes of the file at this position of the index; OSError if the archive is damaged there."""
        name = f"{self.path}:{self.index.names[position]}"
        offset, size, checksum, method, encrypted = (int(v) for v in self.index.places[position])
        if encrypted or method not in _METHODS:
            raise OSError(f"{name}: encrypted, or compressed by other means than deflate")
        header = self._bytes_at(offset, _LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\3\4":
            raise OSError(f"{name}: the archive is damaged here")
        name_length, extra_length = struct.unpack_from("<HH", header, 26)
        data = self._bytes_at(offset + _LOCAL_HEADER + name_length + extra_length, size)
        try:
            data = zlib.decompress(data, -zlib.MAX_WBITS) if method == zipfile.ZIP_DEFLATED else data
        except zlib.error as error:
            raise OSError(f"{name}: the archive is damaged here ({error})") from None
        if zlib.crc32(data) != checksum:
            raise OSError(f"{name}: the archive is damaged here (wrong checksum)")
        return data

    def _bytes_at(self, offset: int, size: int) -> bytes:
        if self._file is None:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115  (lives as long as the archive object)
        parts, missing = [], size
        while missing > 0 and (part := os.pread(self._file.fileno(), missing, offset)):
            parts.append(part)
            offset, missing = offset + len(part), missing - len(part)
        return b"".join(parts)


class LmdbStore:
    """Files in an LMDB environment: key = UTF-8 path, value = the file's bytes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._real_path = str(self.path.resolve())

    def read(self, key: str) -> bytes:
        with self._begin() as txn:
            value = txn.get(key.encode()) if key else None
        if value is None:
            raise FileNotFoundError(f"no such file: {self.describe(key)}")
        return bytes(value)

    def exists(self, key: str) -> bool:
        with self._begin() as txn, txn.cursor() as cursor:
            if not key or cursor.set_key(key.encode()):
                return True
            folder = f"{key}/".encode()
            return bool(cursor.set_range(folder)) and cursor.key().startswith(folder)

    def listdir(self, prefix: str = "") -> list[str]:
        with self._begin() as txn, txn.cursor() as cursor:

            def first_from(key: str) -> str | None:
                return cursor.key().decode() if cursor.set_range(key.encode() or b"\0") else None

            def following(key: str) -> str | None:
                return cursor.key().decode() if cursor.next() else None

            found = children_of(prefix, first_from, following)
        if not found:
            raise FileNotFoundError(f"no such folder: {self.describe(prefix)}")
        return found

    def describe(self, key: str) -> str:
        return f"{self.path}:{key}"

    def _begin(self) -> Any:
        return _environment(self._real_path).begin(buffers=False)


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

    def _full(self, key: str) -> str:
        return f"{self.folder}/{key}" if key else self.folder


# LMDB allows one handle on an environment per process, so all stores of a path share it: path -> (process, handle).
_OPEN: dict[str, tuple[int, lmdb.Environment]] = {}
_LOCKS: dict[int, Lock] = {}


def _environment(key: str) -> lmdb.Environment:
    """This process's handle on an environment. A forked child closes its copy of its parent's and opens its own."""
    process = os.getpid()
    held = _OPEN.get(key)
    if held is not None and held[0] == process:
        return held[1]
    with _LOCKS.setdefault(process, Lock()):  # a lock per process: a fork may happen while the parent holds its own
        held = _OPEN.get(key)
        if held is not None and held[0] == process:
            return held[1]
        if not os.path.isfile(os.path.join(key, "data.mdb")):
            raise FileNotFoundError(f"no LMDB environment (data.mdb) in {key}")
        if held is not None:
            held[1].close()
        try:
            handle = lmdb.open(key, readonly=True, lock=False, readahead=False, meminit=False, create=False)
        except lmdb.Error as error:
            raise OSError(f"{key}: not a readable LMDB environment ({error})") from None
        _check_whole(key, handle)
        _OPEN[key] = (process, handle)
        return handle


def _check_whole(key: str, handle: lmdb.Environment) -> None:
    """Raises OSError for a copy that was cut short: to read past the end of a mapped file would end the process."""
    wanted = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
    found = os.path.getsize(os.path.join(key, "data.mdb"))
    if found < wanted:
        handle.close()
        raise OSError(f"{key}/data.mdb is cut short: {found} bytes of at least {wanted}; copy or build it again")


def open_store(path: Path | str) -> Store:
    """The store at `path`: a `.zip` file, a folder with an LMDB environment (data.mdb), or a plain folder."""
    path = Path(path).expanduser()
    if path.is_dir():
        return LmdbStore(path) if (path / "data.mdb").is_file() else DirectoryStore(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        return ZipStore(path)
    if path.is_file():
        raise ValueError(f"{path} is neither a folder, nor a .zip archive, nor an LMDB folder")
    raise FileNotFoundError(f"no such folder or archive: {path}")
