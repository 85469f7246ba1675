"""Result folders of any tracker, read and scored for a comparison, and ground truth for it as text files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from lib.bench import report
from lib.bench.benchmarks import Benchmark, BenchmarkVideo, get_benchmark
from lib.bench.metrics import (
    METRICS,
    MetricError,
    Scores,
    SequenceResult,
    average_runs,
    evaluate,
    overlap,
    reliability,
)
from lib.bench.packs import archive_stem, unpack
from lib.bench.result_files import Floats, ResultFileError, read_column, read_rows
from lib.bench.results import MANIFEST, FolderFiles, find_results, read_manifest, read_scorable
from lib.bench.run_differences import OTHER_FILES
from lib.config import ConfigError
from lib.data import Boxes, Video, corners_to_xywh
from lib.data.datasets import positive
from lib.files import errors_name, user_path, visible_files
from lib.methods import load_experiment
from lib.paths import repository_root
from lib.registry import listed
from lib.viz import Table

MANY_RESULTS = 1000
"""Sequences of all trackers from which on reading them shows its progress."""


@dataclass(frozen=True)
class ResultSource:
    """Results of one tracker.

    Attributes:
        label: Name of the tracker in tables.
        folders: Result folders or archives; several are repetitions, whose scores are averaged.
    """

    label: str
    folders: tuple[Path, ...]

    @classmethod
    def parse(cls, text: str) -> ResultSource:
        """Read a value of `--results`.

        Args:
            text: ``LABEL=DIR[,DIR...]``, or ``DIR``, called by its last part (see `_usual_label`); archives as folders.
                What exists as it is written is one folder, such as ``lr=0.1,bs=8``.

        Raises:
            ValueError: It is neither.
        """
        label, sign, folders = ("", "", text) if _exists(text) else text.partition("=")
        named = folders if sign else text
        paths = tuple(user_path(f) for f in ([named] if _exists(named) else named.split(",")) if f)
        if not paths or (sign and not label):
            raise ValueError(f"--results {text!r}: expected FOLDER or LABEL=FOLDER[,FOLDER...]")
        return cls(label if sign else cls._usual_label(paths[0]), paths)

    @staticmethod
    def _usual_label(path: Path) -> str:
        """Script and configuration of a folder that `tracking/test.py` wrote, which is named by its benchmark."""
        if (path / MANIFEST).is_file():
            return "/".join(path.absolute().parts[-3:-1])
        return archive_stem(path.name) or path.name

    def unpacked(self, sequences: Sequence[BenchmarkVideo], scratch: Path) -> list[ResultSource]:
        """The trackers of this source; one, as it is, unless it is an archive, or a folder with results further below.

        Args:
            sequences: The benchmark's sequences.
            scratch: Existing folder for the files of archives.

        Raises:
            FileNotFoundError: A file or folder is not there, or has no result of these sequences.
            ResultFileError: An archive cannot be read.
            ValueError: Several archives are given as runs of one tracker, and one of them has several trackers.
        """
        runs: dict[str, list[Path]] = {}
        for path in self.folders:
            if not path.exists():
                near = next(p for p in path.absolute().parents if p.is_dir())
                there = f"{near} has {listed(sorted(p.name for p in near.iterdir())) or 'nothing'}"
                raise FileNotFoundError(f"{path}: no such folder or archive (results of {self.label}); {there}")
            found, here = {"": [path]}, _found_in(path, sequences) if path.is_dir() else 0
            if here < len(sequences):  # an archive, a folder of folders, or files with other toolkits' spellings
                other = unpack(path, sequences, Path(mkdtemp(dir=scratch)))
                if not here or (len(other) == 1 and _found_in(next(iter(other.values()))[0], sequences) > here):
                    found = other
            if len(self.folders) > 1 and len(found) > 1:
                several = f"results of several trackers ({', '.join(found)})"
                raise ValueError(f"{path}: {several} cannot be a run of {self.label}")
            for name, folders in found.items():
                runs.setdefault(name if len(self.folders) == 1 else "", []).extend(folders)
        unnamed = self.label == self._usual_label(self.folders[0])
        if len(runs) == 1:
            ((name, folders),) = runs.items()
            inner = name if unnamed and self.folders[0].is_dir() else ""
            return [ResultSource(inner or self.label, tuple(folders))]
        above = "" if unnamed else f"{self.label}/"
        return [ResultSource(f"{above}{name}", tuple(folders)) for name, folders in runs.items()]


def _exists(text: str) -> bool:
    return text != "" and user_path(text).exists()


def _found_in(folder: Path, sequences: Sequence[BenchmarkVideo]) -> int:
    """Number of sequences that a folder has results of."""
    files = FolderFiles(folder)
    return sum(bool(find_results(files, s)) for s in sequences)


@dataclass(frozen=True)
class Scoring:
    """Options of a comparison.

    Attributes:
        variant: Metric.
        dataset: Name of the data set; some variants treat "lasot" and "uav" in their own way.
        exact: Take the copies with all digits (`float/`) where a folder has them.
        options: Of the metric.
    """

    variant: str
    dataset: str = ""
    exact: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, benchmark: Benchmark, variant: str | None = None, exact: bool = False, **options: Any) -> Scoring:
        """The scoring of a benchmark.

        Args:
            benchmark: The benchmark.
            variant: In place of its own metric.
            exact: See `Scoring`.
            options: Of the metric.

        Raises:
            MetricError: Only a server has its ground truth.
        """
        if not benchmark.scored:
            raise MetricError(f"{benchmark.title} is scored by its server; tracking/test.py writes the archive for it")
        return cls(variant or benchmark.metric, benchmark.tag, exact, options)


@dataclass(frozen=True)
class Comparison:
    """Trackers on the sequences of a benchmark.

    Attributes:
        title: Name of the benchmark.
        runs: The trackers, on the sequences that all of them have scores of.
        sequences: All sequences that were asked for.
        videos: Their frames, for the players of the report; may be empty.
    """

    title: str
    runs: Sequence[report.TrackerRun]
    sequences: Sequence[BenchmarkVideo]
    videos: Sequence[Video] = ()

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Tracker -> name of a score -> percent."""
        return {run.name: {run.scores.labels[k]: v for k, v in run.scores.headline.items()} for run in self.runs}

    @property
    def unscored(self) -> dict[tuple[str, str], str]:
        """Tracker and sequence that the metric cannot score -> reason."""
        return {(run.name, name): reason for run in self.runs for name, reason in run.scores.unscored.items()}

    @property
    def attributes(self) -> dict[str, list[str]]:
        """Attribute -> compared sequences that have it."""
        return report.by_attribute(self.sequences, self.runs[0].scores.names)

    @property
    def tables(self) -> dict[str, Table]:
        """File stem -> table; "sequences" has a row per sequence."""
        return report.comparison_tables(self.runs, self.attributes)

    @property
    def notes(self) -> list[str]:
        """Sentences on the compared sequences, and on those that are left out."""
        unscored, scores = self.unscored, self.runs[0].scores
        known = {*scores.names, *(name for _, name in unscored)}
        left_out = [s.name for s in self.sequences if s.name not in known]
        about = METRICS[scores.variant].about
        notes = [f"{self.title}: {len(scores.names)} sequences, metric variant {scores.variant} ({about})"]
        if left_out:
            missing = f"{len(left_out)} sequences that some tracker has no result for: {', '.join(left_out)}"
            notes.append(f"left out: {missing}")
        for (tracker, name), reason in unscored.items():
            notes.append(f"left out: {name} of {tracker} cannot be scored: {reason}")
        return [*notes, *(f"note: {run.name}: {run.scores.note}" for run in self.runs if run.scores.note)]

    def __repr__(self) -> str:
        tables = [table.text() for stem, table in self.tables.items() if stem != "sequences"]
        return "\n\n".join(["\n".join(self.notes), *tables])

    def write_report(
        self,
        folder: Path,
        title: str | None = None,
        training_log: Path | None = None,
        about: Mapping[str, str] | None = None,
    ) -> Path:
        """Write tables, plots and `report.html`.

        Args:
            folder: Where to.
            title: Heading of the page.
            training_log: JSONL log of a training.
            about: Tracker -> a sentence on what it is, for the reader.

        Returns:
            The page.
        """
        runs, attributes = self.runs, self.attributes
        heading = title or f"{runs[0].name} on {self.title}"
        with errors_name(folder):
            report.export(runs, attributes, folder, self.title)
            return report.build_report(heading, self.title, runs, self.videos, attributes, training_log, folder, about)


