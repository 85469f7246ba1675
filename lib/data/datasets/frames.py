"""The picture files of a sequence, without an object per frame, and the pairing of two cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lib.data.io import AnnotationError, warn_once
from lib.data.listing import number_in, picture_names
from lib.data.modalities import AuxRecipe, read_frame
from lib.data.store import Store
from lib.data.types import Frame


def join_key(folder: str, name: str) -> str:
    """The key of a file in a folder; "" is the root."""
    return f"{folder}/{name}" if folder else name


@dataclass(frozen=True)
class Numbered:
    """Files numbered without a gap.

    Attributes:
        folder: Their folder.
        pattern: File name with a place for the number, such as "%08d.jpg".
        first: Number of the first file.
        count: Number of files.
    """

    folder: str
    pattern: str
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return join_key(self.folder, self.pattern % (self.first + index))


@dataclass(frozen=True)
class Listed:
    """Files in the order of a listing.

    Attributes:
        folder: Their folder.
        names: [N] file names, in one array instead of an object each.
    """

    folder: str
    names: NDArray[np.str_]

    @classmethod
    def of(cls, folder: str, names: Sequence[str]) -> Listed:
        return cls(folder, np.array(list(names), dtype=np.str_))

    def __len__(self) -> int:
        return len(self.names)

    def key(self, index: int) -> str:
        return join_key(self.folder, str(self.names[index]))


Files = Numbered | Listed
"""Keys of pictures by frame number 0, 1, ..."""


@dataclass(frozen=True)
class FrameFiles:
    """The frames of one sequence. Can be pickled.

    Attributes:
        store: Files of the data set.
        rgb: RGB pictures.
        aux: Pictures of the second modality, equally many; None for RGB.
        recipe: Conversion of the second picture to an image; None for RGB.
    """

    store: Store
    rgb: Files
    aux: Files | None = None
    recipe: AuxRecipe | None = None

    def __len__(self) -> int:
        return len(self.rgb)

    def read(self, index: int) -> Frame:
        """Read and decode a frame.

        Args:
            index: Number of the frame, 0 for the first.

        Raises:
            FileNotFoundError: A picture is missing; the message names it.
            DecodeError: A picture is broken; the message names it.
        """
        aux_key = None if self.aux is None else self.aux.key(index)
        return read_frame(self.store, self.rgb.key(index), aux_key, self.recipe)

    def path(self, index: int) -> str:
        """The RGB picture's full path, for messages."""
        return self.store.describe(self.rgb.key(index))

    def keys(self, index: int) -> list[str]:
        """Keys of the RGB picture and, if there is one, of the second picture."""
        return [files.key(index) for files in (self.rgb, self.aux) if files is not None]


class PairingError(AnnotationError):
    """Pictures and annotation rows that do not belong together one to one; the message has both ends of both."""


def unpaired(store: Store, folder: str, names: Sequence[str], rows: int, reason: str) -> PairingError:
    """The error for pictures that cannot be paired with annotation rows.

    Args:
        store: Files of the data set.
        folder: Folder of the pictures.
        names: The pictures in it, in natural order, at least one.
        rows: Number of annotation rows.
        reason: What is wrong with them, by the data set's rule.
    """
    found = f"{len(names)} pictures in {store.describe(folder)} ({names[0]} to {names[-1]})"
    return PairingError(f"{found} cannot be paired with {rows} annotation rows (1 to {rows}): {reason}")


def numbered_files(store: Store, folder: str, pattern: str, first: int, rows: int, lowest: int | None = None) -> Files:
    """The pictures that belong to `rows` annotation rows, at most as many, under the data set's numbering.

    The folder is listed only if the numbering is not as expected. A copy with another extension or padding is taken in
    order of its numbers if they have no gap.

    Args:
        store: Files of the data set.
        folder: Folder of the pictures.
        pattern: File name such as "%08d.jpg".
        first: Number of the picture of row 1.
        rows: Number of annotation rows.
        lowest: Smallest number in the folder, for sequences that are a part of a longer video; None for `first`.

    Raises:
        PairingError: Numbers begin elsewhere, or at least two pictures are missing at the end.
        AnnotationError, FileNotFoundError: There are no such pictures; the message names the folder.
    """
    lowest = first if lowest is None else lowest

    def exists(number: int) -> bool:
        return store.exists(f"{folder}/{pattern % number}")

    below = lowest > 0 and exists(lowest - 1)
    if rows and exists(first) and exists(first + rows - 1) and not below:
        if lowest == first and exists(first + rows + 1):
            warn_once(f"{store.describe(folder)}: more pictures than the {rows} annotation rows; those have no row")
        return Numbered(folder, pattern, first, rows)
    names = picture_names(store.listdir(folder))
    if not names:
        raise AnnotationError(f"no pictures like {pattern % first} in {store.describe(folder)}")
    numbered = [(n, name) for name in names if (n := number_in(name)) is not None]
    usual = [(n, name) for n, name in numbered if name == pattern % n]
    numbers = [n for n, _ in usual or numbered]
    if first not in numbers or min(numbers) < lowest:
        rule = f"numbers begin with {lowest}" if lowest == first else f"row 1 is picture {first}, numbers from {lowest}"
        raise unpaired(store, folder, [name for _, name in usual] or names, rows, f"in this data set {rule}")
    if not usual:
        behind = numbers[numbers.index(first) :]
        if behind != list(range(first, first + len(behind))):
            raise unpaired(store, folder, names, rows, f"{first_gap(names) or 'a number'} is missing")
        return listed_files(store, folder, [name for n, name in numbered if n >= first], rows)
    count = min(rows, max(numbers) - first + 1)
    _check_count(store, folder, [name for n, name in usual if n >= first], count, rows)
    return Numbered(folder, pattern, first, count)


