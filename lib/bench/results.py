"""The folder of one tracker on one benchmark: its files, its manifest, finished sequences and stale results.

    <folder>/manifest.json        what made these results: tracker, configuration, weights, protocol, machine, time
    <folder>/<seq>.txt            regions as the benchmark's official toolkit reads them
    <folder>/float/<seq>.txt      the same regions with all digits
    <folder>/<seq>_time.txt       seconds per frame (the first one is the initialisation)
    <folder>/<seq>_score.txt      confidence per frame
    <folder>/scores.json          metrics, once every sequence is there
    <folder>/stale-<hash>/        results of other weights or another configuration, moved aside

VOT's benchmarks have the toolkit's layout below the same folder: `<seq>/<run>.txt`, `<seq>/<run>_confidence.value`,
`<seq>/<run>_time.value` (see `lib.bench.result_files`); where several runs make a sequence, each has its files.

`<seq>.txt` is written last and by a rename: where it exists, the sequence is finished, even after a power cut.
Folders of other programs are read too (`read_results`): files are found by name and layout, and read in any format.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lib.bench.result_files import (
    Floats,
    Marks,
    ResultFileError,
    box_format,
    format_values,
    read_boxes,
    read_marks,
    read_result,
    read_values,
    write_boxes,
    write_column,
)
from lib.data import Boxes, Video, check_name
from lib.files import try_lock, write_text

if TYPE_CHECKING:
    from lib.bench.benchmarks import BenchmarkVideo
    from lib.bench.metrics import SequenceResult

MANIFEST, SCORES, LOCK = "manifest.json", "scores.json", ".lock"
MANIFEST_FORMAT = 1
FLOAT_FORMAT = "float_comma"
LIBRARIES = (
    "torch", "torchvision", "timm", "numpy", "opencv-python", "opencv-python-headless", "onnxruntime", "openvino",
)  # fmt: skip
"""Those that influence numbers."""


@dataclass(frozen=True)
class Identity:
    """Everything that influences the boxes; results of different identities are never mixed.

    Attributes:
        values: JSON values, such as hashes of configuration and weights, and the protocol.
    """

    values: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Ten hex digits."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:10]

    def plain(self) -> dict[str, Any]:
        """As JSON would give it back."""
        return dict(json.loads(json.dumps(dict(self.values))))

    def difference(self, old: Mapping[str, Any]) -> str:
        """Compare with another identity.

        Args:
            old: Its values.

        Returns:
            Names of the values that differ, such as ``"protocol, weights"``.
        """
        mine = self.plain()
        return ", ".join(k.replace("_", " ") for k in sorted({*mine, *old}) if mine.get(k) != old.get(k))


def package_version(package: str) -> str | None:
    """Version of an installed package.

    Args:
        package: Name of its distribution.

    Returns:
        None if it is not installed.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that influence numbers."""
    found = {name: version for name in LIBRARIES if (version := package_version(name))}
    return {"python": platform.python_version(), **found}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read the manifest of a result folder.

    Args:
        folder: The folder.

    Returns:
        None where there is no manifest, as in folders of other programs.

    Raises:
        ValueError: It is not JSON.
    """
    path = folder / MANIFEST
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path}: not a manifest (expected a JSON object)") from None


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the manifest of a result folder, whole or not at all.

    Args:
        folder: The folder.
        values: Its entries, of JSON types.
    """
    write_text(folder / MANIFEST, json.dumps({"format": MANIFEST_FORMAT, **values}, indent=1) + "\n")


class ResultsInUseError(RuntimeError):
    """Another tracker writes to the same result folder."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run of a tracker through a sequence.

    Attributes:
        name: Of the run, which is that of the sequence unless it has several.
        boxes_xywh: [N, 4] float64, image pixels, or [N, 8] corners; NaN in rows without a region.
        scores: [N] confidence; empty where unknown.
        seconds: [N] time per frame; empty where unknown.
        corners: [N, 8] float64, image pixels, of a tracker that gives polygons.
        marks: [N] of a supervised run, see `lib.bench.result_files.TRACKED`.
        note: Remark on the run, or "".
    """

    name: str
    boxes_xywh: Boxes
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    corners: Floats | None = None
    marks: Marks | None = None
    note: str = ""


def exact_file(folder: Path, name: str) -> Path:
    """File of a run's boxes with all their digits; folders of other programs have none.

    Args:
        folder: Result folder.
        name: Of the run.
    """
    return folder / "float" / f"{check_name(name)}.txt"


@dataclass(frozen=True)
class ResultFolder:
    """Result files of one tracker on one benchmark; they are named by runs.

    Attributes:
        path: The folder.
        box_format: Name of the format of its box files (`lib.bench.result_files.FORMATS`).
    """

    path: Path
    box_format: str

    @property
    def toolkit(self) -> bool:
        """True if files have the VOT toolkit's layout."""
        return box_format(self.box_format).toolkit

    def _file(self, name: str, ending: str, toolkit_ending: str) -> Path:
        check_name(name)
        if self.toolkit:
            return self.path / name.rpartition("_")[0] / f"{name}{toolkit_ending}"
        return self.path / f"{name}{ending}"

    def boxes_file(self, name: str) -> Path:
        """Box file of a run, whose existence makes it finished.

        Args:
            name: Of the run.
        """
        file = self._file(name, ".txt", ".txt")
        return file.with_name(box_format(self.box_format).prefix + file.name)

    def write(self, result: Result) -> None:
        """Write the files of one run; the box file, which makes it finished, comes last.

        Args:
            result: The run, with scores and seconds.
        """
        polygons = result.corners if box_format(self.box_format).corners else None
        regions = result.boxes_xywh if polygons is None else polygons
        write_boxes(exact_file(self.path, result.name), regions, FLOAT_FORMAT)
        scores_file = self._file(result.name, "_score.txt", "_confidence.value")
        seconds_file = self._file(result.name, "_time.txt", "_time.value")
        if self.toolkit:
            write_text(scores_file, format_values(np.concatenate([[np.nan], result.scores[1:]])))
            write_text(seconds_file, format_values(result.seconds))
        else:
            write_column(seconds_file, result.seconds.tolist())
            write_column(scores_file, result.scores.tolist())
        write_boxes(self.boxes_file(result.name), regions, self.box_format, result.marks)

    def seconds(self, name: str) -> NDArray[np.float64]:
        """Read the times of one run.

        Args:
            name: Of the run.

        Returns:
            [N] seconds per frame, empty where there is no file of them.
        """
        file = self._file(name, "_time.txt", "_time.value")
        return read_values(file) if file.is_file() else np.zeros(0)

    def speeds(self, runs: Iterable[Video]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Speed of the tracker, by the times of all frames but the first of each run.

        Args:
            runs: Finished runs.

        Returns:
            `frames` and `tracker_fps` of all of them; and run -> `frames` and `fps`. Without times fps is None.
        """
        each, frames, spent = {}, 0, 0.0
        for run in runs:
            times = self.seconds(run.name)
            tail = float(times[1:].sum())
            frames, spent = frames + max(0, len(times) - 1), spent + tail
            each[run.name] = {"frames": len(run), "fps": round((len(times) - 1) / tail, 3) if tail > 0 else None}
        return {"frames": frames, "tracker_fps": round(frames / spent, 3) if spent > 0 else None}, each

    def finished(self, video: Video, start: int = 0) -> bool:
        """Check that a run has a result of its present annotation: as many rows, and the same first box.

        Args:
            video: The run.
            start: Position of the frame that tracking starts on.
        """
        if not self.boxes_file(video.name).is_file():
            return False
        try:
            boxes = read_boxes(exact_file(self.path, video.name))
        except (FileNotFoundError, ValueError):
            return False
        return len(boxes) == len(video) and bool(np.allclose(boxes[start], video.boxes_xywh[start], rtol=0, atol=1e-3))

    def claim(self, identity: Identity, patience: float = 10.0) -> IO[str]:
        """Keep trackers of another identity from writing here: their results would mix with ours.

        Args:
            identity: Of the tracker that is about to run.
            patience: Seconds to wait for a process that is about to begin as well.

        Returns:
            A file that is locked until it is closed. Its lock is for this process alone, to prepare the folder, unless
            others of the same identity are at work here.

        Raises:
            ResultsInUseError: A process tracks with another identity into this folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = (self.path / LOCK).open("a+", encoding="utf-8")
        deadline = time.monotonic() + patience
        while not try_lock(file):
            same = (read_manifest(self.path) or {}).get("identity") == identity.plain()
            if same and try_lock(file, shared=True):
                break
            if time.monotonic() > deadline:
                file.close()
                other = "another process tracks into this folder, with other weights or another configuration"
                remedy = "wait for it, or give this one a --runid or --save_dir of its own"
                raise ResultsInUseError(f"{self.path}: {other}; {remedy}")
            time.sleep(0.1)
        return file

    def move_stale_aside(self, identity: Identity) -> Path | None:
        """Move results of another identity into `stale-<hash>/`.

        Args:
            identity: Of the tracker that is about to run.

        Returns:
            That folder; None where there was nothing to move.
        """
        if not self.path.is_dir():
            return None
        old = read_manifest(self.path)
        present = [p for p in self.path.iterdir() if not p.name.startswith("stale-") and p.name not in (MANIFEST, LOCK)]
        if not present or (old is not None and old.get("identity") == identity.plain()):
            return None
        label = Identity(old["identity"]).hash if old and "identity" in old else "unknown"
        aside = unused_folder(self.path / f"stale-{label}")
        aside.mkdir()
        for path in present if old is None else [*present, self.path / MANIFEST]:
            path.rename(aside / path.name)
        return aside

    def write_scores(self, values: Mapping[str, Any]) -> None:
        """Write `scores.json`.

        Args:
            values: Its entries, of JSON types.
        """
        write_text(self.path / SCORES, json.dumps(values, indent=1) + "\n")

    def mark_unfinished(self, names: Iterable[str]) -> None:
        """Make runs unfinished, so that they are tracked again; `scores.json` is removed with them.

        Args:
            names: Of the runs.
        """
        for name in names:
            self.boxes_file(name).unlink(missing_ok=True)
        (self.path / SCORES).unlink(missing_ok=True)


def unused_folder(path: Path) -> Path:
    """A path that is not in use.

    Args:
        path: The preferred path.

    Returns:
        `path`, or with the first ending -2, -3, ... that does not exist.
    """
    candidates = [path, *(path.with_name(f"{path.name}-{i}") for i in range(2, 1000))]
    return next(p for p in candidates if not p.exists())


class FolderFiles:
    """The files of a result folder and its sub-folders; each is listed once, not asked for every name a file may have.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listed: dict[str, dict[str, bool]] = {}

    def names(self, folder: str = "") -> list[str]:
        """Names of the files in a sub-folder; "" is the result folder."""
        return [name for name, is_file in self._list(folder).items() if is_file]

    def first(self, *keys: str) -> Path | None:
        """The first of several files, by their paths below the folder, that is there."""
        for key in keys:
            folder, _, name = key.rpartition("/")
            if self._list(folder).get(name):
                return self.path / key
        return None

    def _list(self, folder: str) -> dict[str, bool]:
        """Name -> True for a file, False for a folder or a link to nothing; empty where there is no such folder."""
        if folder not in self._listed:
            self._listed[folder] = {}
            above, _, name = folder.rpartition("/")
            if not folder or self._list(above).get(name) is False:
                with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path / folder) as entries:
                    self._listed[folder] = {entry.name: entry.is_file() for entry in entries}
        return self._listed[folder]


def find_results(files: FolderFiles, sequence: BenchmarkVideo, exact: bool = False) -> dict[str, Path]:
    """Find the box files of one sequence.

    They are `<seq>.txt`, `test_<seq>.txt`, the VOT toolkit's `<seq>/<run>.txt` or `.bin`, or GOT-10k's
    `<seq>/<seq>_001.txt` and further repetitions. Without them, `<name>.txt` by a name of the sequence in another
    toolkit, or in other case where only one file has it.

    Args:
        files: Of the result folder.
        sequence: The sequence.
        exact: Take the copies with all digits where there are any.

    Returns:
        Run -> file; empty where a run has none.
    """
    name, runs = sequence.name, sequence.run_names
    if exact:
        copies = {run: path for run in runs if (path := files.first(f"float/{check_name(run)}.txt"))}
        if len(copies) == len(runs):
            return copies
    if runs != [name]:  # text before binary, the order of the toolkit
        kept = {run: path for run in runs if (path := files.first(f"{name}/{run}.txt", f"{name}/{run}.bin"))}
        if kept or len(runs) > 1:
            return kept if len(kept) == len(runs) else {}
    if path := files.first(f"{name}.txt", f"test_{name}.txt"):
        return {name: path}
    stems = sorted(file.removesuffix(".txt") for file in files.names(name) if file.endswith(".txt"))
    if repeated := [s for s in stems if s.startswith(f"{name}_") and s.removeprefix(f"{name}_").isdigit()]:
        return {stem: files.path / name / f"{stem}.txt" for stem in repeated}
    if path := files.first(*(f"{other}.txt" for other in sequence.other_names)):
        return {name: path}
    wanted = {f"{spelling}.txt".lower() for spelling in (name, *sequence.other_names)}
    alike = [file for file in files.names() if file.lower() in wanted]
    return {name: files.path / alike[0]} if len(alike) == 1 else {}


def read_scorable(
    folder: Path, sequences: Iterable[BenchmarkVideo], exact: bool = False
) -> tuple[list[SequenceResult], dict[str, str]]:
    """Results of all sequences, as metrics read them, and the reason for each sequence whose file cannot be read."""
    results, unreadable, files = [], {}, FolderFiles(folder)
    for sequence in sequences:
        try:
            results.append(sequence.sequence_result(read_results(files, sequence, exact)))
        except ResultFileError as error:
            unreadable[sequence.name] = str(error).removeprefix(f"{folder}/")
    return results, unreadable


def read_results(folder: Path | FolderFiles, sequence: BenchmarkVideo, exact: bool = False) -> list[Result]:
    """Read the runs of one sequence, with confidence and time as far as there are files of them.

    Args:
        folder: Result folder; as `FolderFiles` where several sequences are looked for.
        sequence: The sequence.
        exact: Take the copies with all digits where there are any.

    Raises:
        FileNotFoundError: There is no result.
        ResultFileError: A file cannot be read; the message names the line.
    """
    files, name = folder if isinstance(folder, FolderFiles) else FolderFiles(folder), sequence.name
    found = find_results(files, sequence, exact)
    if not found:
        raise FileNotFoundError(f"{files.path}: no result for {name}")
    results = []
    for run, path in found.items():
        # Without their endings: the toolkits' folders, then the flat ones.
        own = path.stem if run == name else name
        stems = (f"{name}/{run}", f"{name}/{name}", run, name, own, f"scores/{own}", f"times/{own}")
        columns = []
        for endings in (("_confidence.value", "_confidence.txt", "_score.txt"), ("_time.value", "_time.txt")):
            file = files.first(*(f"{stem}{ending}" for stem in stems for ending in endings))
            columns.append(np.zeros(0) if file is None else read_values(file))
        results.append(Result(run, read_result(path), columns[0], columns[1], marks=read_marks(path)))
    return results
