"""Reading pickled checkpoints without running code from them.

A published checkpoint holds objects of its author's classes next to its tensors. Those classes are not installed, and a
pickle must not call anything. So the file is read twice: once with every name replaced by an
inert class, to learn the names and what they are used for, and once by `torch.load(weights_only=True)` with an inert
class under every name that PyTorch does not know as harmless.
"""

from __future__ import annotations

import io
import pickle
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

LEGACY_PICKLES_BEFORE_THE_OBJECT = 3
"""The format of PyTorch < 1.6: magic number, protocol version, system information, the object, storage keys, bytes."""


class WeightsError(RuntimeError):
    """A file of weights that is missing, unreadable, or does not fit the network."""


class UnexpectedNameError(pickle.UnpicklingError):
    """A pickle that names what no checkpoint of this field holds; the message is the names."""


DATA_NAMES = re.compile(
    r"builtins\.(list|dict|tuple|set|frozenset|int|float|bool|str|bytes|bytearray|complex|slice|range|object)"
    r"|collections\.(OrderedDict|defaultdict|Counter|deque)|argparse\.Namespace|types\.SimpleNamespace"
    r"|pathlib(\._local)?\.\w*Path|datetime\.\w+|decimal\.Decimal|_codecs\.encode|copyreg\._reconstructor"
    r"|numpy\.(_?core\.multiarray\.(scalar|_reconstruct|_frombuffer)|random\._pickle\.\w+|dtype|ndarray)"
    r"|numpy\.(bool|u?int|float|complex|str|bytes|object)\d*_?"
    r"|torch\.([\w.]+\._rebuild_\w+|device|dtype|serialization\._get_layout)"
    r"|torch\.(bfloat|float|double|half|q?u?int|long|short|bool|complex|cfloat|cdouble|strided)\d*\w*"
)
"""Names of plain data: Python's own, and what numpy and PyTorch build arrays and tensors with."""
FIELD_PACKAGES = ("lib", "ltr", "pytracking", "pysot")
"""Packages of published trackers, whose functions checkpoints may name."""
CLASS_NAME = re.compile(r"_*[A-Z]\w*")


def is_expected(origin: str) -> bool:
    """True for a name that checkpoints of this field hold: plain data, or a class of a package that is not Python's.

    Args:
        origin: Dotted name, as Python 3 has it.
    """
    package = origin.partition(".")[0]
    module, _, name = origin.rpartition(".")
    foreign = package not in sys.stdlib_module_names and not module.startswith(("torch.hub", "numpy.f2py"))
    is_class = package in FIELD_PACKAGES or bool(CLASS_NAME.fullmatch(name))
    return bool(DATA_NAMES.fullmatch(origin)) or (foreign and is_class)


def kind_of_file(path: Path) -> str:
    """Kind of a file that is no checkpoint, and what to do about it; empty where its first bytes do not say.

    Args:
        path: A file that exists.
    """
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "the file is empty; download or copy it again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights themselves; `git lfs pull` fetches them"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<script", b"<!--")):
        return "a web page, not the weights (a log-in, warning or error page of the server); download it in a browser"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"a truncated download ({path.stat().st_size} bytes, and the end is missing); download it again"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")) or head[257:262] == b"ustar":
        return "a packed archive; unpack it and name the file inside"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file of another framework; convert it to a PyTorch state dict"
    return ""


class Inert:
    """Stand-in for a foreign object: keeps its state and does nothing.

    Attributes:
        origin: Dotted name in the file.
        used: Origins of all objects that were made.
        state: A state that is no dictionary.
    """

    origin = ""
    used: set[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        cls.used.add(cls.origin)
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments of the call are not kept."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            self.__dict__.update(state[1])
            state = state[0]
        if isinstance(state, dict):
            self.__dict__.update({str(k): v for k, v in state.items()})
        elif state is not None:
            self.__dict__["state"] = state


class _InertMapping(Inert):
    """Stand-in for a class derived from dict: its entries arrive in an ordinary ordered dictionary."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        cls.used.add(cls.origin)
        return OrderedDict()


class _InertList(Inert, list):
    """Stand-in for a class derived from list."""


class _Probe(Inert):
    """Stand-in of the first pass, which also notes whether it was filled like a dict or like a list."""

    bases: dict[str, type[Inert]]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.bases[self.origin] = _InertMapping

    def append(self, item: Any) -> None:
        self.bases.setdefault(self.origin, _InertList)

    extend = append


class _Surveyor(pickle.Unpickler):
    """Goes through a pickle with nothing but probes; every name is noted, no module is imported."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self.names: dict[str, type[_Probe]] = {}
        self.bases: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A probe under the name of the class."""
        origin = f"{module}.{name}"
        if origin not in self.names:
            self.names[origin] = type(name, (_Probe,), {"origin": origin, "used": set(), "bases": self.bases})
        return self.names[origin]

    def persistent_load(self, pid: Any) -> Any:
        """No tensor is read."""


def check_archive(archive: zipfile.ZipFile) -> None:
    """Compare every entry of an archive of `torch.save` with its checksum, which `torch.load` does not.

    Args:
        archive: Open for reading.

    Raises:
        pickle.UnpicklingError: Names the first entry that is damaged, or is compressed, as `torch.save` leaves none.
    """
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"entry {entry.filename} is compressed")
    damaged = archive.testzip()
    if damaged is not None:
        raise pickle.UnpicklingError(f"entry {damaged} does not have the checksum that it was saved with")


def load_inert(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read what `torch.save` wrote.

    Nothing that the file names is imported or called, harmless tensor builders of PyTorch excepted.

    Args:
        path: The file. Tensors of a zip-format file are mapped into memory, not read at once.

    Returns:
        The content, on the CPU, and the dotted names of the classes that were replaced.

    Raises:
        UnexpectedNameError: The file names what no checkpoint of this field holds.
        pickle.UnpicklingError: The file is damaged. Files that are broken in other ways raise what zipfile and torch
            raise.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive)
            inside = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            if len(inside) != 1:
                raise pickle.UnpicklingError("the archive holds no data.pkl")
            if archive.getinfo(inside[0]).file_size > path.stat().st_size:
                raise pickle.UnpicklingError("its data.pkl is larger than the file")
            surveyor = _Surveyor(io.BytesIO(archive.read(inside[0])))
            surveyor.load()
    else:
        with path.open("rb") as file:
            for _ in range(LEGACY_PICKLES_BEFORE_THE_OBJECT):
                _Surveyor(file).load()
            surveyor = _Surveyor(file)
            surveyor.load()
    used: set[str] = set()
    stand_ins: list[Any] = []
    unexpected = []
    for origin in surveyor.names:
        module, _, name = origin.rpartition(".")
        # Protocol 2 writes names as Python 2 had them; PyTorch translates some back before it looks them up.
        moved = f"{IMPORT_MAPPING.get(module, module)}.{name}"
        translated = ".".join(NAME_MAPPING.get((module, name), moved.rsplit(".", 1)))
        aliases = {origin, translated, moved}
        if not is_expected(translated):
            unexpected.append(translated)
        stand_in = type(name, (surveyor.bases.get(origin, Inert),), {"origin": origin, "used": used})
        stand_ins += [(stand_in, alias) for alias in aliases]
    if unexpected:
        raise UnexpectedNameError(", ".join(sorted(unexpected)[:5]))
    with torch.serialization.safe_globals(stand_ins):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    return content, tuple(sorted(used))
