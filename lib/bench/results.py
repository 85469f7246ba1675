"""The folder of one tracker on one benchmark: what is in it, what is finished, what is of another checkpoint.

    <folder>/manifest.json        what made these results
    <folder>/<seq>.txt            boxes as the benchmark's official toolkit reads them
    <folder>/float/<seq>.txt      the same boxes with all their digits
    <folder>/<seq>_time.txt       seconds per frame (the first one is the initialisation)
    <folder>/<seq>_score.txt      confidence per frame
    <folder>/scores.json          metrics, once every sequence is there
    <folder>/stale-<hash>/        results of other weights or another configuration, moved aside

VOT's benchmarks have the toolkit's layout below the same folder: `<seq>/<run>.txt`, `<seq>/<run>_confidence.value`,
`<seq>/<run>_time.value` (see `lib.bench.trajectories`); where several runs make a sequence, each has its files.

`<seq>.txt` is written last and by a rename: where it exists, the sequence is finished, whenever the power went.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.bench.manifest import MANIFEST, Identity, read_manifest
from lib.bench.result_files import box_format, read_boxes, read_column, write_boxes, write_column
from lib.bench.trajectories import format_values, read_regions, read_values
from lib.data import Boxes, Video
from lib.files import write_text

SCORES = "scores.json"
FLOAT_FORMAT = "float_comma"


def exact_file(folder: Path, name: str) -> Path:
    """The copy of a sequence's boxes with all their digits; other trackers' folders have none."""
    return folder / "float" / f"{name}.txt"


@dataclass(frozen=True, slots=True)
class Result:
    """A run of a tracker through a sequence. name: of the run, which is that of the sequence unless it has several.

    boxes_xywh: [N, 4] float64, image pixels, or [N, 8] corners; scores and seconds: [N] float64, [0] where unknown.
    """

    name: str
    boxes_xywh: Boxes
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class ResultFolder:
    """`path`, holding results in `box_format` (a format name of `lib.bench.result_files`). Files go by runs' names."""

    path: Path
    box_format: str

    @property
    def toolkit(self) -> bool:
        """Whether files lie as the VOT toolkit has them."""
        return box_format(self.box_format).toolkit

    def boxes_file(self, name: str) -> Path:
        return self._place(name) / f"{name}.txt"

    def scores_file(self, name: str) -> Path:
        return self._place(name) / (f"{name}_confidence.value" if self.toolkit else f"{name}_score.txt")

    def seconds_file(self, name: str) -> Path:
        return self._place(name) / (f"{name}_time.value" if self.toolkit else f"{name}_time.txt")

    def _place(self, name: str) -> Path:
        return self.path / name.rpartition("_")[0] if self.toolkit else self.path

    def float_file(self, name: str) -> Path:
        return exact_file(self.path, name)

    def write(self, result: Result) -> None:
        """Write the files of one run; the one that says "finished" comes last."""
        write_boxes(self.float_file(result.name), result.boxes_xywh, FLOAT_FORMAT)
        if self.toolkit:
            scores = np.concatenate([[np.nan], result.scores[1:]])
            write_text(self.scores_file(result.name), format_values(scores))
            write_text(self.seconds_file(result.name), format_values(result.seconds))
        else:
            write_column(self.seconds_file(result.name), result.seconds.tolist())
            write_column(self.scores_file(result.name), result.scores.tolist())
        write_boxes(self.boxes_file(result.name), result.boxes_xywh, self.box_format)

    def read(self, name: str, exact: bool = False) -> Boxes:
        """[N, 4] boxes of one run; `exact` takes the copy with all digits. Raises FileNotFoundError."""
        if exact:
            return read_boxes(self.float_file(name))
        return read_regions(self.boxes_file(name)) if self.toolkit else read_boxes(self.boxes_file(name))

    def result(self, name: str, exact: bool = False) -> Result:
        """One run as it is on disk."""
        return Result(name, self.read(name, exact), self.scores(name), self.seconds(name))

    def scores(self, name: str) -> NDArray[np.float64]:
        """[N] confidence per frame, empty where the file lacks; NaN where the tracker gave none."""
        return self._column(self.scores_file(name))

    def seconds(self, name: str) -> NDArray[np.float64]:
        """[N] seconds per frame, empty where the file lacks."""
        return self._column(self.seconds_file(name))

    def _column(self, file: Path) -> NDArray[np.float64]:
        if not file.is_file():
            return np.zeros(0)
        return read_values(file) if self.toolkit else read_column(file)

    def finished(self, sequence: Video, start: int = 0) -> bool:
        """Whether the run `sequence` has a result, of this very annotation: as many rows, and the same first box."""
        if not self.boxes_file(sequence.name).is_file() or not self.float_file(sequence.name).is_file():
            return False
        try:
            boxes = self.read(sequence.name, exact=True)
        except ValueError:
            return False
        return len(boxes) == len(sequence) and bool(
            np.allclose(boxes[start], sequence.boxes_xywh[start], rtol=0, atol=1e-3)
        )

    def set_stale_aside(self, identity: Identity) -> Path | None:
        """Move results that `identity` did not make into `stale-<hash>/`; returns that folder when there were any."""
        if not self.path.is_dir():
            return None
        old = read_manifest(self.path)
        present = [p for p in self.path.iterdir() if not p.name.startswith("stale-") and p.name != MANIFEST]
        if not present or (old is not None and old.get("identity") == identity.plain()):
            return None
        label = Identity(old["identity"]).hash if old and "identity" in old else "unknown"
        aside = _unused(self.path / f"stale-{label}")
        aside.mkdir()
        for path in [*present, *([self.path / MANIFEST] if old is not None else [])]:
            path.rename(aside / path.name)
        return aside

    def write_scores(self, values: Mapping[str, Any]) -> None:
        """Write `scores.json`."""
        write_text(self.path / SCORES, json.dumps(values, indent=1) + "\n")

    def forget(self, names: Iterable[str]) -> None:
        """Make sequences unfinished, so that they run again; scores of the whole are gone with them."""
        for name in names:
            self.boxes_file(name).unlink(missing_ok=True)
        (self.path / SCORES).unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    candidates = [path, *(path.with_name(f"{path.name}-{i}") for i in range(2, 1000))]
    return next(p for p in candidates if not p.exists())
