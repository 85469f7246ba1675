"""VOT metrics against the toolkit: overlap of rectangles, the long-term and the anchor-based protocol.

Trajectories lie as the toolkit writes them: `<seq>_001.txt` or `<seq>_<anchor>.txt`, the first line a mark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from golden import Case, runner

from kinds.metrics import place
from lib.bench import FolderFiles, read_boxes, read_column
from lib.bench.metrics import Scores, SequenceResult, evaluate, vot_overlap
from lib.bench.vot import read_regions, read_values


@runner("benchmarks/vot_overlap")
def overlap(case: Case) -> None:
    for pair in case.data["outputs"]:
        size = pair["bounds_wh"]
        found = vot_overlap(_row(pair["a"]), _row(pair["b"]), None if size is None else (size[0], size[1]))
        case.check(found[0], pair["overlap"], f"{pair['a']} and {pair['b']}")


def _row(region: list[float]) -> np.ndarray:
    """A box, or the row of a special region."""
    return np.array([region if len(region) == 4 else [np.nan] * 4])


@runner("benchmarks/vot_longterm", "benchmarks/vot_longterm_short")
def longterm(case: Case) -> None:
    for tracker, wanted in case.data["outputs"].items():
        results = [_longterm_result(case, tracker, name) for name in case.data["inputs"]["sequences"]]
        scores = evaluate("vot_longterm", results, resolution=case.config.get("resolution", 100))
        _check_headline(case, scores, wanted, ("f_score", "precision", "recall"), tracker)
        curve = np.stack([scores.overall("tracking_recall"), scores.overall("tracking_precision")], axis=1)
        case.check(curve, wanted["pr_curve_recall_precision"], f"{tracker} precision-recall curve")
        case.check(scores.overall("f_score"), wanted["f_curve"], f"{tracker} F curve")


@runner("benchmarks/vot_multistart", "benchmarks/vot_multistart_absent")
def multistart(case: Case) -> None:
    limits = {k: case.config[k] for k in ("low", "high") if k in case.config}
    for tracker, wanted in case.data["outputs"].items():
        results = [_multistart_result(case, tracker, name) for name in case.data["inputs"]["sequences"]]
        scores = evaluate("vot_multistart", results, **limits)
        _check_headline(case, scores, wanted, ("eao", "accuracy", "robustness"), tracker)
        # The toolkit's curve has a point for run length 0.
        curve = np.concatenate([[0.0], scores.overall("expected_overlap")])
        case.check(curve, wanted["eao_curve"], f"{tracker} EAO curve")


def _check_headline(case: Case, scores: Scores, wanted: dict[str, Any], keys: tuple[str, ...], label: str) -> None:
    for key in keys:
        if key in wanted:
            case.check(scores.headline[key] / 100, wanted[key], f"{label} {key}")


def _size(case: Case) -> tuple[int, int]:
    width, height = case.config["image_size_wh"]
    return width, height


def _longterm_result(case: Case, tracker: str, name: str) -> SequenceResult:
    folder = place(case, "results", name, tracker).parent
    truth = read_boxes(place(case, "groundtruth", name))
    confidence = read_values(folder / f"{name}_001_confidence.value")
    return SequenceResult(name, truth, _run(folder, f"{name}_001"), image_size_wh=_size(case), confidence=confidence)


def _multistart_result(case: Case, tracker: str, name: str) -> SequenceResult:
    file, folder = place(case, "groundtruth", name), place(case, "results", name, tracker).parent
    truth, anchors = read_boxes(file), read_column(file.with_name("anchor.value"))
    frames = len(truth)
    passes = tuple(range(int(i), frames) if anchors[i] > 0 else range(int(i), -1, -1) for i in np.flatnonzero(anchors))
    first, *others = (_run(folder, f"{name}_{frames[0]:08d}") for frames in passes)
    return SequenceResult(name, truth, first, image_size_wh=_size(case), repetitions=tuple(others), passes=passes)


def _run(folder: Path, name: str) -> np.ndarray:
    file = FolderFiles(folder).first(f"{name}.txt", f"{name}.bin")
    assert file is not None, f"no {name}.txt or .bin in {folder}"
    return read_regions(file)