def load_runs(
    sources: Iterable[ResultSource], sequences: Sequence[BenchmarkVideo], scoring: Scoring, skip_missing: bool = False
) -> list[report.TrackerRun]:
    """Read and score every tracker's results on the same sequences.

    Args:
        sources: The trackers; an archive of several ones becomes several.
        sequences: Sequences to score.
        scoring: Metric and its options.
        skip_missing: Leave out sequences that some tracker lacks, for all trackers.

    Returns:
        One run per tracker, in their order, on the sequences that all of them have scores of.

    Raises:
        ValueError: Two trackers have the same label.
        FileNotFoundError: A folder is not there, or lacks sequences; the message names them.
        ResultFileError: An archive cannot be read.
        MetricError: Results cannot be scored.
    """
    with TemporaryDirectory(prefix="results-") as scratch:
        try:
            unpacked = [tracker for source in sources for tracker in source.unpacked(sequences, Path(scratch))]
            return _load_unpacked(unpacked, sequences, scoring, skip_missing)
        except (ResultFileError, FileNotFoundError, MetricError) as error:
            # Files of archives are gone when the message is read: it shows the end of their paths.
            raise type(error)(re.sub(rf"{re.escape(scratch)}/\w+/", "", str(error))) from None


def _load_unpacked(
    sources: Sequence[ResultSource], sequences: Sequence[BenchmarkVideo], scoring: Scoring, skip_missing: bool
) -> list[report.TrackerRun]:
    """As `load_runs`, of folders."""
    if len({s.label for s in sources}) != len(sources):
        raise ValueError(f"two trackers have the same label: {', '.join(s.label for s in sources)} (use LABEL=FOLDER)")
    folders = [folder for source in sources for folder in source.folders]
    gone: set[str] = set()
    complaints = []
    for folder in folders:
        files = FolderFiles(folder)
        found = {s.name: find_results(files, s, scoring.exact) for s in sequences}
        names = [name for name, paths in found.items() if not paths]
        gone.update(names)
        if names and not skip_missing:
            count = f"no result for {len(names)} of {len(sequences)} sequences"
            used = {path for paths in found.values() for path in paths.values()}
            complaints.append(f"{folder}: {count}: {listed(names)}{_unused(folder, used)}")
    if complaints:
        raise FileNotFoundError("; ".join(complaints) + " (--skip_missing leaves them out for all trackers)")
    kept = [s for s in sequences if s.name not in gone]
    if not kept:
        raise FileNotFoundError(f"no sequence has a result of every tracker ({', '.join(map(str, folders))})")
    shown = len(folders) * len(kept) >= MANY_RESULTS
    steps = track(sources, "results", console=Console(stderr=True), disable=not shown)
    return report.on_common_sequences([_load_run(source, kept, scoring) for source in steps])


