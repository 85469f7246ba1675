"""Anchor-based short-term protocol of VOT: expected average overlap, accuracy, robustness (`vot_multistart`).

Kristan et al., "The eighth visual object tracking VOT2020 challenge results", ECCV workshops 2020; VOT-RGBD2022 uses
it.
"""

from __future__ import annotations

import numpy as np

from lib.bench.metrics.metric import METRICS, Metric
from lib.bench.metrics.scores import Floats, Measurement, MetricError, Reading, Rule, Scores, SequenceResult
from lib.bench.metrics.vot_region import initialised, vot_overlap

LOST = 0.1
GRACE = 10
EAO, CURVE, ACCURACY, ROBUSTNESS = "eao", "expected_overlap", "accuracy", "robustness"


def measure_multistart(result: SequenceResult, low: int = 115, high: int = 755) -> Measurement:
    """All runs from the anchors of one sequence.

    low, high: run lengths that the expected average overlap is averaged over (high is excluded).
    """
    if not 1 <= low < high:
        raise MetricError(f"low {low}, high {high}: expected 1 <= low < high")
    if result.image_size_wh is None:
        raise MetricError(f"{result.name}: the picture size is missing, overlaps are counted within the picture")
    if not result.passes:
        raise MetricError(f"{result.name}: no runs from anchors (frames that a run starts on)")
    runs = [_overlaps(result, k) for k in range(len(result.passes))]
    ends = [
        _failure(overlap, result.gt_xywh[list(frames)]) for overlap, frames in zip(runs, result.passes, strict=True)
    ]
    tracked, total = sum(ends), sum(map(len, runs))
    overlap = sum(float(o[:end].sum()) for o, end in zip(runs, ends, strict=True))
    curve, count = expected_overlap(runs, ends, high)
    each = {
        CURVE: (curve, count),
        EAO: (curve[low - 1 :], count[low - 1 :]),
        ACCURACY: (np.array([overlap / tracked if tracked else 0.0]), np.array([float(tracked)])),
        ROBUSTNESS: (np.array([tracked / total]), np.array([float(len(result.gt_xywh))])),
    }
    lengths = np.arange(1, high, dtype=np.float64)
    return Measurement(
        {name: rows for name, (rows, _) in each.items()},
        {"mean_overlap": overlap / tracked if tracked else float("nan"), "runs": float(len(runs))},
        total,
        {name: weights for name, (_, weights) in each.items()},
        {CURVE: lengths, EAO: lengths[low - 1 :], ACCURACY: np.zeros(1), ROBUSTNESS: np.zeros(1)},
    )


def _overlaps(result: SequenceResult, k: int) -> Floats:
    """[L] overlaps of run `k` in the order it was tracked; the first frame (initialisation) has no region."""
    frames = result.passes[k]
    if len(result.runs) != len(result.passes):
        raise MetricError(f"{result.name}: {len(result.runs)} runs for {len(result.passes)} anchors")
    rows = result.runs[k]
    if len(rows) != len(frames):
        raise MetricError(
            f"{result.name}: {len(rows)} rows for the {len(frames)} frames of the run from frame {frames[0]}"
        )
    assert result.image_size_wh is not None
    return vot_overlap(initialised(rows), result.gt_xywh[list(frames)], result.image_size_wh)


def _failure(overlap: Floats, truth_xywh: Floats) -> int:
    """Where the run failed: the first of `GRACE` frames in a row that are lost although there is a target; else its
    length.
    """
    present = np.asarray((truth_xywh[:, 2:] > 0).all(axis=1))
    lost = np.concatenate([[0], np.cumsum((overlap <= LOST) & present)])
    all_lost = np.flatnonzero(lost[GRACE:] - lost[:-GRACE] == GRACE)
    return int(all_lost[0]) if len(all_lost) else len(overlap)


def expected_overlap(runs: list[Floats], ends: list[int], high: int) -> tuple[Floats, Floats]:
    """Mean over runs of the mean overlap of their first j frames, and how many runs that is, j = 1 .. high - 1: both
    [high - 1].

    A run that did not fail says nothing beyond its length; one that failed goes on with overlap 0 for ever. As in the
    toolkit the divisor there is j - 1, not j.
    """
    summed, count = np.zeros(high - 1), np.zeros(high - 1)
    j = np.arange(1, high)
    for overlap, end in zip(runs, ends, strict=True):
        cut = np.where(np.arange(len(overlap)) < end, overlap, 0.0)
        so_far = np.cumsum(cut[1:])
        reached = min(len(so_far), high - 1)
        summed[:reached] += so_far[:reached] / j[:reached]
        count[:reached] += 1
        if end < len(overlap):
            total = so_far[-1] if len(so_far) else 0.0
            summed[reached:] += total / np.maximum(j[reached:] - 1, 1)
            count[reached:] += 1
    return np.divide(summed, count, out=np.zeros(high - 1), where=count > 0), count


def _note(scores: Scores) -> str | None:
    lengths, runs = scores.thresholds[EAO], scores.weights[EAO].sum(axis=0)
    if runs[0] == 0:
        longest = int((scores.weights[CURVE].sum(axis=0) > 0).sum())
        return (
            f"EAO is 0 because no run is longer than {longest} frames: it averages run lengths {lengths[0]:.0f} to "
            f"{lengths[-1]:.0f} (metric options low and high)"
        )
    if (runs == 0).any():
        return (
            f"no run is {lengths[np.argmin(runs > 0)]:.0f} frames long; lengths from there to {lengths[-1]:.0f} count "
            "as 0 in EAO, as in the toolkit (metric options low and high)"
        )
    return None


MULTISTART = Rule(
    readings={
        "eao": Reading("EAO", EAO),
        "accuracy": Reading("A", ACCURACY, 0),
        "robustness": Reading("R", ROBUSTNESS, 0),
    },
    thresholds={},
    note=_note,
)

METRICS.register("vot_multistart")(
    Metric("VOT anchor-based short-term: EAO, accuracy, robustness", measure_multistart, MULTISTART)
)
