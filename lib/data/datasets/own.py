"""A user's own folder of videos or of frame folders, with boxes in text files: ``FOLDER:path``."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.catalogue import DatasetSpec, Subset
from lib.data.datasets.base import Annotation, list_folder, positive, read_flags, read_text
from lib.data.datasets.box_tables import EXPECTED, BoxTable, frame_positions, read_table
from lib.data.datasets.folders import LasotDataset
from lib.data.datasets.frames import FrameFiles, join_key, listed_files
from lib.data.io import AnnotationError, warn_once
from lib.data.listing import folder_names, natural_order, picture_names
from lib.data.sources import VIDEO_SUFFIXES, SourceError, unpack_video
from lib.data.store import DirectoryStore, Store
from lib.data.types import Boxes
from lib.files import user_path
from lib.registry import listed

log = logging.getLogger(__name__)

TRUTH = ("groundtruth", "groundtruth_rect", "{}", "{}_gt", "gt", "init")
"""Names of box files in a sequence's folder, in any case, without their ending; {} is the sequence's name."""
BESIDE = TRUTH[2:4]
"""Those that may also stand next to the folder or video."""
ENDINGS = (".txt", ".csv")
OTHERS = (*ENDINGS, ".json", ".xml")
"""Endings of files that other programs may have written boxes to."""
PICTURES = ("img", "imgs", "images", "frames", "color", "rgb")
"""Sub-folders of a sequence that hold its pictures, if the sequence's folder has none itself."""
LAYOUT = "<seq>/{*.jpg, groundtruth.txt} or {<seq>.mp4, <seq>.txt}, at any depth (docs/own_data.md)"
MOVED = 5
"""Rows that are needed to see from a movement that corners are no sizes."""
PREFIX = "FOLDER"
DEPTH = 4
"""Levels of folders that are searched for sequences."""


Spellings = Mapping[str, Sequence[str]]
"""Name in lower case -> names in a folder."""


@dataclass(frozen=True)
class Place:
    """Place of a sequence.

    Attributes:
        name: The last part of its folder, or of its video without the ending.
        folder: Key of its folder or video; "" for the root.
        pictures: Key of the folder with its pictures; "" for the root.
        truth: Key of its box file; None if there is none.
        video: It is a video, whose frames are to be unpacked.
        others: Files next to its pictures that may have boxes.
        unread: Keys of further box files, which are not read.
    """

    name: str
    folder: str
    pictures: str
    truth: str | None
    video: bool = False
    others: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class OwnDataset(LasotDataset):
    """Every folder with pictures and every video below a folder, each with a file of boxes.

    Box files are those of `read_table`. Frames in front of the first row are left out; other frames without a row have
    no annotation, NaN: they can be tracked, but neither trained on nor scored.
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
        places = list(_search(root, "", {}))
        lacking = [place.folder or root.describe("") for place in places if place.truth is None]
        if lacking and self.needs_boxes:
            expected = ", ".join(f"{name}.txt".format("<name>") for name in TRUTH) + ", or .csv"
            text = f"{len(lacking)} of {len(places)} sequences have no box file ({expected}): {', '.join(lacking[:10])}"
            others = [name for place in places if place.truth is None for name in place.others]
            text += f"; there: {listed(others, 3)}" if others else ""
            text += "; tracking/annotate.py makes them from the files of other programs (docs/own_data.md)"
            if len(lacking) == len(places):
                raise FileNotFoundError(f"{root.describe('')}: {text}")
            log.warning("%s: left out: %s", root.describe(""), text)
        twice = [f"{place.truth}, not {listed(place.unread)}" for place in places if place.unread]
        if twice:
            text = f"{len(twice)} of {len(places)} sequences have several box files, of which one is read"
            log.warning("%s: %s: %s", root.describe(""), text, "; ".join(twice[:10]))
        ends = Counter(place.name for place in places)
        self._places = {
            place.name if ends[place.name] == 1 else place.folder.replace("/", "_"): place
            for place in places
            if place.truth is not None or not self.needs_boxes
        }
        return natural_order(self._places)

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        return next(_search(root, "", {}), None) is not None

    def _read(self, index: int) -> Annotation:
        place = self._places[self.names[index]]
        where = self.store.describe(place.truth or "")
        table = read_table(read_text(self.store, place.truth), where) if place.truth else BoxTable(np.zeros((0, 4)))
        boxes = table.boxes_xywh
        names = picture_names(self.store.listdir(self._unpacked(place)))
        numbers: dict[str, str] = {}
        for name in names:
            number = re.sub(r"\d+", lambda digits: str(int(digits.group())), name.rpartition(".")[0])
            if number in numbers:
                folder = self.store.describe(place.pictures)
                raise AnnotationError(f"{folder}: {numbers[number]} and {name} are pictures of one number")
            numbers[number] = name
        first = 0
        if table.frames is not None:
            at = frame_positions(table, names, not place.video, where)
            first = int(at.min())
            boxes = np.full((at.max() - first + 1, 4), np.nan)
            boxes[at - first] = table.boxes_xywh
            names = names[first:]
        elif len(names) == len(boxes) + 1 and len(boxes) > 1:
            warn_once(f"{where}: {len(boxes)} rows for {len(names)} pictures; the last one, {names.pop()}, is left out")
        files = listed_files(self.store, self._unpacked(place), names, max(len(boxes), len(names)))
        rows = np.full((len(files), 4), np.nan)
        rows[: len(boxes)] = boxes[: len(files)]
        folder, valid = (place.truth or f"{place.folder}/").rpartition("/")[0], positive(rows)
        pictures = FrameFiles(self.store, files)
        if table.may_be_corners and (rows[valid, 2:] > rows[valid, :2]).all() and valid.any():
            self._refuse_corners(where, rows[valid], pictures)
        keys = [join_key(folder, file) for file in self.label_files]
        flags = [read_flags(self.store, key, first + len(rows)) for key in keys]
        flags = [None if flag is None else flag[first:] for flag in flags]
        visible, present, _ = self.labels(rows, valid, flags)
        return Annotation(rows, valid, visible, pictures, present=present, folder=folder)

    @staticmethod
    def _refuse_corners(where: str, boxes: Boxes, pictures: FrameFiles) -> None:
        """AnnotationError if rows of four numbers are two corners: boxes in the picture only if they are read so.

        Args:
            where: The box file, for messages.
            boxes: [N, 4] its rows, the third number greater than the first and the fourth than the second.
            pictures: Of the sequence; the first one's size is read.
        """
        height, width = pictures.read(0).size_hw
        low, high = boxes[:, :2], boxes[:, 2:]
        beyond = (low + high > (width + 1, height + 1)).any(axis=1).mean() > 0.5
        together = (high - low).var(axis=0).sum() < high.var(axis=0).sum() / 4 and len(boxes) >= MOVED
        fits = (low >= -1).all() and (high <= (width + 1, height + 1)).all()
        if fits and (beyond or together):
            problem = f"rows look like two corners x1, y1, x2, y2 of boxes in pictures of {width} x {height}"
            raise AnnotationError(f"{where}: {problem}; {EXPECTED}")

    def _unpacked(self, place: Place) -> str:
        """The key of the folder with a sequence's pictures; those of a video are unpacked at the first use."""
        if not place.video:
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