def _unused(folder: Path, used: Container[Path]) -> str:
    """The files in a result folder that belong to no sequence, for the message that some have none."""
    files = [p for p in visible_files(folder, "**/*.txt") if p not in used and not p.stem.endswith(OTHER_FILES)]
    names = [str(p.relative_to(folder)) for p in files if p.parent.name != "float"]
    return f"; files of no sequence are there: {listed(names)}" if names else ""


def _load_run(source: ResultSource, sequences: Sequence[BenchmarkVideo], scoring: Scoring) -> report.TrackerRun:
    """Boxes of a tracker's first folder, and scores over all of its folders."""
    scores: list[Scores] = []
    boxes: dict[str, Boxes] = {}
    size_biases: dict[str, float] = {}
    rated: list[Floats] = []
    times: list[Floats] = []
    for folder in source.folders:
        results, unreadable = read_scorable(folder, sequences, scoring.exact)
        times += [result.seconds for result in results if result.seconds is not None]
        if not boxes:
            for result in results:
                boxes[result.name] = rows = result.prediction_xywh
                if result.passes:  # the first run as one row per frame, NaN where it has not been
                    boxes[result.name] = np.full((len(result.gt_xywh), 4), np.nan)
                    boxes[result.name][list(result.passes[0])] = rows[: len(result.passes[0])]
                if result.gt_corners is not None:
                    continue  # a box around a turned target says nothing of its size
                bias = report.size_bias(boxes[result.name], result.gt_xywh)
                if bias is not None:
                    size_biases[result.name] = bias
                if result.confidence is not None and boxes[result.name].shape == result.gt_xywh.shape:
                    rated.append(_rated(result, boxes[result.name]))
        try:
            scores.append(evaluate(scoring.variant, results, unreadable, dataset=scoring.dataset, **scoring.options))
        except MetricError as error:
            raise MetricError(f"{source.label} ({folder}): {error}") from None
    whole = scores[0] if len(scores) == 1 else average_runs(scores)
    boxes = {name: boxes[name] for name in whole.names}
    manifest = read_manifest(source.folders[0]) or {}
    parameters, published = _experiment_facts(source.label, manifest, sequences[0].dataset)
    known = [t[1:][np.isfinite(t[1:])] for t in times]  # without the first frame, the initialisation
    seconds = float(sum(t.sum() for t in known))
    measured = sum(map(len, known)) / seconds if seconds > 0 else None
    fps = manifest.get("timing", {}).get("tracker_fps") or measured
    frames = np.concatenate(rated, axis=1) if rated else np.empty((2, 0))
    rating = reliability(*frames) if len(np.unique(frames[0])) > 1 else None  # one number in all frames is no score
    return report.TrackerRun(source.label, boxes, whole, manifest, fps, parameters, published, size_biases, rating)


