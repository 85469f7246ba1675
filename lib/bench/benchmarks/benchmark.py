"""The declaration of a benchmark, and its videos with what the metric needs. Nothing here tracks or scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lib.bench.metrics import SequenceResult
from lib.bench.result_files import box_format
from lib.bench.results import Result
from lib.bench.runner import Supervised
from lib.catalogue import folder_hint
from lib.data import AnnotationError, Boxes, Mask, Modality, Video, open_store
from lib.data.datasets import (
    CATALOGUE,
    PREFIX,
    Annotation,
    DatasetSpec,
    StoredDataset,
    folder_row,
    open_subset,
    reader_class,
)
from lib.data.lists import load_list
from lib.methods import load_plugins
from lib.paths import Paths
from lib.registry import Registry, listed, suggest

log = logging.getLogger(__name__)


class SequenceError(ValueError):
    """A sequence cannot be tracked or scored as it is on disk; the message names it and what is wrong."""


class MissingSequenceError(SequenceError):
    """A file of a sequence is missing."""


class BenchmarkError(ValueError):
    """A benchmark folder is not complete; the message lists what is missing."""


@dataclass(frozen=True, slots=True)
class BenchmarkVideo(Video):
    """A video with what its metric needs.

    Attributes:
        start: Position in each run that tracking starts on; result rows before it repeat its box.
        passes: For several runs, the frames of each in tracking order; otherwise one run goes through all frames.
        run_name: Name of a run, from the sequence's `name` and the run's `first` frame.
        present: [N] bool by the annotation's own labels, whatever the box is; None without labels.
        second_boxes_xywh: [N, 4] ground truth in the second modality, image pixels.
        scored_every: Every n-th row has ground truth.
        sized: The metric needs the image size.
        other_names: Names of the sequence in other toolkits.
    """

    start: int = 0
    passes: tuple[range, ...] = ()
    run_name: str = "{name}"
    present: Mask | None = None
    second_boxes_xywh: Boxes | None = None
    scored_every: int = 1
    sized: bool = False
    other_names: tuple[str, ...] = ()

    @property
    def starts(self) -> list[int]:
        """The frames that the runs start on."""
        return [p[0] for p in self.passes] or [self.start]

    @property
    def run_names(self) -> list[str]:
        """The names of `runs`."""
        return [self.run_name.format(name=self.name, first=first) for first in self.starts]

    @property
    def runs(self) -> list[Video]:
        """The runs that a tracker has to do: the frames in the order it sees them, as videos with the runs' names."""
        plain = Video(**{f.name: getattr(self, f.name) for f in fields(Video)})
        if not self.passes:
            return [replace(plain, name=self.run_names[0])]
        return [reordered(plain, p, name) for p, name in zip(self.passes, self.run_names, strict=True)]

    def sequence_result(self, runs: Sequence[Result]) -> SequenceResult:
        """A tracker's results on this sequence, ready for `lib.bench.metrics.evaluate`.

        Args:
            runs: Results of `self.runs` (or repetitions of the one run), one row per frame or per annotated frame;
                boxes x, y, w, h in image pixels.

        Returns:
            Predictions and ground truth, cut to the annotated frames.
        """
        every = slice(None, None, self.scored_every)
        annotated = len(self.boxes_xywh[every])
        rows = [self._with_rows_before_start(r.boxes_xywh if r.corners is None else r.corners) for r in runs]
        first, *others = (r if len(r) <= annotated else r[every] for r in rows)
        height, width = self.read_frame(0).size_hw if self.sized else (0, 0)
        return SequenceResult(
            self.name,
            self.boxes_xywh[every],
            first,
            visible=None if self.present is None else self.present[every],
            second_gt_xywh=None if self.second_boxes_xywh is None else self.second_boxes_xywh[every],
            image_size_wh=(width, height) if self.sized else None,
            cover=self.visible_ratio,
            repetitions=tuple(others),
            seconds=runs[0].seconds if len(runs[0].seconds) else None,
            confidence=runs[0].scores if len(runs[0].scores) else None,
            passes=self.passes,
            gt_corners=None if self.corners is None else self.corners[every],
            marks=tuple(r.marks for r in runs if r.marks is not None),
        )

    def truth_only(self) -> SequenceResult:
        """The ground truth as `sequence_result` gives it, with boxes of no tracker; no picture is read."""
        frames = self.passes or (range(len(self)),)
        return replace(self, sized=False).sequence_result([Result(self.name, np.zeros((len(p), 4))) for p in frames])

    def _with_rows_before_start(self, boxes: Boxes) -> Boxes:
        """One row per frame, also for a result that begins with the frame that tracking started on.

        Published VisEvent runners leave out the rows before the first frame that is labelled present.
        """
        before = len(self) - len(boxes)
        cuts = {self.start, int(np.argmax(self.present)) if self.present is not None else 0}
        return boxes if before <= 0 or before not in cuts else np.concatenate([boxes[:1].repeat(before, 0), boxes])


