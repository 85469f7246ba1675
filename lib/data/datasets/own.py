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
from lib.data.datasets.frames import FrameFiles, join_key, listed_files
from lib.data.io import AnnotationError, number_rows
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
EXPECTED = (
    "expected x, y, w, h (left, top, width, height) in pixels, or a polygon, and nothing else; see docs/own_data.md"
)
HEADING = re.compile(r"\W*(?!nan\b|inf|m\s*\d)[a-z]\w*\W", re.IGNORECASE)
"""The first line of a table whose columns have names; not a row of NaN, nor a mask of VOT."""
MOVED = 5
"""Rows that are needed to see from a movement that corners are no sizes."""
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
        video: It is a video, whose frames are to be unpacked.
    """

    name: str
    folder: str
    pictures: str
    truth: str | None
    video: bool = False


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
            text += "; tracking/annotate.py makes them from the files of other programs (docs/own_data.md)"
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
        text, where = read_text(self.store, key).lstrip("\ufeff"), self.store.describe(key)
        if problem := _other_form(text, where):
            raise AnnotationError(f"{where}: {problem}; {EXPECTED}")
        boxes = VotDataset.read_truth(self, key)  # type: ignore[arg-type]
        if (negative := (boxes[:, 2:] < 0).any(axis=1)).any():
            line = int(negative.argmax())
            raise AnnotationError(f"{where}, line {line + 1}: a size is negative: {boxes[line].tolist()}")
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
        pictures = FrameFiles(self.store, files)
        if place.truth is not None and (rows[valid, 2:] > rows[valid, :2]).all() and valid.any():
            self._refuse_corners(place.truth, rows[valid], pictures)
        keys = [join_key(folder, file) for file in self.label_files]
        flags = [read_flags(self.store, key, len(rows)) for key in keys]
        visible, present, _ = self.labels(rows, valid, flags)
        return Annotation(rows, valid, visible, pictures, present=present, folder=folder)

    def _refuse_corners(self, key: str, boxes: Boxes, pictures: FrameFiles) -> None:
        """AnnotationError if rows of four numbers are two corners: boxes in the picture only if they are read so.

        Args:
            key: The box file.
            boxes: [N, 4] its rows, the third number greater than the first and the fourth than the second.
            pictures: Of the sequence; the first one's size is read.
        """
        height, width = pictures.read(0).size_hw
        low, high = boxes[:, :2], boxes[:, 2:]
        beyond = (low + high > (width + 1, height + 1)).any(axis=1).mean() > 0.5
        together = (high - low).var(axis=0).sum() < high.var(axis=0).sum() / 4 and len(boxes) >= MOVED
        fits = (low >= -1).all() and (high <= (width + 1, height + 1)).all()
        first = read_text(self.store, key).lstrip("\ufeff").splitlines()[0]
        if fits and (beyond or together) and len(re.split(r"[\s,;]+", first.strip())) == 4:
            problem = f"rows look like two corners x1, y1, x2, y2 of boxes in pictures of {width} x {height}"
            raise AnnotationError(f"{self.store.describe(key)}: {problem}; {EXPECTED}")

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


def _other_form(text: str, where: str) -> str:
    """What rows are that are no boxes in pixels; "" if they may be some.

    Args:
        text: Of a box file.
        where: The file, for messages.

    Raises:
        AnnotationError: A word is no number.
    """
    lines = text.strip().splitlines()
    if lines and HEADING.match(lines[0]):
        return f"line 1 is a heading ({lines[0][:40]!r})"
    if not lines or any(line.lstrip().startswith("m") for line in lines):  # masks
        return ""
    rows = number_rows(text, where)
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        rows = rows[:1]
    table = np.array(rows)
    seen = table[np.isfinite(table).all(axis=1) & (table[:, -4:] != 0).any(axis=1)]
    if len(seen) and ((seen[:, -4:] >= 0) & (seen[:, -4:] <= 1)).all():
        return "all numbers lie between 0 and 1 (YOLO's shares of the picture?)"
    if table.shape[1] == 5 and (table[:, 0] % 1 == 0).all():
        return f"rows begin with a number of a frame or class ({table[0, 0]:g})"
    if len(rows) < 2 or table.shape[1] < 5:
        return ""
    frames, targets = table[:, 0], table[:, 1]
    listed = table.shape[1] != 8 and (np.diff(frames) == 1).all() and frames[0] % 1 == 0
    names = np.unique(targets)
    whole = (table[:, :2] % 1 == 0).all() and all((np.diff(frames[targets == t]) > 0).all() for t in names)
    whole = whole and 2 * len(names) <= len(rows)
    marks = table[:, 6:]  # MOT's confidence, class and visibility, or -1
    if listed or (whole and (not marks.size or (np.abs(marks[:, 0]) <= 1).all() or (marks[:, -1] == -1).all())):
        return f"rows begin with the numbers of frames ({frames[0]:g}, {frames[1]:g}, ...), as MOT's"
    return ""


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
    videos = [n for n in names if n.lower().endswith(VIDEO_SUFFIXES) and not _is_folder(store, f"{start}{n}")]
    for name in natural_order(videos):
        truth = _find(names, TRUTH if len(videos) == 1 else BESIDE, _stem(name), start)
        yield Place(_stem(name), f"{start}{name}", f"{start}.frames/{name}", truth, video=True)
    for name in natural_order(set(folder_names(names)) - set(videos)) if depth else ():
        yield from _search(store, f"{start}{name}", names, depth - 1)


def _is_folder(store: Store, key: str) -> bool:
    """True for a folder; some are called by the video that their pictures come from."""
    try:
        return bool(store.listdir(key))
    except (FileNotFoundError, NotADirectoryError):
        return False


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