def _rated(result: SequenceResult, boxes_xywh: Boxes) -> Floats:
    """[2, N] score and overlap (0 where the target is absent) of each frame after the first."""
    assert result.confidence is not None
    absent = ~(result.gt_xywh[:, 2:] > 0).all(axis=1)
    if result.visible is not None:
        absent |= ~result.visible
    shares = np.where(absent, 0.0, overlap(boxes_xywh, result.gt_xywh))
    rows = min(len(result.confidence), len(shares))
    return np.stack([result.confidence[:rows], shares[:rows]])[:, 1:]


def _experiment_facts(
    label: str, manifest: Mapping[str, Any], benchmark: str
) -> tuple[int | None, Mapping[str, float]]:
    """(parameters, published figures on the benchmark) of a tracker of this library.

    It is known by its manifest, or by a label that is the name of a configuration, as SCRIPT/CONFIG where several
    scripts have one of this name.
    """
    tracker, overrides = manifest.get("tracker", {}), manifest.get("overrides", [])
    script, config = str(tracker.get("script", "")), str(tracker.get("config", "")).removesuffix("_untrained")
    if not config:
        files = list((repository_root() / "experiments").glob("*/*.yaml"))
        named = [f for f in files if label in (f.stem, f"{f.parent.name}/{f.stem}") and f.parent.name[0] != "_"]
        if len(named) != 1:
            return None, {}
        script, config = named[0].parent.name, named[0].stem
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            experiment = load_experiment(script, config, overrides)
    except (ConfigError, TypeError):
        return None, {}
    with torch.device("meta"):
        network = experiment.method.build_network(experiment.config, False)
    figures: Mapping[str, float] = {}
    if not overrides and config == tracker.get("config", config):
        all_figures = experiment.config.published.items()
        figures = next((f for name, f in all_figures if get_benchmark(name).name == benchmark), {})
    return sum(p.numel() for p in network.parameters()), figures