def reordered(video: Video, frames: range, name: str) -> Video:
    """A video of some frames of another one.

    Args:
        video: The other video.
        frames: Its frames in the new order.
        name: Name of the new video.
    """
    given = {key: getattr(video, key) for key in ("boxes_xywh", "valid", "visible", "visible_ratio", "corners")}
    rows = {key: table[np.array(frames)] for key, table in given.items() if table is not None}
    masks = video.read_mask
    return replace(
        video,
        **rows,
        name=name,
        read_frame=lambda i: video.read_frame(frames[i]),
        frame_path=lambda i: video.frame_path(frames[i]),
        read_mask=None if masks is None else lambda i: masks(frames[i]),
    )


Runs = Callable[[BenchmarkVideo, Annotation], BenchmarkVideo]
"""Sets `start`, `passes` and `run_name` of a sequence; raises AnnotationError if it cannot be tracked."""


def one_pass(sequence: BenchmarkVideo, annotation: Annotation) -> BenchmarkVideo:
    """One run from the first frame to the last.

    Args:
        sequence: The video with its labels.
        annotation: Its annotation.

    Returns:
        The video as it is.
    """
    return sequence


@dataclass(frozen=True)
class Benchmark:
    """The declaration of one benchmark.

    Attributes:
        name: Name on the command line and in result paths.
        title: Name in papers.
        root: Key of the data set in the catalogue, or a row of its own.
        part: Label of the data set's subset.
        runs: Sets the runs of a sequence.
        needs: Labels without which a sequence cannot be scored ("present", "visible_ratio").
        sized: The metric needs the image size.
        scored_every: Every n-th frame has ground truth.
        aliases: Other spellings.
        prefix: Start of every sequence name that other toolkits leave out.
        other_names: Sequence -> its names in other toolkits.
        metric: Default variant of `lib.bench.metrics`.
        tag: Data set name that the variant is given.
        protocol: Of runs that start again after failures.
        result_format: Name in `lib.bench.result_files.FORMATS`.
        scored: False if only a server has the ground truth.
        submission: Kind of archive that the server takes.
        attributes: List file with an attribute table.
        note: Printed below the scores.
        options: Further keyword arguments of the reader.
    """

    name: str
    title: str
    root: str | DatasetSpec
    part: str = "test"
    runs: Runs = one_pass
    needs: tuple[Literal["present", "visible_ratio"], ...] = ()
    sized: bool = False
    scored_every: int = 1
    aliases: tuple[str, ...] = ()
    prefix: str = ""
    other_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    metric: str = "ostrack"
    tag: str = ""
    protocol: Supervised | None = None
    result_format: str = "int_tab"
    scored: bool = True
    submission: str | None = None
    attributes: str | None = None
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> DatasetSpec:
        """The row of the data set."""
        return CATALOGUE[self.root] if isinstance(self.root, str) else self.root

    @property
    def modality(self) -> Modality:
        """Kind of the pictures that a frame has besides RGB."""
        return reader_class(self.spec).modality

    @property
    def second_picture(self) -> dict[str, Any] | None:
        """`AuxRecipe` of the second picture of a frame, as a dictionary; None for RGB."""
        recipe = getattr(reader_class(self.spec), "recipe", None)
        return None if recipe is None else asdict(recipe)

    @property
    def sequence_count(self) -> int | None:
        """Sequences of the published set; scores of fewer or more say so. None if any number is right."""
        return self.spec.subset(self.part).count

    def with_format(self, result_format: str | None) -> Benchmark:
        """The benchmark with its result files in another format.

        Args:
            result_format: Name in `lib.bench.result_files.FORMATS`; None: as it is.

        Raises:
            ValueError: The name is unknown, or one of the two formats is the VOT toolkit's and the other is not.
        """
        if result_format is None:
            return self
        if box_format(result_format).toolkit != box_format(self.result_format).toolkit:
            raise ValueError(f"--result_format {result_format}: {self.title} needs one like {self.result_format}")
        return replace(self, result_format=result_format)

    def other_names_of(self, name: str) -> tuple[str, ...]:
        """The names that other toolkits give a sequence.

        Args:
            name: Its name here.
        """
        short = (name.removeprefix(self.prefix),) if self.prefix and name.startswith(self.prefix) else ()
        return (*short, *self.other_names.get(name, ()))

    def open(self, paths: Paths) -> Reader:
        """Open the benchmark's folder.

        Args:
            paths: Places of the data sets.

        Raises:
            MissingPathError: The folder is not there.
            FileNotFoundError: It has another layout.
        """
        store = open_store(paths.dataset(self.spec))
        dataset = open_subset(self.spec, self.spec.subset(self.part), store, **self.options)
        return Reader(self, dataset, load_list(self.attributes) if self.attributes else None)

    def names(self, paths: Paths) -> list[str]:
        """Every sequence name, in the benchmark's order.

        Args:
            paths: Places of the data sets.

        Raises:
            FileNotFoundError: As for `open`.
        """
        return self.open(paths).names

    def find_names(self, paths: Paths, asked: Iterable[str]) -> list[str]:
        """The sequences that a user asks for, each once.

        Args:
            paths: Places of the data sets.
            asked: Names in any case, names in other toolkits, or positions as text.

        Raises:
            BenchmarkError: There is no such sequence; the message has the nearest name.
        """
        known = self.names(paths)
        elsewhere = {other: name for name in known for other in self.other_names_of(name)}
        chosen = []
        for name in asked:
            folded = [k for k in known if k.lower() == name.lower()]
            if name not in known and name.isascii() and name.isdecimal() and int(name) < len(known):
                name = known[int(name)]
            elif name not in known:
                name = elsewhere.get(name, folded[0] if len(folded) == 1 else name)
            if name not in known:
                expected = f"(a name, or a position from 0 to {len(known) - 1})"
                raise BenchmarkError(f"{self.title} has no sequence {name!r}{suggest(name, known)} {expected}")
            chosen.append(name)
        return list(dict.fromkeys(chosen))

    def sequences(
        self, paths: Paths, names: Iterable[str] | None = None, skip_missing: bool = False
    ) -> list[BenchmarkVideo]:
        """All sequences, or some.

        Args:
            paths: Places of the data sets.
            names: Sequences; None takes all.
            skip_missing: Leave out those that are not on disk, and those that are damaged, with a warning that names
                them.

        Raises:
            BenchmarkError: Some cannot be read; the message lists them.
        """
        reader = self.open(paths)
        found: list[BenchmarkVideo] = []
        problems: list[str] = []
        absent: list[str] = []
        for name in reader.names if names is None else names:
            try:
                found.append(reader.sequence(name))
            except SequenceError as error:
                problems.append(str(error))
                if isinstance(error, MissingSequenceError):
                    absent.append(name)
                elif skip_missing:
                    log.warning("left out: %s", error)
        total, where = len(found) + len(problems), f"{self.title} in {paths.dataset(self.spec)}"
        if found and (skip_missing or not problems):
            if absent:
                log.warning("left out: %d of %d sequences are not there: %s", len(absent), total, ", ".join(absent))
            return found
        if not problems:
            raise BenchmarkError(f"{where}: no sequence found there")
        shown, hint = listed(problems, 20, "\n  "), "\n(--skip_missing goes on without them)" if found else ""
        raise BenchmarkError(f"{where}: {len(problems)} of {total} sequences cannot be used:\n  {shown}{hint}")


