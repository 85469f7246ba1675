"""Base of all data sets: an index of names, and annotations that are read on demand and kept in a bounded cache."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data.datasets.frames import FrameFiles, Listed, cut_rows, numbered_files
from lib.data.io import AnnotationError, decode_text, expect_form, parse_boxes, parse_numbers
from lib.data.listing import check_name, number_in, picture_names
from lib.data.store import Store, SubStore, ZipStore
from lib.data.types import Boxes, Mask, Modality, Qualities, Video

log = logging.getLogger(__name__)

CACHE_BYTES = 64 << 20
"""Annotations that one data set keeps per process; all of LaSOT's are about 95 MB."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Content of the files of one sequence; N frames have both a picture and an annotation row.

    Attributes:
        boxes_xywh: [N, 4] float64 boxes x, y, w, h in image pixels; NaN where the file has NaN.
        valid: [N] bool, the box can be a regression target.
        visible: [N] bool, the target can be seen.
        frames: The pictures.
        visible_ratio: [N] in 0..1, if the data set has it.
        object_class: What the target is.
        present: [N] bool by the data set's own presence labels; None without (complete) labels.
        second_boxes_xywh: [N, 4] ground truth in the second modality, if the reader is set up to read it.
        rows: Annotation rows before they were cut to the pictures; None if rows and pictures need not agree.
        folder: Key of the folder with the annotation files.
        read_mask: Masks of the target, see `Video`.
        qualities: Of pseudo labels.
        corners: [N, 8] annotated polygons, see `Video`.
    """

    boxes_xywh: Boxes
    valid: Mask
    visible: Mask
    frames: FrameFiles
    visible_ratio: NDArray[np.float64] | None = None
    object_class: str | None = None
    present: Mask | None = None
    second_boxes_xywh: Boxes | None = None
    rows: int | None = None
    folder: str = ""
    read_mask: Callable[[int], Mask | None] | None = None
    qualities: Qualities | None = None
    corners: Boxes | None = None

    @property
    def nbytes(self) -> int:
        """Rough size in memory."""
        arrays = (self.boxes_xywh, self.valid, self.visible, self.visible_ratio, self.present, self.second_boxes_xywh)
        names = sum(f.names.nbytes for f in (self.frames.rgb, self.frames.aux) if isinstance(f, Listed))
        return sum(a.nbytes for a in arrays if a is not None) + names + 1024


OF_VIDEO = [field.name for field in fields(Annotation) if field.name in Video.__dataclass_fields__]
"""What a video takes from its annotation as it is."""


class StoredDataset(ABC):
    """A data set in a store; subclasses read one sequence (`_read`).

    Sequences are addressed by number, by iteration, or by name (`by_name`). Can be pickled, without the cache.

    Args:
        store: Files of the data set; keys are relative to the folder where its layout starts.
        names: Sequences.
        name: Name of the data set, for messages.

    Raises:
        AnnotationError: One of `names` is no name (`check_name`).
    """

    modality = Modality.RGB
    is_video = True
    label_files: tuple[str, ...] = ()
    """Optional files of a sequence with a number per frame."""

    def __init__(self, store: Store, names: Sequence[str], name: str) -> None:
        self.store = store
        try:
            self.names = [check_name(video) for video in names]
        except ValueError as error:
            raise AnnotationError(f"{name} in {store.describe('')}: {error}") from None
        self.name = name
        self._attributes = _read_attributes(store)
        self._positions: dict[str, int] | None = None
        self._cache: OrderedDict[int, Annotation] = OrderedDict()
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Video:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} sequences; there is no number {index}")
        index %= len(self)
        found = self.annotation(index)
        name = self.sequence_name(index)
        return Video(
            name=name,
            read_frame=found.frames.read,
            frame_path=found.frames.path,
            modality=self.modality,
            attributes=self._attributes.get(name, frozenset()),
            is_video=self.is_video,
            dataset=self.name,
            **{field: getattr(found, field) for field in OF_VIDEO},
        )

    def __iter__(self) -> Iterator[Video]:
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict(), "_cached_bytes": 0}

    def restrict_to(self, names: Sequence[str]) -> None:
        """Restrict the data set to some sequences.

        Args:
            names: The sequences in their new order.
        """
        self.names, self._positions = list(names), None
        self._cache.clear()
        self._cached_bytes = 0

    def position(self, name: str) -> int:
        """The number of a sequence.

        Args:
            name: Its name, as `sequence_name` gives it.

        Raises:
            KeyError: The data set has no sequence of this name.
        """
        if self._positions is None:
            self._positions = {self.sequence_name(i): i for i in range(len(self))}
        if name not in self._positions:
            raise KeyError(f"{self.name} has no sequence {name!r}")
        return self._positions[name]

    def by_name(self, name: str) -> Video:
        """The sequence with this name; KeyError if there is none."""
        return self[self.position(name)]

    def sequence_name(self, index: int) -> str:
        """The name of sequence `index`; no file is read."""
        return self.names[index]

    def annotation(self, index: int) -> Annotation:
        """The annotation of a sequence, from the cache or from its files.

        Args:
            index: Number of the sequence, not negative.

        Raises:
            FileNotFoundError: A file is missing; the message names it.
            AnnotationError: A file is damaged; the message names it.
        """
        found = self._cache.pop(index, None)
        if found is None:
            found = self._read(index)
            self._cached_bytes += found.nbytes
        self._cache[index] = found
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return found

    @abstractmethod
    def _read(self, index: int) -> Annotation:
        """Read the files of a sequence.

        Args:
            index: Number of the sequence, not negative.

        Raises:
            FileNotFoundError: A file is missing; the message names it.
            AnnotationError: A file is damaged; the message names it.
        """


def _read_attributes(store: Store) -> dict[str, frozenset[str]]:
    """{sequence: tags} of an `attributes.json` at the root, if the data set has one."""
    if not store.exists("attributes.json"):
        return {}
    where = store.describe("attributes.json")
    with expect_form(where, "readable JSON"):
        table = json.loads(decode_text(store.read("attributes.json"), where).lstrip("\ufeff"))
    expected = 'expected {"sequence": ["tag", "tag"]}, found'
    if not isinstance(table, dict):
        raise AnnotationError(f"{where}: {expected} {json.dumps(table)[:80]}")
    for name, tags in table.items():
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise AnnotationError(f"{where}: {expected} {json.dumps(tags)[:80]} for {name!r:.40}")
    return {name: frozenset(tags) for name, tags in table.items()}


def read_text(store: Store, key: str) -> str:
    """A text file of a store.

    Args:
        store: Files of the data set.
        key: The file.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not text.
    """
    return decode_text(store.read(key), store.describe(key))


def list_folder(store: Store, key: str) -> list[str]:
    """Sorted names in a folder of a store; none where there is no such folder, or a file in its place."""
    try:
        return store.listdir(key)
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_names(store: Store, key: str) -> list[str]:
    """A list file with one name per line; blank lines are left out, and so are names that were there, with a warning.

    Args:
        store: Files of the data set.
        key: The list file.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It holds no name, or a line is none (`check_name`).
    """
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(store, key).lstrip("\ufeff").splitlines(), 1):
        try:
            name = check_name(line.strip()) if line.strip() else ""
        except ValueError as error:
            raise AnnotationError(f"{store.describe(key)}, line {number}: {error}") from None
        if name in names:
            log.warning("%s, line %d: %s is in line %d already", store.describe(key), number, name, names[name])
        elif name:
            names[name] = number
    if not names:
        raise AnnotationError(f"{store.describe(key)}: the list is empty, expected one name per line")
    return list(names)


def read_boxes(store: Store, key: str) -> Boxes:
    """An annotation file with one box per line.

    Args:
        store: Files of the data set.
        key: The annotation file.

    Returns:
        [N, 4] float64 boxes x, y, w, h in image pixels, N > 0.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is empty or damaged.
    """
    boxes = parse_boxes(read_text(store, key), store.describe(key))
    if not len(boxes):
        raise AnnotationError(f"{store.describe(key)}: no annotation row")
    return boxes


def read_flags(store: Store, key: str, rows: int) -> NDArray[np.float64] | None:
    """One number per frame from an optional file.

    Args:
        store: Files of the data set.
        key: The label file.
        rows: Number of annotation rows.

    Returns:
        [rows] or [rows - 1] float64, since files may be one number short; None if there is no such file.

    Raises:
        AnnotationError: More than one number is missing.
    """
    try:
        text = read_text(store, key)
    except FileNotFoundError:
        return None
    values = parse_numbers(text, store.describe(key))
    if len(values) < rows - 1:
        raise AnnotationError(f"{store.describe(key)}: {len(values)} values for {rows} annotation rows")
    return cut_rows(values, rows, store.describe(key))


def first_existing(store: Store, keys: Sequence[str]) -> str:
    """The first of several keys that exists.

    Args:
        store: Files of the data set.
        keys: Files or folders in order of preference.

    Raises:
        FileNotFoundError: None exists; the message names all of them.
    """
    for key in keys:
        if store.exists(key):
            return key
    others = f" (nor {', '.join(keys[1:])})" if len(keys) > 1 else ""
    raise FileNotFoundError(f"no such file: {store.describe(keys[0])}{others}")


def positive(boxes: Boxes, more_than: float = 0) -> Mask:
    """Select the boxes that are large enough to be regression targets.

    Args:
        boxes: [N, 4] x, y, w, h.
        more_than: Bound for width and height, in the unit of the boxes.

    Returns:
        [N] bool: width and height exceed the bound; False for NaN.
    """
    return (boxes[:, 2] > more_than) & (boxes[:, 3] > more_than)


def first_box_only(
    store: Store, folder: str, pattern: str, first: int, boxes: Boxes, object_class: str | None = None
) -> Annotation:
    """The annotation of a test sequence of which nothing but the first box is published.

    Args:
        store: Files of the data set.
        folder: Folder of the pictures.
        pattern, first: Their names and the number of the first one, see `numbered_files`.
        boxes: [N, 4] boxes x, y, w, h in image pixels, N > 0.
        object_class: Class of the target, if it is known.

    Returns:
        One row per picture: the first box, then NaN.

    Raises:
        AnnotationError: There are no pictures, or they are numbered in another way.
    """
    pictures = picture_names(store.listdir(folder))
    if not pictures:
        raise AnnotationError(f"no pictures in {store.describe(folder)}")
    files = numbered_files(store, folder, pattern, first, max(1, (number_in(pictures[-1]) or 0) - first + 1))
    padded = np.full((len(files), 4), np.nan)
    padded[0] = boxes[0]
    valid = positive(padded)
    return Annotation(padded, valid, valid, FrameFiles(store, files), object_class=object_class, folder=folder)


def locate_root(
    store: Store, looks_right: Callable[[Store], bool], name: str, layout: str, below: Sequence[str] = ()
) -> Store:
    """Find the folder where a data set's own layout starts.

    That is the root, one of the folders `below`, or the only folder at the root (archives are often packed with
    their folder).

    Args:
        store: Folder, archive or LMDB of the data set.
        looks_right: Returns True for a store whose root has the layout.
        name: Name of the data set, for the message.
        layout: Expected layout, for the message.
        below: Folders that the layout may start in.

    Returns:
        The store with keys relative to that folder.

    Raises:
        FileNotFoundError: No folder has the layout.
    """

    def candidates() -> Iterator[Store]:
        yield store
        if isinstance(store, ZipStore):
            yield ZipStore(store.path, top="")
        yield from (SubStore(store, folder) for folder in below)
        children = store.listdir("")
        if len(children) == 1:
            yield SubStore(store, children[0])

    for view in candidates():
        try:
            if looks_right(view):
                return view
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise FileNotFoundError(f"{name}: nothing that looks like it in {store.describe('')}; expected layout: {layout}")


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Silence the warnings of readers, for callers that report the same themselves."""
    logger = logging.getLogger("lib.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
