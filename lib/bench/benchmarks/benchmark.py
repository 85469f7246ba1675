"""What a benchmark is: a declaration. Nothing here tracks or scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lib.bench.metrics import SequenceResult
from lib.bench.results import Result
from lib.data import AnnotationError, Boxes, Mask, Modality, Store, Video, open_store
from lib.data.datasets import StoredDataset, read_text
from lib.data.lists import load_list
from lib.registry import Registry

log = logging.getLogger(__name__)


class PathBook(Protocol):
    """Where data sets lie (`lib.paths.Paths`)."""

    def dataset(self, key: str) -> Path: ...


class SequenceError(ValueError):
    """A sequence that cannot be tracked or scored as it lies on disk; the message names it and what is wrong."""


class MissingSequenceError(SequenceError):
    """A sequence of which a file is not there."""


class BenchmarkError(ValueError):
    """A benchmark folder that is not complete; the message lists what lacks."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a tracker: the frames in the order it sees them, as a sequence with the run's name.

    start: position that tracking starts on; earlier result rows repeat its box.
    """

    sequence: Video
    start: int = 0

    @property
    def name(self) -> str:
        return self.sequence.name

    def __len__(self) -> int:
        return len(self.sequence)


@dataclass(frozen=True, slots=True)
class BenchmarkSequence(Video):
    """A sequence with what its metric must know.

    start: frame that tracking starts on; earlier result rows repeat its box.
    passes: for several runs, the frames of each in the order they are tracked; else one run goes through all frames.
    run_name: how a run is called, from the sequence's `name` and its `first` frame.
    present: [N] bool as the annotation's own labels say, whatever the box is; None where there are none.
    second_boxes_xywh: [N, 4] ground truth in the second modality. scored_every: every n-th row has ground truth.
    sized: the metric needs the picture's size.
    """

    start: int = 0
    passes: tuple[range, ...] = ()
    run_name: str = "{name}"
    present: Mask | None = None
    second_boxes_xywh: Boxes | None = None
    scored_every: int = 1
    sized: bool = False

    @property
    def starts(self) -> list[int]:
        """The frames that the runs start on."""
        return [p[0] for p in self.passes] or [self.start]

    @property
    def run_names(self) -> list[str]:
        """The names of `runs`."""
        return [self.run_name.format(name=self.name, first=first) for first in self.starts]

    @property
    def runs(self) -> list[Run]:
        """What a tracker has to do here."""
        plain = Video(**{f.name: getattr(self, f.name) for f in fields(Video)})
        if not self.passes:
            return [Run(replace(plain, name=self.run_names[0]), self.start)]
        return [Run(reordered(plain, p, name)) for p, name in zip(self.passes, self.run_names, strict=True)]

    def scored(self, runs: Sequence[Result]) -> SequenceResult:
        """A tracker's results on this sequence, ready for `lib.bench.metrics.evaluate`.

        runs: results of `self.runs` (or repetitions of the one run), one row per frame, or per annotated frame.
        """
        every = slice(None, None, self.scored_every)
        annotated = len(self.boxes_xywh[every])
        rows = [self._whole(r.boxes_xywh) for r in runs]
        first, *others = (r if len(r) <= annotated else r[every] for r in rows)
        size = None
        if self.sized:
            height, width = self.read_frame(0).size_hw
            size = (width, height)
        return SequenceResult(
            self.name,
            self.boxes_xywh[every],
            first,
            visible=None if self.present is None else self.present[every],
            second_gt_xywh=None if self.second_boxes_xywh is None else self.second_boxes_xywh[every],
            image_size_wh=size,
            cover=self.visible_ratio,
            repetitions=tuple(others),
            seconds=runs[0].seconds if len(runs[0].seconds) else None,
            confidence=runs[0].scores if len(runs[0].scores) else None,
            passes=self.passes,
        )

    def _whole(self, boxes: Boxes) -> Boxes:
        """One row per frame, also of a result that begins with the frame that tracking started on.

        Published VisEvent runners leave out the rows before the first frame that is labelled present.
        """
        before = len(self) - len(boxes)
        cuts = {self.start, int(np.argmax(self.present)) if self.present is not None else 0}
        return boxes if before <= 0 or before not in cuts else np.concatenate([boxes[:1].repeat(before, 0), boxes])


def reordered(sequence: Video, frames: range, name: str) -> Video:
    """The sequence as its `frames` in this order, under another name."""
    order = np.array(frames)
    return replace(
        sequence,
        name=name,
        boxes_xywh=sequence.boxes_xywh[order],
        valid=sequence.valid[order],
        visible=sequence.visible[order],
        visible_ratio=None if sequence.visible_ratio is None else sequence.visible_ratio[order],
        read_frame=lambda i: sequence.read_frame(frames[i]),
        frame_path=lambda i: sequence.frame_path(frames[i]),
    )


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    name: as on the command line and in result paths; title: as papers print it; aliases: other spellings users type.
    root: key of `Paths.dataset`. read: store -> its sequences. labels: (data set, sequence) -> what the metric needs
    beside the boxes, as fields of BenchmarkSequence. truth_files: annotation in a sequence's folder, one row per frame.
    metric, tag: default variant of `lib.bench.metrics` and the data set name it is given.
    result_format: a name of `lib.bench.result_files.FORMATS`. scored: False where only a server has the ground truth.
    submission: kind of archive that server takes. attributes: list file with an attribute table.
    complete: how many sequences the published set has; scores of fewer or more say so.
    note: printed under the scores.
    """

    name: str
    title: str
    root: str
    read: Callable[[Store], StoredDataset]
    labels: Callable[[StoredDataset, Video], dict[str, Any]] | None = None
    truth_files: tuple[str, ...] = ("groundtruth.txt",)
    modality: Modality = Modality.RGB
    aliases: tuple[str, ...] = ()
    metric: str = "ostrack"
    tag: str = ""
    result_format: str = "int_tab"
    scored: bool = True
    submission: str | None = None
    attributes: str | None = None
    complete: int | None = None
    note: str = ""

    def open(self, paths: PathBook) -> Reader:
        """The benchmark's folder, opened once; raises MissingPathError, or FileNotFoundError for another layout."""
        store = open_store(paths.dataset(self.root))
        table = load_list(self.attributes) if self.attributes else None
        return Reader(self, self.read(store), table)

    def names(self, paths: PathBook) -> list[str]:
        """Every sequence name, in the benchmark's order."""
        return self.open(paths).names

    def sequences(
        self, paths: PathBook, names: Iterable[str] | None = None, skip_missing: bool = False
    ) -> list[BenchmarkSequence]:
        """All sequences, or these. Raises BenchmarkError listing those that cannot be read, unless `skip_missing`.

        Then those that are not on disk are left out, and those that are damaged, too, with a warning that names them.
        """
        reader = self.open(paths)
        found: list[BenchmarkSequence] = []
        troubles: list[str] = []
        for name in reader.names if names is None else names:
            try:
                found.append(reader.sequence(name))
            except SequenceError as error:
                troubles.append(str(error))
                if skip_missing and not isinstance(error, MissingSequenceError):
                    log.warning("left out: %s", error)
        if (troubles and not skip_missing) or not found:
            raise BenchmarkError(self._complaint(paths, troubles, len(found)))
        return found

    def _complaint(self, paths: PathBook, troubles: list[str], found: int) -> str:
        where = f"{self.title} in {paths.dataset(self.root)}"
        if not troubles:
            return f"{where}: no sequence found there"
        shown = "\n  ".join(troubles[:20])
        more = f"\n  and {len(troubles) - 20} more" if len(troubles) > 20 else ""
        hint = "" if not found else "\n(--skip_missing goes on without them)"
        return f"{where}: {len(troubles)} of {len(troubles) + found} sequences cannot be used:\n  {shown}{more}{hint}"


