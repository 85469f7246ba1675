"""Arrays that take long to make from the files of a data set, kept on disk for later processes."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data.store import Store
from lib.files import atomic_write
from lib.machine import cache_folder

log = logging.getLogger(__name__)

KEEP_SECONDS = 0.1
"""What takes less is made again each time."""


def kept_arrays(
    store: Store, keys: Sequence[str], what: str, make: Callable[[], Mapping[str, NDArray[Any]]]
) -> Mapping[str, NDArray[Any]]:
    """Arrays made from files of a data set; from `~/.cache/unitrack/annotations/` if neither files nor readers changed.

    Args:
        store: Files of the data set.
        keys: The files that the arrays are made of; a file counts as changed by its size or its time.
        what: Reader and its options.
        make: Makes the arrays.

    Returns:
        Name -> array.
    """
    paths = list(dict.fromkeys(store.file(key).absolute() for key in keys))
    place = cache_folder() / "annotations" / f"{_hash([what, str(paths[0])])}.npz"
    stamp = ""
    with suppress(OSError):  # `make` says which file is missing
        states = [path.stat() for path in paths]
        stamp = _hash([_readers(), *((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(paths, states, strict=True))])
    with suppress(OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile), np.load(place) as kept:
        if stamp and str(kept["stamp"]) == stamp:
            return {name: kept[name] for name in kept.files}
    started = time.perf_counter()
    arrays = make()
    if stamp and time.perf_counter() - started > KEEP_SECONDS:
        try:
            with atomic_write(place) as file:
                np.savez(file, allow_pickle=False, stamp=np.array(stamp), **arrays)
        except OSError as error:
            log.warning("%s: each process reads %s from scratch (%s)", place.parent, paths[0], error)
    return arrays


def _hash(values: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


@cache
def _readers() -> str:
    """Changes with the code of the readers."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
