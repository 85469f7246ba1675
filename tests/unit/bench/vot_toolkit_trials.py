"""VOT metrics on random trajectories against the toolkit's own functions: absences, losses, ties, short runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lib.bench.metrics import SequenceResult, evaluate

pytest.importorskip("vot", reason="the VOT toolkit is not installed (bash install.sh)")

from vot.analysis.longterm import compute_tpr_curves, determine_thresholds
from vot.analysis.multistart import compute_eao_partial
from vot.region import Rectangle, Special, calculate_overlaps

SIZE = (64, 48)
ABSENT = [np.nan] * 4


def regions(boxes: np.ndarray) -> list[Any]:
    return [Special(0) if np.isnan(b).any() else Rectangle(*b) for b in boxes]


def walk(rng: np.random.Generator, frames: int) -> np.ndarray:
    """A true box that wanders, partly outside the image; absent at times."""
    boxes = np.cumsum(rng.normal(0, 2, (frames, 4)), axis=0) + np.array([30, 20, 20, 15])
    boxes[:, 2:] = np.clip(boxes[:, 2:], 0.2, None)
    boxes[rng.random(frames) < rng.choice([0.0, 0.2])] = ABSENT
    boxes[0] = [10, 10, 9, 9]
    return boxes


def track(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """A result: near the truth, lost for a while, some rows without a box, the initialisation mark first."""
    rows = np.where(np.isnan(truth), [5, 5, 9, 9], truth) + rng.normal(0, rng.choice([1, 4, 15]), truth.shape)
    begin = rng.integers(len(truth))
    rows[begin : begin + rng.integers(5, 25), :2] += rng.choice([0, 200])
    rows[rng.random(len(rows)) < 0.03] = ABSENT
    rows[0] = ABSENT
    return rows


@pytest.mark.parametrize("seed", range(12))
def test_longterm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    results, resolution = [], int(rng.choice([5, 20, 100]))
    for k in range(rng.integers(1, 5)):
        truth = walk(rng, int(rng.integers(2, 60)))
        confidence = rng.choice([rng.random(len(truth)), rng.random(len(truth)).round(1), np.full(len(truth), 0.5)])
        confidence[rng.random(len(truth)) < 0.1] = np.nan
        rows = track(rng, truth)
        results.append(SequenceResult(str(k), truth, rows, image_size_wh=SIZE, confidence=confidence))
    known = [np.concatenate([[0.0], np.nan_to_num(r.confidence[1:])]) for r in results]  # type: ignore[index]
    thresholds = determine_thresholds(np.concatenate(known), resolution)
    curves = [
        compute_tpr_curves(
            [Special(1), *regions(r.prediction_xywh[1:])],
            list(confidence),
            SimpleNamespace(groundtruth=lambda r=r: regions(r.gt_xywh), size=SIZE),
            thresholds,
        )
        for r, confidence in zip(results, known, strict=True)
    ]
    precision, recall = np.mean(curves, axis=0)
    with np.errstate(invalid="ignore"):
        f_score = np.nan_to_num(2 * precision * recall / (precision + recall))
    best = int(f_score.argmax())
    wanted = {"f_score": f_score[best], "precision": precision[best], "recall": recall[best]}
    scores = evaluate("vot_longterm", results, resolution=resolution)
    assert scores.headline == pytest.approx({k: 100 * v for k, v in wanted.items()}, abs=1e-9)


def failure(overlaps: list[float], truth: list[Any]) -> int:
    """The toolkit's loop, which is no function of its own there."""
    grace = 10
    for j, overlap in enumerate(overlaps):
        grace = grace - 1 if overlap <= 0.1 and not truth[j].is_empty() else 10
        if grace == 0:
            return j + 1 - 10
    return len(overlaps)


@pytest.mark.parametrize("seed", range(12))
def test_multistart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = int(rng.integers(1, 15))
    high = low + int(rng.integers(1, 30))
    results: list[SequenceResult] = []
    curve, active, accuracy, robustness = np.zeros(high), np.zeros(high), [], []
    for k in range(rng.integers(1, 5)):
        truth = walk(rng, int(rng.integers(2, 60)))
        anchors = {0, *np.flatnonzero(np.isfinite(truth[:, 0]))[rng.integers(0, 2, 3)].tolist()}
        passes = tuple(range(a, -1, -1) if rng.random() < 0.5 else range(a, len(truth)) for a in sorted(anchors))
        runs = [track(rng, truth[list(frames)]) for frames in passes]
        overlaps, ends = [], []
        for rows, frames in zip(runs, passes, strict=True):
            true = regions(truth[list(frames)])
            overlaps.append(list(calculate_overlaps([Special(1), *regions(rows[1:])], true, SIZE)))
            ends.append(failure(overlaps[-1], true))
        accuracy.append((sum(sum(o[:q]) for o, q in zip(overlaps, ends, strict=True)), sum(ends)))
        robustness.append((sum(ends) / sum(map(len, overlaps)), len(truth)))
        cut = [o[:q] + [0.0] * (len(o) - q) for o, q in zip(overlaps, ends, strict=True)]
        part, count = compute_eao_partial(cut, [len(o) == q for o, q in zip(overlaps, ends, strict=True)], high)
        curve, active = curve + np.array(part) * count, active + count
        first, *others = runs
        results.append(
            SequenceResult(str(k), truth, first, image_size_wh=SIZE, repetitions=tuple(others), passes=passes)
        )
    mean = np.divide(curve, active, out=np.zeros(high), where=active > 0)
    wanted = {
        "eao": mean[low:].mean(),
        "accuracy": sum(o for o, _ in accuracy) / sum(q for _, q in accuracy),
        "robustness": np.average([r for r, _ in robustness], weights=[n for _, n in robustness]),
    }
    scores = evaluate("vot_multistart", results, low=low, high=high)
    assert scores.headline == pytest.approx({k: 100 * v for k, v in wanted.items()}, abs=1e-9)
