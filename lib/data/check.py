"""Is a data set whole? Sequences found and missing, pictures against annotation rows, broken pictures.

Everything goes through the readers that training and evaluation use: what passes here is read there.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lib.data.check_parts import Part
from lib.data.datasets import Annotation, StoredDataset
from lib.data.datasets.base import quiet_readers, read_text
from lib.data.io import AnnotationError, DecodeError, verify_picture
from lib.data.listing import picture_names
from lib.data.store import Store
from lib.paths import Paths

Depth = Literal["fast", "normal", "full"]
"""fast: annotations, first and last picture; normal: every picture is there; full: every picture is read."""

_LISTINGS_KEPT = 2
"""Folders whose names are remembered: the two of an RGB-X sequence, or the one of an image data set."""

_READ_ERRORS = (FileNotFoundError, NotADirectoryError, PermissionError, AnnotationError, DecodeError)


@dataclass
class Finding:
    """What was found of one part. found: sequences that can be used as they are.

    place: where it was looked for. missing: sequences that are not there; unreadable: those with damaged annotations or
    lost pictures; mismatched: those with more or fewer pictures than annotation rows; broken: pictures that are cut
    short or no pictures, of `pictures` that were read. missing_files, problems: a line for each missing sequence, and
    for whatever else is wrong, files named.
    """

    part: Part
    place: Path
    there: bool = True
    found: int = 0
    total: int = 0
    missing: int = 0
    unreadable: int = 0
    mismatched: int = 0
    broken: int = 0
    pictures: int = 0
    missing_files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """Sequences of the published set; those that are there where any number is right."""
        return self.total if self.part.expected is None else self.part.expected

    def first_trouble(self, partial: bool = False) -> str:
        """The first line of what is missing or wrong, or ""; with `partial`, what is wrong goes before."""
        first = (self.problems, self.missing_files) if partial else (self.missing_files, self.problems)
        return next((lines[0] for lines in first if lines), "")

    def is_wrong(self, partial: bool = False) -> bool:
        """Not as published. More pictures than rows, or one fewer, is seen in the releases and no fault.

        partial: sequences that are not there are no fault either, as long as there are some.
        """
        enough = self.found >= (1 if partial else max(1, self.expected))
        return not enough or self.broken > 0 or self.unreadable > 0


def check_part(
    part: Part,
    paths: Paths,
    depth: Depth = "normal",
    *,
    threads: int = 4,
    progress: Callable[[int], None] = lambda sequences: None,
    begin: Callable[[int], None] = lambda sequences: None,
) -> Finding:
    """Check one part. begin(sequences) is called once it is open, progress(1) after every sequence."""
    place = paths.find(part.key)
    if place is None:
        looked = paths.candidates(part.key)[0]
        return Finding(part, looked, there=False, missing_files=[f"{looked} is not there"])
    finding = Finding(part, place)
    with quiet_readers():  # of what is counted and listed here
        try:
            dataset = part.read(place)
        except (*_READ_ERRORS, OSError, ValueError) as error:
            finding.there = False
            finding.missing_files.append(_message(error))
            return finding
        finding.total = len(dataset)
        begin(finding.total)
        look = _Look(part, depth, finding)
        with ThreadPoolExecutor(threads) as pool:
            for index in range(len(dataset)):
                look.sequence(dataset, index, pool)
                progress(1)
    if part.expected is not None and finding.total < part.expected:
        finding.missing += part.expected - finding.total
        finding.missing_files.append(f"{finding.total} sequences in {place}, {part.expected} are published")
    return finding


class _Look:
    """Goes through the sequences of one part and writes down what it finds."""

    def __init__(self, part: Part, depth: Depth, finding: Finding) -> None:
        self._part, self._depth, self._finding = part, depth, finding
        self._listings: dict[str, frozenset[str]] = {}
        self._read: set[str] = set()

    def sequence(self, dataset: StoredDataset, index: int, pool: ThreadPoolExecutor) -> None:
        """Look at one sequence."""
        finding, name = self._finding, dataset.sequence_name(index)
        try:
            annotation = dataset.annotation(index)
            absent = self._absent_pictures(annotation)
            usable = self._depth == "fast" or self._compare_rows(name, annotation)
        except (*_READ_ERRORS, OSError) as error:
            if isinstance(error, FileNotFoundError) and not _has_folder(dataset, name):
                finding.missing += 1
                finding.missing_files.append(f"{name}: {_message(error)}")
            else:
                finding.unreadable += 1
                finding.problems.append(f"{name}: {_message(error)}")
            return
        if absent:
            count = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            line = f"{annotation.frames.store.describe(absent[0])} is missing{count}"
            if line not in finding.problems[-1:]:  # the objects of one COCO picture follow one another
                finding.problems.append(line)
        if usable and not absent:
            finding.found += 1
        else:
            finding.unreadable += 1
        if self._depth == "full":
            self._verify(annotation, frozenset(absent), pool)

    def _absent_pictures(self, annotation: Annotation) -> list[str]:
        frames = annotation.frames
        if self._depth == "fast":
            keys = dict.fromkeys(key for i in (0, len(frames) - 1) for key in frames.keys(i))
            return [key for key in keys if not frames.store.exists(key)]
        absent = []
        for files in (frames.rgb, frames.aux):
            for key in (files.key(i) for i in range(len(files))) if files is not None else ():
                folder, _, name = key.rpartition("/")
                if name not in self._names_in(frames.store, folder):
                    absent.append(key)
        return absent

    def _names_in(self, store: Store, folder: str) -> frozenset[str]:
        place = store.describe(folder)
        if place not in self._listings:
            if len(self._listings) >= _LISTINGS_KEPT:
                self._listings.clear()
            self._listings[place] = frozenset(store.listdir(folder))
        return self._listings[place]

    def _compare_rows(self, name: str, annotation: Annotation) -> bool:
        """Count pictures and rows; False when pictures are lost (one fewer than rows is common in the releases)."""
        frames = annotation.frames
        folders = [f.key(0).rpartition("/")[0] for f in (frames.rgb, frames.aux) if f is not None]
        rows = self._rows(frames.store, folders[0], name)
        if rows is None:
            return True
        counts = {folder: len(picture_names(self._names_in(frames.store, folder))) for folder in folders}
        if all(count == rows for count in counts.values()):
            return True
        self._finding.mismatched += 1
        told = " and ".join(f"{count} pictures in {frames.store.describe(f)}" for f, count in counts.items())
        self._finding.problems.append(f"{told}, {rows} annotation rows")
        return min(counts.values()) >= rows - 1

    def _rows(self, store: Store, folder: str, name: str) -> int | None:
        parent = folder.rpartition("/")[0]
        for file in self._part.truth:
            keys = (
                [file.format(name=name)] if "{" in file else [f"{place}/{file}" for place in (parent, folder) if place]
            )
            for key in keys:
                if store.exists(key):
                    return sum(bool(line.strip()) for line in read_text(store, key).splitlines())
        return None

    def _verify(self, annotation: Annotation, absent: frozenset[str], pool: ThreadPoolExecutor) -> None:
        frames = annotation.frames
        keys = [key for i in range(len(frames)) for key in frames.keys(i) if key not in absent]
        if not self._part.truth:  # several sequences share pictures
            keys = [key for key in keys if key not in self._read]
            self._read.update(keys)
        self._finding.pictures += len(keys)
        for problem in pool.map(lambda key: _look_at(frames.store, key), keys):
            if problem:
                self._finding.broken += 1
                self._finding.problems.append(problem)


def _has_folder(dataset: StoredDataset, name: str) -> bool:
    """Whether a sequence that could not be read is there at all."""
    places = (name, f"{name.partition('-')[0]}/{name}", f"{name.rpartition('-')[0]}/{name}")
    return any(dataset.store.exists(place) for place in places)


def _look_at(store: Store, key: str) -> str:
    where = store.describe(key)
    try:
        verify_picture(store.read(key), where)
    except DecodeError as error:
        return str(error)
    except OSError as error:
        return f"{where}: {error.strerror or error}"
    return ""


def _message(error: Exception) -> str:
    """An operating system's error as "FILE: reason", ours as it is."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
