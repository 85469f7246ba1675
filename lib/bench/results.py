"""The folder of one tracker on one benchmark: what is in it, what is finished, what is of another checkpoint.

    <folder>/manifest.json        what made these results
    <folder>/<seq>.txt            boxes as the benchmark's official toolkit reads them
    <folder>/float/<seq>.txt      the same boxes with all their digits
    <folder>/<seq>_time.txt       seconds per frame (the first one is the initialisation)
    <folder>/<seq>_score.txt      confidence per frame
    <folder>/scores.json          metrics, once every sequence is there
    <folder>/stale-<hash>/        results of other weights or another configuration, moved aside

`<seq>.txt` is written last and by a rename: where it exists, the sequence is finished, whenever the power went.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.bench.manifest import MANIFEST, Identity, read_manifest
from lib.bench.result_files import read_boxes, read_column, write_boxes, write_column
from lib.data.types import Boxes, Sequence
from lib.files import write_text

SCORES = "scores.json"
FLOAT_FORMAT = "float_comma"


def exact_file(folder: Path, name: str) -> Path:
    """The copy of a sequence's boxes with all their digits; other trackers' folders have none."""
    return folder / "float" / f"{name}.txt"


@dataclass(frozen=True, slots=True)
class Result:
    """A tracked sequence. boxes_xywh: [N, 4] float64, image pixels; scores and seconds: [N] float64."""

    name: str
    boxes_xywh: Boxes
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]


@dataclass(frozen=True)
class ResultFolder:
    """`path`, holding results in `box_format` (a format name of `lib.bench.result_files`)."""

    path: Path
    box_format: str

    def boxes_file(self, name: str) -> Path:
        return self.path / f"{name}.txt"

    def float_file(self, name: str) -> Path:
        return exact_file(self.path, name)

    def write(self, result: Result) -> None:
        """Write the files of one sequence; the one that says "finished" comes last."""
        write_boxes(self.float_file(result.name), result.boxes_xywh, FLOAT_FORMAT)
        write_column(self.path / f"{result.name}_time.txt", result.seconds.tolist())
        write_column(self.path / f"{result.name}_score.txt", result.scores.tolist())
        write_boxes(self.boxes_file(result.name), result.boxes_xywh, self.box_format)

    def read(self, name: str, exact: bool = False) -> Boxes:
        """[N, 4] boxes of one sequence; `exact` takes the copy with all digits. Raises FileNotFoundError."""
        return read_boxes(self.float_file(name) if exact else self.boxes_file(name))

    def seconds(self, name: str) -> NDArray[np.float64]:
        """[N] seconds per frame, empty where the file lacks."""
        file = self.path / f"{name}_time.txt"
        return read_column(file) if file.is_file() else np.zeros(0)

    def finished(self, sequence: Sequence, start: int = 0) -> bool:
        """Whether the sequence has a result, and one of this very annotation: as many rows, and the same first box."""
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
