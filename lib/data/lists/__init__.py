"""Sequence lists, splits and attribute tables: facts about published data sets, as JSON files in this folder.

`README.md` says what each file holds and where it comes from.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from lib.registry import UnknownNameError, suggest


def load_list(name: str) -> Any:
    """The content of ``<name>.json``, read again at each call.

    Args:
        name: Name of the file, with or without suffix.

    Returns:
        A list of names or of 0-based indices, or a dict for collections of splits and attribute tables.

    Raises:
        UnknownNameError: There is no such file.
    """
    stem = name.removesuffix(".json")
    known = sorted(f.name.removesuffix(".json") for f in files(__name__).iterdir() if f.name.endswith(".json"))
    if stem not in known:
        raise UnknownNameError(f"no sequence list {name!r}{suggest(stem, known)} (known: {', '.join(known)})")
    return json.loads((files(__name__) / f"{stem}.json").read_text(encoding="utf-8"))
