"""A user's own folder of videos or of frame folders, with boxes in text files: ``FOLDER:path``."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.catalogue import DatasetSpec, Subset
from lib.data.datasets.base import Annotation, positive, read_flags, read_text
from lib.data.datasets.folders import LasotDataset, VotDataset
from lib.data.datasets.frames import FrameFiles, listed_files
from lib.data.io import AnnotationError
from lib.data.listing import folder_names, natural_order, picture_names
from lib.data.store import DirectoryStore, Store
from lib.data.types import Boxes
from lib.data.video import VIDEO_SUFFIXES, SourceError, unpack_video

log = logging.getLogger(__name__)

TRUTH = ("groundtruth.txt", "groundtruth_rect.txt", "{}.txt", "{}_gt.txt", "gt.txt", "init.txt")
"""Names of box files in a sequence's folder, in any case; {} is the sequence's name. The third and fourth may also
stand next to the folder or video."""
BESIDE = TRUTH[2:4]
PICTURES = ("img", "imgs", "images", "frames", "color", "rgb")
"""Sub-folders of a sequence that hold its pictures, if the sequence's folder has none itself."""
LAYOUT = "<seq>/{*.jpg, groundtruth.txt} or {<seq>.mp4, <seq>.txt}, at any depth (docs/own_data.md)"
PREFIX = "FOLDER"
DEPTH = 4
"""Levels of folders that are searched for sequences."""


@dataclass(frozen=True)
class Place:
    """Where a sequence is.

    Attributes:
        name: The last part of its folder, or of its video without the ending.
        folder: Key of its folder or video; "" for the root.
        pictures: Key of the folder with its pictures; "" for the root.
        truth: Key of its box file; None if there is none.
    """

    name: str
    folder: str
    pictures: str
    truth: str | None


class OwnDataset(LasotDataset):
    """Every folder with pictures and every video below a folder, each with a file of boxes.

    Boxes are x, y, w, h or polygons (four corners) in image pixels. A row of NaN or zeros is a frame without the
    target. Frames behind the last row have no annotation, NaN: they can be tracked, but neither trained on nor scored.
    `full_occlusion.txt` and `out_of_view.txt` are used where there are any. The other arguments are those of
    `FolderDataset`.

    Args:
        needs_boxes: Sequences without a file of boxes are left out; otherwise all their boxes are NaN.
    """

    layout = LAYOUT
    class_pattern = ""

    def __init__(self, *args: Any, needs_boxes: bool = True, **options: Any) -> None:
        self.needs_boxes = needs_boxes
        super().__init__(*args, **options)

    def find_names(self, root: Store) -> list[str]:
        places = list(_search(root, ""))
        lacking = [place.folder or root.describe("") for place in places if place.truth is None]
        if lacking and self.needs_boxes:
            expected = ", ".join(name.format("<name>") for name in TRUTH)
            text = f"{len(lacking)} of {len(places)} sequences have no box file ({expected}): {', '.join(lacking[:10])}"
            if len(lacking) == len(places):
                raise FileNotFoundError(f"{root.describe('')}: {text}")
            log.warning("%s: left out: %s", root.describe(""), text)
        ends = Counter(place.name for place in places)
        self._places = {
            place.name if ends[place.name] == 1 else place.folder.replace("/", "_"): place
            for place in places
            if place.truth is not None or not self.needs_boxes
        }
        return natural_order(self._places)

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        return next(_search(root, ""), None) is not None

    def read_truth(self, key: str) -> Boxes:
        boxes = VotDataset.read_truth(self, key)  # type: ignore[arg-type]
        rows = [re.split(r"[\s,;]+", line.strip()) for line in read_text(self.store, key).strip().splitlines()]
        first = [row[0] for row in rows]
        numbered = first[0].isdecimal() and first == [str(int(first[0]) + i) for i in range(len(first))]
        if numbered and len(rows) > 1 and len(rows[0]) not in (4, 8):
            raise AnnotationError(
                f"{self.store.describe(key)}: rows begin with the numbers of frames ({first[0]}, {first[1]}, ...); "
                "expected x, y, w, h or a polygon and nothing in front"
            )
        if (negative := (boxes[:, 2:] < 0).any(axis=1)).any():
            line = int(negative.argmax())
            raise AnnotationError(
                f"{self.store.describe(key)}, line {line + 1}: a size is negative: {boxes[line].tolist()}"
            )
        boxes[np.isnan(boxes).any(axis=1)] = 0.0
        return boxes

    def _read(self, index: int) -> Annotation:
        place = self._places[self.names[index]]
        boxes = np.zeros((0, 4)) if place.truth is None else self.read_truth(place.truth)
        names = picture_names(self.store.listdir(self._unpacked(place)))
        numbers: dict[str, str] = {}
        for name in names:
            number = re.sub(r"\d+", lambda digits: str(int(digits.group())), name.rpartition(".")[0])
            if number in numbers:
                where = self.store.describe(place.pictures)
                raise AnnotationError(f"{where}: {numbers[number]} and {name} are pictures of one number")
            numbers[number] = name
        if len(names) == len(boxes) + 1 and len(boxes) > 1:
            names.pop()
        files = listed_files(self.store, self._unpacked(place), names, max(len(boxes), len(names)))
        rows = np.full((len(files), 4), np.nan)
        rows[: len(boxes)] = boxes[: len(files)]
        folder, valid = (place.truth or f"{place.folder}/").rpartition("/")[0], positive(rows)
        keys = [f"{folder}/{file}".lstrip("/") for file in self.label_files]
        flags = [read_flags(self.store, key, len(rows)) for key in keys]
        visible, present, _ = self.labels(rows, valid, flags)
        return Annotation(rows, valid, visible, FrameFiles(self.store, files), present=present, folder=folder)

    def _unpacked(self, place: Place) -> str:
        """The key of the folder with a sequence's pictures; those of a video are unpacked at the first use."""
        if not place.folder.lower().endswith(VIDEO_SUFFIXES):
            return place.pictures
        if not isinstance(self.store, DirectoryStore):
            raise FileNotFoundError(f"{self.store.describe(place.folder)}: unpack archives that hold videos")
        try:
            unpack_video(Path(self.store.describe(place.folder)), Path(self.store.describe(place.pictures)))
        except SourceError as error:
            raise AnnotationError(str(error)) from None
        return place.pictures


