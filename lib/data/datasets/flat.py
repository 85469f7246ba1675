"""Data sets whose root holds one folder per sequence."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Names
from typing import TypeVar

from lib.data.datasets.base import StoredDataset, locate_root
from lib.data.listing import folder_names, natural_order
from lib.data.store import Store
from lib.layouts import layout_of

log = logging.getLogger(__name__)

D = TypeVar("D", bound=StoredDataset)


def locate_flat(store: Store, markers: Names[str], name: str, layout_key: str, below: Names[str] = ()) -> Store:
    """The root of a data set whose sequence folders hold one of the files `markers`; see `locate_root`."""

    def looks_right(root: Store) -> bool:
        folders = sequence_names(root)[:8]
        return any(root.exists(f"{place}/{m}") for f in folders for place in (f, f"{f}/{f}") for m in markers)

    return locate_root(store, looks_right, name, layout_of(layout_key).tree, below)


def sequence_names(root: Store) -> list[str]:
    """The sorted sequence folders."""
    return folder_names(root.listdir(""))


def sequence_folder(store: Store, name: str, markers: Names[str]) -> str:
    """`name`, or `name/name` as some copies have it: where a file of `markers` lies. FileNotFoundError if nowhere."""
    for place in (name, f"{name}/{name}"):
        if any(store.exists(f"{place}/{marker}") for marker in markers):
            return place
    raise FileNotFoundError(f"no such file: {store.describe(f'{name}/{markers[0]}')}")


def those_there(dataset: D, what: str, or_all: bool = False, there: Names[str] | None = None) -> D:
    """The data set without those of its sequences that a partial copy has not, with a warning.

    there: the sequences of the copy, where they are not simply the folders at its root.
    or_all: where none of them is there, every folder is taken (data of one's own in this layout), with a warning; else
    FileNotFoundError.
    """
    there = sequence_names(dataset.store) if there is None else there
    wanted = len(dataset.names)
    where = dataset.store.describe("")
    found = sorted(set(there).intersection(dataset.names), key=dataset.names.index)
    if not found and or_all:
        log.warning("%s: none of its %d sequences is in %s; all %d there are used", what, wanted, where, len(there))
        found = list(there)
    elif not found:
        raise FileNotFoundError(f"{what}: no sequence found: none of its {wanted} is in {where}")
    elif len(found) < wanted:
        log.warning("%s: %d of its %d sequences are in %s; these are used", what, len(found), wanted, where)
    dataset.names = found
    return dataset


def listed_or_all(dataset: D) -> D:
    """The data set with every folder in place of a list of which no sequence is there.

    Where some of them are, those that are not are errors, told when they are asked for.
    """
    there = sequence_names(dataset.store)
    dataset.names = natural_order(there) if set(there).isdisjoint(dataset.names) else dataset.names
    return dataset
