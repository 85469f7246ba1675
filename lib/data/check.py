"""The data check: sequences found and missing, pictures compared with annotation rows, broken pictures.

Everything goes through the readers that training and evaluation use: what passes here is read there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from lib.catalogue import CATALOGUE, TRAINING_NAMES, DatasetSpec, Subset
from lib.data.datasets import PREFIX, Annotation, StoredDataset, build_dataset, folder_row, open_subset, parse_chunks
from lib.data.datasets.base import quiet_readers
from lib.data.datasets.frames import PairingError
from lib.data.datasets.pseudo import SUFFIX
from lib.data.io import FILE_ERRORS, verify_picture
from lib.data.listing import picture_names
from lib.data.store import open_store
from lib.files import sentence
from lib.paths import Paths
from lib.registry import UnknownNameError

Depth = Literal["fast", "normal", "full"]
"""fast: annotations, first and last picture; normal: every picture exists; full: every picture is read."""


@dataclass(frozen=True)
class CheckPart:
    """One part of a data set that can be checked.

    Attributes:
        spec: Row of the data set.
        subset: The part.
        pseudo: For pseudo labels, their name in ``DATASETS_NAME``.
    """

    spec: DatasetSpec
    subset: Subset
    pseudo: str = ""

    @property
    def name(self) -> str:
        """`lasot:training`, as on the command line."""
        return self.pseudo or f"{self.spec.key}:{self.subset.label}"


OTHER_PARTS = ("_val", "_test")
"""Ends of the keys of parts that have a folder of their own."""


def check_parts() -> list[CheckPart]:
    """Every published part in the catalogue, those of LMDB copies behind the others."""
    specs = sorted(CATALOGUE.values(), key=lambda spec: bool(spec.copy_of))
    return [CheckPart(spec, subset) for spec in specs for subset in spec.subsets if subset.label]


def choose_parts(names: Iterable[str]) -> list[CheckPart]:
    """Find parts by the names that users type.

    Args:
        names: Keys (`lasot`), aliases (`vid`), parts (`lasot:test`) chunks (`trackingnet:0-3`),
            own folders (`FOLDER:path`), or pseudo labels (`LASHER_pseudo`).

    Returns:
        The parts in this order; all parts of a data set for a key or alias, those of `got10k_val` and `got10k_test`
        for `got10k` as well.

    Raises:
        UnknownNameError: There is no such part.
        ValueError: Chunks cannot be understood.
    """
    chosen: list[CheckPart] = []
    for name in names:
        base, _, label = name.partition(":")
        if base.lower().endswith(SUFFIX):
            spec, subset = TRAINING_NAMES[base[: -len(SUFFIX)]]
            spec = folder_row(name) if base.upper().startswith(PREFIX) else spec
            chosen.append(CheckPart(spec, replace(subset, count=None), name))
            continue
        if base.upper() == PREFIX:
            spec = folder_row(name)
            chosen.append(CheckPart(spec, spec.subset("test")))
            continue
        spec = CATALOGUE[base]
        chunked = next((s for s in spec.subsets if s.selection == "chunks"), None)
        if chunked is not None and label[:1].isdigit():
            chunks = {"chunks": parse_chunks(label)}
            chosen.append(CheckPart(spec, replace(chunked, label=label, count=None, check_options=chunks)))
            continue
        rows = [spec, *(CATALOGUE[key] for end in OTHER_PARTS if (key := spec.key + end) in CATALOGUE)]
        parts = [CheckPart(row, s) for row in rows for s in row.subsets if s.label]
        found = [p for p in parts if label in ("", p.subset.label) or p.spec.key == f"{spec.key}_{label}"]
        if not found:
            known = ", ".join(sorted(part.name for part in parts))
            raise UnknownNameError(f"there is no part {name!r} to check (parts of {spec.key}: {known})")
        chosen += [part for part in found if part not in chosen]
    return chosen


@dataclass
class CheckResult:
    """Result of the check of one part.

    Attributes:
        part: The part.
        place: Folder or archive that was opened, or is expected.
        there: The part could be opened.
        found: Sequences that can be used as they are.
        total: Sequences that the reader lists.
        missing: Sequences that do not exist.
        unreadable: Sequences with damaged annotations or missing pictures.
        mismatched: Sequences with more or fewer pictures than annotation rows.
        broken: Pictures that are truncated or not pictures, of `pictures` that were read.
        pictures: Pictures that were read.
        unlabelled: Sequences without one of the files of visibility that others of the data set have.
        missing_files: A line for each missing sequence.
        problems: A line for anything else that is wrong, with the file.
    """

    part: CheckPart
    place: Path
    there: bool = True
    found: int = 0
    total: int = 0
    missing: int = 0
    unreadable: int = 0
    mismatched: int = 0
    broken: int = 0
    pictures: int = 0
    unlabelled: int = 0
    missing_files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """Sequences of the published part; those that exist if any number is right."""
        return self.total if self.part.subset.count is None else self.part.subset.count

    def first_trouble(self, partial: bool = False) -> str:
        """The first line about missing sequences or other problems, or "".

        Args:
            partial: Prefer other problems to missing sequences, instead of the other way round.
        """
        first = (self.problems, self.missing_files) if partial else (self.missing_files, self.problems)
        return next((lines[0] for lines in first if lines), "")

    def is_wrong(self, partial: bool = False) -> bool:
        """Not as published. More pictures than rows, or one fewer, occurs in the releases and is accepted.

        Args:
            partial: Accept missing sequences, as long as some are there.
        """
        enough = self.found >= (1 if partial else max(1, self.expected))
        return not enough or self.broken > 0 or self.unreadable > 0


def check_part(
    part: CheckPart,
    paths: Paths,
    depth: Depth = "normal",
    *,
    threads: int = 4,
    needs_labels: bool = False,
    progress: Callable[[int], None] = lambda sequences: None,
    begin: Callable[[int], None] = lambda sequences: None,
) -> CheckResult:
    """Check one part.

    Args:
        part: The part.
        paths: Places of the data sets.
        depth: Files that are read, see `Depth`.
        threads: Pictures that are read at a time.
        needs_labels: A sequence without one of its label files cannot be used: a benchmark scores with them.
        progress: Called with 1 after every sequence.
        begin: Called with the number of sequences once the part is open.

    Returns:
        Counts and problems. Damaged files are problems, not exceptions.
    """
    place = paths.pseudo_labels / part.spec.key if part.pseudo else paths.find(part.spec)
    if place is None:
        looked = paths.candidates(part.spec)[0]
        return CheckResult(part, looked, there=False, missing_files=[f"{looked} is not there"])
    result = CheckResult(part, place)
    try:
        if part.pseudo:
            dataset = cast(StoredDataset, build_dataset(part.pseudo, paths))
        else:
            dataset = open_subset(part.spec, part.subset, open_store(place), **part.subset.check_options)
    except (*FILE_ERRORS, ValueError) as error:
        result.there = False
        result.missing_files.append(sentence(error))
        return result
    result.total = len(dataset)
    begin(result.total)
    checker = _Checker(depth, result)
    with quiet_readers(), ThreadPoolExecutor(threads) as pool:  # what they warn of is counted and listed here
        for index in range(len(dataset)):
            checker.check_sequence(dataset, index, pool)
            progress(1)
    if result.unlabelled:
        what = "the benchmark refuses these sequences" if needs_labels else "training takes their targets as visible"
        line = f"{result.unlabelled} sequences lack {' or '.join(dataset.label_files)}: {what}"
        result.problems.insert(0, line)
        result.found -= result.unlabelled if needs_labels else 0
    count = part.subset.count
    if count is not None and result.total < count:
        result.missing += count - result.total
        result.missing_files.append(f"{result.total} sequences in {place}, {count} are published")
    return result


class _Checker:
    """Goes through the sequences of one part and records what it finds in `result`."""

    def __init__(self, depth: Depth, result: CheckResult) -> None:
        self._depth, self._result = depth, result
        self._read: set[str] = set()
        # Two folders: those of an RGB-X sequence, or the one of an image data set.
        names_in = lru_cache(maxsize=2)(lambda store, folder: frozenset(store.listdir(folder)))
        self._names_in: Callable[[Any, str], frozenset[str]] = names_in

    def check_sequence(self, dataset: StoredDataset, index: int, pool: ThreadPoolExecutor) -> None:
        """Check one sequence.

        Args:
            dataset: The part.
            index: Number of the sequence.
            pool: Threads that read pictures.
        """
        result, name = self._result, dataset.sequence_name(index)
        try:
            annotation = dataset.annotation(index)
            absent = self._absent_pictures(annotation)
            if self._depth != "fast" and annotation.rows is not None:
                self._compare_rows(annotation, annotation.rows)
        except FILE_ERRORS as error:
            result.mismatched += isinstance(error, PairingError)
            classes = [name.partition("-")[0], name.rpartition("-")[0]]
            places = [name, *(f"{folder}/{name}" for folder in classes if folder)]
            if isinstance(error, FileNotFoundError) and not any(map(dataset.store.exists, places)):
                result.missing += 1
                result.missing_files.append(f"{name}: {sentence(error)}")
            else:
                result.unreadable += 1
                result.problems.append(f"{name}: {sentence(error)}")
            return
        if absent:
            count = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            line = f"{annotation.frames.store.describe(absent[0])} is missing{count}"
            if line not in result.problems[-1:]:  # the objects of one COCO picture follow one another
                result.problems.append(line)
        if annotation.rows is not None and not absent:
            keys = (f"{annotation.folder}/{file}" for file in dataset.label_files)
            result.unlabelled += not all(map(dataset.store.exists, keys))
        result.found += not absent
        result.unreadable += bool(absent)
        if self._depth == "full":
            self._verify(annotation, frozenset(absent), pool)

    def _absent_pictures(self, annotation: Annotation) -> list[str]:
        """Keys of the pictures that do not exist; with depth "fast", among the first and the last frame."""
        frames = annotation.frames
        if self._depth == "fast":
            ends = dict.fromkeys(key for i in (0, len(frames) - 1) for key in frames.keys(i))
            return [key for key in ends if not frames.store.exists(key)]
        absent = []
        for files in (frames.rgb, frames.aux):
            for key in (files.key(i) for i in range(len(files))) if files is not None else ():
                folder, _, name = key.rpartition("/")
                if name not in self._names_in(frames.store, folder):
                    absent.append(key)
        return absent

    def _compare_rows(self, annotation: Annotation, rows: int) -> None:
        """Count a sequence with more pictures than rows, or one fewer; the readers refuse any other difference."""
        frames = annotation.frames
        folders = [f.key(0).rpartition("/")[0] for f in (frames.rgb, frames.aux) if f is not None]
        counts = {folder: len(picture_names(self._names_in(frames.store, folder))) for folder in folders}
        if all(count == rows for count in counts.values()):
            return
        self._result.mismatched += 1
        found = " and ".join(f"{count} pictures in {frames.store.describe(f)}" for f, count in counts.items())
        self._result.problems.append(f"{found}, {rows} annotation rows")

    def _verify(self, annotation: Annotation, absent: frozenset[str], pool: ThreadPoolExecutor) -> None:
        """Read all pictures of a sequence, except absent ones, and record those that are broken."""
        store = annotation.frames.store
        keys = [key for i in range(len(annotation.frames)) for key in annotation.frames.keys(i) if key not in absent]
        if annotation.rows is None:  # several sequences may share pictures
            keys = [key for key in keys if key not in self._read]
            self._read.update(keys)
        self._result.pictures += len(keys)

        def problem_of(key: str) -> str:
            try:
                verify_picture(store.read(key), store.describe(key))
            except FILE_ERRORS as error:
                return sentence(error)
            return ""

        problems = [problem for problem in pool.map(problem_of, keys) if problem]
        self._result.broken += len(problems)
        self._result.problems += problems
