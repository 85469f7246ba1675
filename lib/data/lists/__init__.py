"""Sequence lists, splits and attribute tables: facts about published data sets, kept as JSON files beside this module.

`README.md` in this folder says what each file holds and where it comes from.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from lib.registry import suggest


class UnknownListError(KeyError):
    """A list name that no JSON file of this package has."""

    def __str__(self) -> str:
        return str(self.args[0])


def list_names() -> list[str]:
    """Names that `load_list` knows, sorted."""
    entries = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".json") for name in entries if name.endswith(".json"))


def load_list(name: str) -> Any:
    """The content of ``<name>.json`` (the suffix may be given or left out), read anew at each call.

    Lists of names or of 0-based indices come as `list`, split collections and attribute tables as `dict`.
    Raises `UnknownListError`, naming the known lists, when there is no such file.
    """
    stem = name.removesuffix(".json")
    known = list_names()
    if stem not in known:
        raise UnknownListError(f"no sequence list {name!r}{suggest(stem, known)} (known: {', '.join(known)})")
    return json.loads((files(__name__) / f"{stem}.json").read_text(encoding="utf-8"))