def listed_files(store: Store, folder: str, names: Sequence[str], rows: int) -> Listed:
    """Pictures by position in their sorted listing.

    Args:
        store: Files of the data set.
        folder: Folder of the pictures.
        names: The pictures in it, in natural order.
        rows: Number of annotation rows.

    Returns:
        The first `rows` pictures.

    Raises:
        PairingError: At least two pictures fewer than rows, or one that is missing within the numbering, so that all
            rows behind it would go with the wrong picture.
        AnnotationError: There are none.
    """
    if not names:
        raise AnnotationError(f"no pictures in {store.describe(folder)}")
    if len(names) < rows and (missing := first_gap(names)):
        raise unpaired(store, folder, names, rows, f"{missing} is missing")
    _check_count(store, folder, names, len(names), rows)
    return Listed.of(folder, names[:rows])


def first_gap(names: Sequence[str]) -> str | None:
    """The first picture that a numbered listing lacks.

    Args:
        names: File names in natural order.

    Returns:
        "the one after NAME"; None if there is no gap, or names have no rising numbers.
    """
    numbers = [n for name in names if (n := number_in(name)) is not None]
    steps = [b - a for a, b in pairwise(numbers)]
    if len(numbers) < len(names) or any(step < 1 for step in steps):
        return None
    return next((f"the one after {name}" for name, step in zip(names, steps, strict=False) if step > 1), None)


def _check_count(store: Store, folder: str, names: Sequence[str], count: int, rows: int) -> None:
    """PairingError if at least two of `rows` have no picture; a warning for one, and for pictures without a row."""
    if count < rows - 1:
        raise unpaired(store, folder, names, rows, f"the last {rows - count} rows have no picture")
    if count == rows - 1 or len(names) > rows + 1:
        rest = f"{rows} annotation rows; the surplus is left out"
        warn_once(f"{store.describe(folder)}: {len(names)} pictures ({names[0]} to {names[-1]}), {rest}")


def cut_rows(values: NDArray[np.float64], count: int, where: str) -> NDArray[np.float64]:
    """The first rows of an annotation file, with a warning that names the file if there are more.

    Args:
        values: One row per frame.
        count: Number of frames.
        where: The file, for the message.
    """
    if len(values) > count:
        warn_once(f"{where}: {len(values)} rows for {count} frames; the rows behind are left out")
    return values[:count]


def paired_by_position(store: Store, rgb_folder: str, aux_folder: str, rows: int) -> tuple[Listed, Listed]:
    """The pictures of two cameras whose file names do not agree: n-th with n-th in natural order.

    One picture more at the end of either folder or of both is ignored.

    Args:
        store: Files of the data set.
        rgb_folder: Pictures of the RGB camera.
        aux_folder: Pictures of the other camera.
        rows: Number of annotation rows.

    Returns:
        (RGB pictures, pictures of the other camera), at most `rows` each.

    Raises:
        PairingError: Any other difference, which would pair pictures of different moments, or pictures with rows of
            others; the message names the first picture without a counterpart, or both ends of pictures and rows.
    """
    rgb, aux = picture_names(store.listdir(rgb_folder)), picture_names(store.listdir(aux_folder))
    if len(rgb) != len(aux):
        listings = (rgb_folder, rgb), (aux_folder, aux)
        (short_folder, shorter), (long_folder, longer) = sorted(listings, key=lambda listing: len(listing[1]))
        place, surplus = _first_difference(longer, shorter), len(longer) - len(shorter)
        if place is None:
            place = len(shorter) if surplus > 1 else None
        elif surplus == 1 and len(shorter) >= rows:
            # There is a picture for every row, so other numbers may be an odd way of numbering. Only a picture without
            # which all the others agree is an error.
            others = longer[:place] + longer[place + 1 :]
            place = place if _first_difference(others, shorter) is None else None
        if place is not None:
            raise PairingError(
                f"{store.describe(f'{long_folder}/{longer[place]}')} has no counterpart: {len(longer)} pictures there "
                f"({longer[0]} to {longer[-1]}), {len(shorter)} in {store.describe(short_folder)}"
                + (f" ({shorter[0]} to {shorter[-1]})" if shorter else "")
            )
    count = min(len(rgb), len(aux))
    if count > rows + 1:
        reason = f"numbers begin anywhere in this data set, so that any of {count - rows} pictures may be surplus"
        raise unpaired(store, rgb_folder, rgb, rows, reason)
    return listed_files(store, rgb_folder, rgb[:count], rows), listed_files(store, aux_folder, aux[:count], rows)


def _first_difference(longer: list[str], shorter: list[str]) -> int | None:
    """The first position where the numbers of two listings, counted from the first of each, differ."""

    def steps(names: list[str]) -> list[int | None]:
        numbers = [number_in(name) for name in names]
        start = numbers[0] if numbers else None
        return [None if n is None or start is None else n - start for n in numbers]

    return next((i for i, (a, b) in enumerate(zip(steps(longer), steps(shorter), strict=False)) if a != b), None)
