"""Reading pickled checkpoints without running code from them.

A published checkpoint holds objects of its author's classes next to its tensors. Those classes are not installed, and a
pickle must not call anything. So the file is read twice: once with every name replaced by an
inert class, to learn the names and what they are used for, and once by `torch.load(weights_only=True)` with an inert
class under every name that PyTorch does not know as harmless.
"""

from __future__ import annotations

import io
import pickle
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


class Inert:
    """Stand-in for a foreign object: keeps its state and does nothing.

    origin: dotted name in the file. Arguments of the call are in `call_args`, a state that is no dictionary in `state`.
    """

    origin = ""
    used: set[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        cls.used.add(cls.origin)
        self = super().__new__(cls)
        self.__dict__["call_args"] = args
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Whatever the class was given, nothing is done with it."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            self.__dict__.update(state[1])
            state = state[0]
        if isinstance(state, dict):
            self.__dict__.update({str(k): v for k, v in state.items()})
        elif state is not None:
            self.__dict__["state"] = state

    def __repr__(self) -> str:
        return f"<stand-in for {self.origin}>"


class _InertMapping(Inert):
    """Stand-in for a class derived from dict: its entries arrive in an ordinary ordered dictionary."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        cls.used.add(cls.origin)
        return OrderedDict()


class _InertList(Inert, list):
    """Stand-in for a class derived from list."""


class _Probe(Inert):
    """Stand-in of the first pass, which also notes whether it was filled like a dict or like a list."""

    mappings: set[str]
    lists: set[str]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mappings.add(self.origin)

    def append(self, item: Any) -> None:
        self.lists.add(self.origin)

    def extend(self, items: Any) -> None:
        self.lists.add(self.origin)


class _Surveyor(pickle.Unpickler):
    """Goes through a pickle with nothing but probes; every name is noted, no module is imported."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self.names: dict[str, type[_Probe]] = {}
        self.mappings: set[str] = set()
        self.lists: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        if origin not in self.names:
            notes = {"origin": origin, "used": set(), "mappings": self.mappings, "lists": self.lists}
            self.names[origin] = type(name, (_Probe,), notes)
        return self.names[origin]

    def persistent_load(self, pid: Any) -> Any:
        return None


def _survey(path: Path) -> _Surveyor:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            if len(inside) != 1:
                raise pickle.UnpicklingError("the archive holds no data.pkl")
            surveyor = _Surveyor(io.BytesIO(archive.read(inside[0])))
        surveyor.load()
        return surveyor
    with path.open("rb") as file:
        for _ in range(LEGACY_PICKLES_BEFORE_THE_OBJECT):
            _Surveyor(file).load()
        surveyor = _Surveyor(file)
        surveyor.load()
        return surveyor


def _present_names(module: str, name: str) -> tuple[str, str]:
    """Protocol 2 writes names as Python 2 had them; PyTorch translates some of them back before it looks them up."""
    translated = ".".join(NAME_MAPPING.get((module, name), (module, name)))
    return translated, f"{IMPORT_MAPPING.get(module, module)}.{name}"


def load_inert(path: Path, mmap: bool = True) -> tuple[Any, tuple[str, ...]]:
    """What `torch.save` wrote to `path`, on the CPU, and the dotted names of the classes that were replaced.

    mmap: map the tensors of a zip-format file into memory instead of reading them at once.
    Nothing that the file names is imported or called, harmless tensor builders of PyTorch excepted. A file that asks
    for functions of the operating system is refused (pickle.UnpicklingError). Raises what pickle, zipfile and torch
    raise on files that are broken.
    """
    surveyor = _survey(path)
    used: set[str] = set()
    stand_ins: list[Any] = []
    for origin in surveyor.names:
        base = Inert
        if origin in surveyor.mappings:
            base = _InertMapping
        elif origin in surveyor.lists:
            base = _InertList
        module, _, name = origin.rpartition(".")
        stand_in = type(name, (base,), {"origin": origin, "used": used})
        stand_ins += [(stand_in, alias) for alias in {origin, *_present_names(module, name)}]
    with torch.serialization.safe_globals(stand_ins):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    return content, tuple(sorted(used))
