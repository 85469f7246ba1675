"""Data sets whose root holds one folder per sequence."""

from __future__ import annotations

from collections.abc import Sequence as Names

from lib.data.datasets.base import locate_root
from lib.data.listing import folder_names
from lib.data.store import Store
from lib.layouts import layout_of


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