def _search(store: Store, folder: str, above: Spellings, depth: int = DEPTH) -> Iterator[Place]:
    """The sequences in a folder and below it; `above`: names next to the folder."""
    names = list_folder(store, folder)
    start, up = f"{folder}/" if folder else "", f"{folder.rpartition('/')[0]}/" if "/" in folder else ""
    below = next((name for name in names if name.lower() in PICTURES), None)
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(name.lower(), []).append(name)
    others = tuple(f"{start}{name}" for name in names if name.lower().endswith(OTHERS))
    if picture_names(names) or below:
        own = _stem(folder or store.describe(""))
        found = [*_box_files(spellings, TRUTH, own, start), *_box_files(above, BESIDE, own, up)]
        pictures = folder if picture_names(names) else f"{start}{below}"
        yield Place(own, folder, pictures, next(iter(found), None), False, others, tuple(found[1:]))
        return
    # Some folders are called by the video that their pictures come from.
    videos = [n for n in names if n.lower().endswith(VIDEO_SUFFIXES) and not list_folder(store, f"{start}{n}")]
    for name in natural_order(videos):
        found = _box_files(spellings, TRUTH if len(videos) == 1 else BESIDE, _stem(name), start)
        pictures = f"{start}.frames/{name}"
        yield Place(_stem(name), f"{start}{name}", pictures, next(iter(found), None), True, others, tuple(found[1:]))
    for name in natural_order(set(folder_names(names)) - set(videos)) if depth else ():
        yield from _search(store, f"{start}{name}", spellings, depth - 1)


def _box_files(names: Spellings, patterns: Sequence[str], own: str, start: str) -> list[str]:
    """Keys of the names that patterns give, in any case, in the order of the patterns."""
    wanted = [f"{pattern.format(own)}{ending}".lower() for pattern in patterns for ending in ENDINGS]
    return [f"{start}{name}" for want in dict.fromkeys(wanted) for name in names.get(want, ())]


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
    path = user_path(given).resolve()
    if not given or not path.exists():
        raise FileNotFoundError(f"{name}: no such folder; write {PREFIX}:path/to/a/folder; expected in it: {LAYOUT}")
    key = f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"
    return DatasetSpec(key, f"own data in {path}", OwnDataset, (Subset("test"),), (str(path),), LAYOUT)
