"""Data sets by the names that YAML files use, and the source from which a builder takes its store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, get_args

from lib.data.store import Store, open_store
from lib.data.types import Dataset
from lib.registry import Registry

StoreKind = Literal["auto", "directory", "zip", "lmdb"]


class DatasetPaths(Protocol):
    """What a builder needs of `lib.paths.Paths`."""

    def dataset(self, key: str) -> Path:
        """The folder or archive of a data set; FileNotFoundError says which key is missing and the layout wanted."""
        ...


class Source:
    """Where the builder of one data set finds its files, and what the YAML name said behind its colon."""

    def __init__(self, name: str, paths: DatasetPaths, kind: StoreKind, selection: str) -> None:
        self.name = name
        self.paths = paths
        self.kind = kind
        self._selection = selection
        self.selection_is_read = False

    def dataset(self, key: str) -> Path:
        """The place of data set `key`, of the wanted kind: "auto" takes the folder or archive, else the LMDB."""
        lmdb_key = f"{key.removesuffix('_val')}_lmdb"
        if self.kind == "lmdb":
            return self.paths.dataset(lmdb_key)
        try:
            path = self.paths.dataset(key)
        except FileNotFoundError:
            if self.kind == "auto" and (lmdb := self._find(lmdb_key)) is not None:
                return lmdb
            raise
        found = "zip" if path.suffix.lower() == ".zip" else "directory"
        if self.kind not in ("auto", found):
            raise ValueError(f"{self.name}: store {self.kind!r} was asked for, but {path} is a {found}")
        return path

    def store(self, key: str) -> Store:
        """The open store of data set `key`."""
        return open_store(self.dataset(key))

    def selection(self) -> str:
        """The part behind the colon of `TRACKINGNET:0-3`, or "". A builder that never asks allows none."""
        self.selection_is_read = True
        return self._selection

    def _find(self, key: str) -> Path | None:
        try:
            return self.paths.dataset(key)
        except (FileNotFoundError, KeyError):
            return None


DATASETS: Registry[Callable[[Source], Dataset]] = Registry("data set")
"""YAML name -> builder."""


def build_dataset(name: str, paths: DatasetPaths, store: StoreKind = "auto") -> Dataset:
    """The data set of a YAML name such as `LASOT`, `GOT10K_vottrain` or `TRACKINGNET:0-3`.

    store: "lmdb" wants the LMDB copy, "zip" and "directory" that kind; "auto" takes what is there.
    Raises UnknownNameError with the nearest known name, FileNotFoundError where the data set is not, ValueError for a
    selection that cannot be understood.
    """
    if store not in get_args(StoreKind):
        raise ValueError(f"unknown store {store!r} (known: {', '.join(get_args(StoreKind))})")
    base, colon, selection = name.partition(":")
    builder = DATASETS[base]
    if colon and not selection:
        raise ValueError(f"{name}: nothing behind the colon")
    source = Source(name, paths, store, selection)
    dataset = builder(source)
    if selection and not source.selection_is_read:
        raise ValueError(f"{name}: {base} has no parts to choose from; leave out ':{selection}'")
    if not len(dataset):
        raise FileNotFoundError(f"{name}: no sequence found")
    return dataset
