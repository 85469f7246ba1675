"""Ground truth as a folder of text files, for comparing results where the benchmark itself is not on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.bench.metrics import SequenceResult
from lib.bench.result_files import ResultFileError, read_column, read_rows
from lib.bench.results import Result
from lib.data import Boxes, Mask, opposite_corners_to_xywh

SINGLE = ("groundtruth.txt", "groundtruth_rect.txt", "init.txt")
DOUBLE = (("visible.txt", "infrared.txt"), ("groundTruth_v.txt", "groundTruth_i.txt"))


@dataclass(frozen=True, slots=True)
class TextSequence:
    """A sequence that is known by its annotation only."""

    name: str
    boxes_xywh: Boxes
    visible: Mask | None = None
    second_boxes_xywh: Boxes | None = None
    attributes: frozenset[str] = frozenset()

    @property
    def run_names(self) -> list[str]:
        """One run, called like the sequence."""
        return [self.name]

    def scored(self, runs: Sequence[Result]) -> SequenceResult:
        """A tracker's result on this sequence (further runs are repetitions), ready for a metric."""
        first, *others = (run.boxes_xywh for run in runs)
        return SequenceResult(
            self.name,
            self.boxes_xywh,
            first,
            visible=self.visible,
            second_gt_xywh=self.second_boxes_xywh,
            repetitions=tuple(others),
            seconds=runs[0].seconds if len(runs[0].seconds) else None,
            confidence=runs[0].scores if len(runs[0].scores) else None,
        )


def read_truth(folder: Path, absent: Path | None = None) -> list[TextSequence]:
    """The sequences of a folder: `<seq>.txt`, `<seq>/groundtruth.txt`, or a file per modality in `<seq>/`.

    absent: folder of `<seq>.txt` with one label per frame, 1 where the target is absent.
    Raises FileNotFoundError when nothing is found, ResultFileError for a file that is no annotation.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder (expected <sequence>.txt files or <sequence>/groundtruth.txt)"
        )
    flat = [_sequence(p.stem, [p], absent) for p in sorted(folder.glob("*.txt"))]
    nested = [_sequence(p.name, files, absent) for p in sorted(folder.iterdir()) if (files := _inside(p))]
    if not flat and not nested:
        raise FileNotFoundError(f"{folder}: no ground truth (expected <sequence>.txt or <sequence>/groundtruth.txt)")
    return flat or nested


def _inside(folder: Path) -> list[Path]:
    for pair in DOUBLE:
        if all((folder / name).is_file() for name in pair):
            return [folder / name for name in pair]
    return [folder / name for name in SINGLE if (folder / name).is_file()][:1]


def _sequence(name: str, files: list[Path], absent: Path | None) -> TextSequence:
    truths = [_boxes(path) for path in files]
    visible = None
    if absent is not None:
        labels = read_column(absent / f"{name}.txt")
        if len(labels) != len(truths[0]):
            raise ResultFileError(f"{absent / name}.txt: {len(labels)} labels for {len(truths[0])} frames")
        visible = labels == 0
    return TextSequence(name, truths[0], visible, truths[1] if len(truths) > 1 else None)


def _boxes(path: Path) -> Boxes:
    rows = read_rows(path)
    if rows.shape[1] != 4:
        raise ResultFileError(f"{path}: {rows.shape[1]} numbers a line, expected 4 (x, y, w, h)")
    if path.name.startswith("groundTruth_"):  # GTOT
        return opposite_corners_to_xywh(rows)
    return rows