@dataclass(frozen=True)
class Reader:
    """An open benchmark.

    Attributes:
        benchmark: The declaration.
        dataset: Its data set.
        table: Its attribute table, if there is one.
    """

    benchmark: Benchmark
    dataset: StoredDataset
    table: dict[str, Any] | None = None

    @property
    def names(self) -> list[str]:
        return [self.dataset.sequence_name(i) for i in range(len(self.dataset))]

    def sequence(self, name: str) -> BenchmarkVideo:
        """One sequence with its labels, attributes and runs.

        Args:
            name: Name of the sequence.

        Raises:
            MissingSequenceError: One of its files is missing.
            SequenceError: It cannot be tracked or scored; the message names the file.
        """
        benchmark = self.benchmark
        try:
            video = self.dataset.by_name(name)
            annotation = self.dataset.annotation(self.dataset.position(name))
            where = self.dataset.store.describe(annotation.folder)
            labels = {"present": annotation.present, "visible_ratio": annotation.visible_ratio}
            if any(labels[need] is None for need in benchmark.needs):
                raise AnnotationError(f"no complete {' and '.join(self.dataset.label_files)} in {where}")
            attributes = video.attributes
            if self.table is not None and name in self.table["sequences"]:
                flags = self.table["sequences"][name]
                attributes = frozenset(tag for tag, flag in zip(self.table["order"], flags, strict=True) if flag)
            base = {f.name: getattr(video, f.name) for f in fields(Video)}
            sequence = BenchmarkVideo(
                **{**base, "dataset": benchmark.name, "attributes": attributes},
                present=annotation.present,
                second_boxes_xywh=annotation.second_boxes_xywh,
                scored_every=benchmark.scored_every,
                sized=benchmark.sized,
                other_names=benchmark.other_names_of(name),
            )
            return benchmark.runs(sequence, annotation)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingSequenceError(f"{name}: {error}") from None
        except (AnnotationError, KeyError) as error:
            raise SequenceError(f"{name}: {error.args[0] if isinstance(error, KeyError) else error}") from None


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", folder_hint)


def register_benchmark(benchmark: Benchmark) -> Benchmark:
    """Register a benchmark under its name and aliases.

    Args:
        benchmark: The declaration.

    Returns:
        The same benchmark.

    Raises:
        ValueError: Another benchmark has one of the names.
    """
    return BENCHMARKS.register(benchmark.name, *benchmark.aliases)(benchmark)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark with this name or alias, also from a plugin that the environment names.

    Args:
        name: Name or alias in any case, or `FOLDER:path` for an own folder.

    Raises:
        UnknownNameError: There is none; the message has the nearest name.
        FileNotFoundError: There is no such folder.
    """
    name = str(name)
    if name.upper().startswith(f"{PREFIX}:"):
        spec = folder_row(name)
        return Benchmark(spec.key, Path(spec.folders[0]).name, spec, result_format="float_comma")
    load_plugins()
    return BENCHMARKS[name]