def _stem(folder: str) -> str:
    """The last part of a folder's or video's path, without the ending of a video."""
    name = folder.replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[0] if name.lower().endswith(VIDEO_SUFFIXES) else name


def _search(store: Store, folder: str, above: Sequence[str] = (), depth: int = DEPTH) -> Iterator[Place]:
    """The sequences in a folder and below it; `above`: names next to the folder."""
    try:
        names = store.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    start, up = f"{folder}/" if folder else "", f"{folder.rpartition('/')[0]}/" if "/" in folder else ""
    below = next((name for name in names if name.lower() in PICTURES), None)
    if picture_names(names) or below:
        own = _stem(folder or store.describe(""))
        truth = _find(names, TRUTH, own, start) or _find(above, BESIDE, own, up)
        yield Place(own, folder, folder if picture_names(names) else f"{start}{below}", truth)
        return
    videos = [name for name in names if name.lower().endswith(VIDEO_SUFFIXES)]
    for name in natural_order(videos):
        truth = _find(names, TRUTH if len(videos) == 1 else BESIDE, _stem(name), start)
        yield Place(_stem(name), f"{start}{name}", f"{start}.frames/{name}", truth)
    for name in natural_order(set(folder_names(names)) - set(videos)) if depth else ():
        yield from _search(store, f"{start}{name}", names, depth - 1)


def _find(names: Sequence[str], patterns: Sequence[str], own: str, start: str) -> str | None:
    """The key of the first name that a pattern gives, in any case."""
    there = {name.lower(): name for name in names}
    found = (there.get(pattern.format(own).lower()) for pattern in patterns)
    return next((f"{start}{name}" for name in found if name), None)


def folder_row(name: str) -> DatasetSpec:
    """The row of an own folder, which is not in the catalogue.

    Args:
        name: `FOLDER:path/to/a/folder`, as in ``DATASETS_NAME`` and ``--dataset``.

    Returns:
        A row whose key is the folder's name and six digits, by which folders of one name differ.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    given = name.partition(":")[2]
    path = Path(given).expanduser().resolve()
    if not given or not path.exists():
        raise FileNotFoundError(f"{name}: no such folder; write {PREFIX}:path/to/a/folder; expected in it: {LAYOUT}")
    key = f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"
    return DatasetSpec(key, f"own data in {path}", OwnDataset, (Subset("test"),), (str(path),), LAYOUT)
