"""Which files are the frames of a sequence, without an object per frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Names
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lib.data.io import AnnotationError
from lib.data.listing import number_in, picture_names
from lib.data.modalities import AuxRecipe, read_frame
from lib.data.store import Store
from lib.data.types import Frame

log = logging.getLogger(__name__)


class Files(Protocol):
    """Keys by frame number 0, 1, ..."""

    def __len__(self) -> int: ...

    def key(self, index: int) -> str: ...


@dataclass(frozen=True)
class Numbered:
    """Files numbered without a gap: `pattern % (first + index)` below `folder`."""

    folder: str
    pattern: str
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"{self.folder}/{self.pattern % (self.first + index)}"


@dataclass(frozen=True)
class Listed:
    """Files by their place in a listing, the names kept in one array."""

    folder: str
    names: NDArray[np.str_]

    @classmethod
    def of(cls, folder: str, names: Names[str]) -> Listed:
        return cls(folder, np.array(list(names), dtype=np.str_))

    def __len__(self) -> int:
        return len(self.names)

    def key(self, index: int) -> str:
        return f"{self.folder}/{self.names[index]}"


@dataclass(frozen=True)
class Repeated:
    """One picture that stands for a video of `count` frames."""

    picture: str
    count: int = 1

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return self.picture


@dataclass(frozen=True)
class FrameFiles:
    """The frames of one sequence: RGB files and, for RGB-X, the files of the second modality. Can be pickled."""

    store: Store
    rgb: Files
    aux: Files | None = None
    recipe: AuxRecipe | None = None

    def __len__(self) -> int:
        return len(self.rgb)

    def read(self, index: int) -> Frame:
        """Frame `index`; FileNotFoundError or DecodeError names the file."""
        aux_key = None if self.aux is None else self.aux.key(index)
        return read_frame(self.store, self.rgb.key(index), aux_key, self.recipe)

    def path(self, index: int) -> str:
        """The RGB picture's full path, for messages."""
        return self.store.describe(self.rgb.key(index))

    def keys(self, index: int) -> list[str]:
        """Keys of the RGB picture and, if there is one, of the second picture."""
        return [files.key(index) for files in (self.rgb, self.aux) if files is not None]


def numbered_files(store: Store, folder: str, pattern: str, first: int, rows: int) -> Files:
    """The pictures that belong to `rows` annotation rows, at most as many, under the data set's numbering.

    The folder is listed only if the last picture is missing. A copy with another extension or padding is taken in
    order of its numbers if they have no gap. Raises AnnotationError or FileNotFoundError naming the folder.
    """
    if rows and store.exists(f"{folder}/{pattern % (first + rows - 1)}"):
        return Numbered(folder, pattern, first, rows)
    names = picture_names(store.listdir(folder))
    usual = [n for name in names if (n := number_in(name)) is not None and name == pattern % n]
    if usual:
        count = min(rows, max(usual) - first + 1)
        _warn_if_short(store, folder, count, rows)
        return Numbered(folder, pattern, first, count)
    if not names:
        raise AnnotationError(f"no pictures like {pattern % first} in {store.describe(folder)}")
    return listed_files(store, folder, names, rows)


def listed_files(store: Store, folder: str, names: Names[str], rows: int) -> Listed:
    """Pictures by position in their sorted listing, cut to `rows`.

    With fewer pictures than rows, one that is missing within the numbering is an AnnotationError that names it,
    since all rows behind it would go with the wrong picture.
    """
    if not names:
        raise AnnotationError(f"no pictures in {store.describe(folder)}")
    if len(names) < rows and (missing := first_gap(names)):
        raise AnnotationError(
            f"{store.describe(folder)}: {len(names)} pictures for {rows} annotation rows; {missing} is missing"
        )
    _warn_if_short(store, folder, len(names), rows)
    return Listed.of(folder, names[:rows])


def first_gap(names: Names[str]) -> str | None:
    """What a numbered listing lacks: "the one after NAME" at its first gap; None without a gap, or without numbers."""
    numbers = [n for name in names if (n := number_in(name)) is not None]
    steps = [b - a for a, b in pairwise(numbers)]
    if len(numbers) < len(names) or any(step < 1 for step in steps):
        return None
    return next((f"the one after {name}" for name, step in zip(names, steps, strict=False) if step > 1), None)


def _warn_if_short(store: Store, folder: str, pictures: int, rows: int) -> None:
    if pictures < rows - 1:
        where = store.describe(folder)
        log.warning("%s: %d annotation rows but %d pictures; the rows behind are left out", where, rows, pictures)
