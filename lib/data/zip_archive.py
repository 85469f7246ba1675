"""Random access to a zip archive that forked workers and threads may share."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from bisect import bisect_left
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lib.data.listing import children_of, is_hidden

_LOCAL_HEADER = 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


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