def with_attributes(sequences: Sequence[BenchmarkVideo], attributes: Sequence[str]) -> list[BenchmarkVideo]:
    """Select sequences by attributes.

    Args:
        sequences: All sequences.
        attributes: Attributes that a sequence must have all of, in any case.

    Raises:
        MetricError: An attribute is unknown (the message has the known ones), or no sequence has all of them.
    """
    known = {a.lower() for s in sequences for a in s.attributes}
    for attribute in attributes:
        if attribute.lower() not in known:
            names = ", ".join(sorted(known)) or "none"
            raise MetricError(f"no sequence has the attribute {attribute!r} (known: {names})")
    wanted = {a.lower() for a in attributes}
    kept = [s for s in sequences if wanted <= {a.lower() for a in s.attributes}]
    if not kept:
        raise MetricError(f"no sequence has all of the attributes {', '.join(attributes)}")
    return kept


LAYOUTS = (
    ("visible.txt", "infrared.txt"),
    ("groundTruth_v.txt", "groundTruth_i.txt"),
    ("groundtruth.txt",),
    ("groundtruth_rect.txt",),
    ("init.txt",),
)
"""Names of box files in a sequence's folder: one for each of two modalities, or one file."""


def read_truth(folder: Path, absent: Path | None = None) -> list[BenchmarkVideo]:
    """The sequences of a folder, without pictures: `<seq>.txt`, `<seq>/groundtruth.txt`, or a file per modality.

    Args:
        folder: Folder of ground truth, x, y, w, h in image pixels per line (GTOT: two opposite corners).
        absent: Folder of `<seq>.txt` with one label per frame, 1 where the target is absent.

    Raises:
        FileNotFoundError: Nothing is found.
        ResultFileError: A file is not an annotation.
    """
    files = {path.stem: [path] for path in visible_files(folder, "*.txt")}
    for inner in () if files else visible_files(folder, "*"):
        complete = (names for names in LAYOUTS if all((inner / name).is_file() for name in names))
        if found := next(complete, ()):
            files[inner.name] = [inner / name for name in found]
    if not files:
        what = "no ground truth" if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"{folder}: {what} (expected <sequence>.txt or <sequence>/groundtruth.txt)")
    return [_read_sequence(name, paths, absent) for name, paths in files.items()]


def _read_sequence(name: str, files: list[Path], absent: Path | None) -> BenchmarkVideo:
    """One sequence, from a file per modality and the labels of its name in `absent`."""
    truths = []
    for path in files:
        rows = read_rows(path)
        if rows.shape[1] != 4:
            raise ResultFileError(f"{path}: {rows.shape[1]} numbers a line, expected 4 (x, y, w, h)")
        truths.append(corners_to_xywh(rows) if path.name.startswith("groundTruth_") else rows)  # GTOT
    present = None
    if absent is not None:
        labels = read_column(absent / f"{name}.txt")
        if len(labels) != len(truths[0]):
            raise ResultFileError(f"{absent / name}.txt: {len(labels)} labels for {len(truths[0])} frames")
        present = labels == 0
    valid = positive(truths[0])

    def no_pictures(index: int) -> Any:
        raise FileNotFoundError(f"{files[0]} is ground truth without pictures; there is no frame {index}")

    second = truths[1] if len(truths) > 1 else None
    return BenchmarkVideo(
        name, truths[0], valid, valid, no_pictures, no_pictures, present=present, second_boxes_xywh=second
    )
