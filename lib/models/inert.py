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

    Attributes:
        origin: Dotted name in the file.
        used: Origins of all objects that were made.
        call_args: Arguments of the call.
        state: A state that is no dictionary.
    """

    origin = ""
    used: set[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        cls.used.add(cls.origin)
        self = super().__new__(cls)
        self.__dict__["call_args"] = args
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """The arguments are in `call_args` already."""

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


def load_inert(path: Path, mmap: bool = True) -> tuple[Any, tuple[str, ...]]:
    """Read what `torch.save` wrote.

    Nothing that the file names is imported or called, harmless tensor builders of PyTorch excepted.

    Args:
        path: The file.
        mmap: Map the tensors of a zip-format file into memory instead of reading them at once.

    Returns:
        The content, on the CPU, and the dotted names of the classes that were replaced.

    Raises:
        pickle.UnpicklingError: The file asks for functions of the operating system, or is broken. Files that are broken
            in other ways raise what zipfile and torch raise.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            if len(inside) != 1:
                raise pickle.UnpicklingError("the archive holds no data.pkl")
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
    for origin in surveyor.names:
        module, _, name = origin.rpartition(".")
        # Protocol 2 writes names as Python 2 had them; PyTorch translates some back before it looks them up.
        translated = ".".join(NAME_MAPPING.get((module, name), (module, name)))
        aliases = {origin, translated, f"{IMPORT_MAPPING.get(module, module)}.{name}"}
        stand_in = type(name, (surveyor.bases.get(origin, Inert),), {"origin": origin, "used": used})
        stand_ins += [(stand_in, alias) for alias in aliases]
    with torch.serialization.safe_globals(stand_ins):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    return content, tuple(sorted(used))