@dataclass(frozen=True)
class Reader:
    """An open benchmark. table: its attribute table, where there is one."""

    benchmark: Benchmark
    dataset: StoredDataset
    table: dict[str, Any] | None = None

    @property
    def names(self) -> list[str]:
        return [self.dataset.sequence_name(i) for i in range(len(self.dataset))]

    def sequence(self, name: str) -> BenchmarkSequence:
        """One sequence; SequenceError names what is wrong with it."""
        try:
            plain = self.dataset.by_name(name)
            self._check_rows(name, len(plain))
            more = self.benchmark.labels(self.dataset, plain) if self.benchmark.labels else {}
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingSequenceError(f"{name}: {error}") from None
        except (AnnotationError, KeyError) as error:
            raise SequenceError(f"{name}: {error.args[0] if isinstance(error, KeyError) else error}") from None
        base = {f.name: getattr(plain, f.name) for f in fields(Video)}
        sequence = BenchmarkSequence(**{**base, "dataset": self.benchmark.name, **more})
        return self._tagged(sequence)

    def _check_rows(self, name: str, frames: int) -> None:
        """One picture fewer than rows is common; more of them missing would score half a sequence as a whole one."""
        store = self.dataset.store
        inner = sequence_folder(self.dataset, name, 1)
        places = [f"{p}/{f}" for p in (inner.rpartition("/")[0], inner) for f in self.benchmark.truth_files if p]
        key = next((k for k in places if store.exists(k)), None)
        if key is None or not self.benchmark.scored:
            return
        rows = sum(bool(line.strip()) for line in read_text(store, key).splitlines())
        if frames < rows - 1:
            raise AnnotationError(f"{frames} frames for {rows} rows in {store.describe(key)}")

    def _tagged(self, sequence: BenchmarkSequence) -> BenchmarkSequence:
        if self.table is None or sequence.name not in self.table["sequences"]:
            return sequence
        flags = self.table["sequences"][sequence.name]
        tags = frozenset(tag for tag, flag in zip(self.table["order"], flags, strict=True) if flag)
        return replace(sequence, attributes=tags)


def sequence_folder(dataset: StoredDataset, name: str, levels: int = 2) -> str:
    """Key of the folder `levels` above a sequence's first picture."""
    key = dataset.annotation(dataset.names.index(name)).frames.rgb.key(0)
    for _ in range(levels):
        key = key.rpartition("/")[0]
    return key


BENCHMARKS: Registry[Benchmark] = Registry("benchmark")


def register(benchmark: Benchmark) -> Benchmark:
    """Make a benchmark known under its name and aliases; returns it."""
    return BENCHMARKS.register(benchmark.name, *benchmark.aliases)(benchmark)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of this name or alias, case-insensitive; raises UnknownNameError with the nearest name."""
    return BENCHMARKS[name]
