"""Reliability of scores: calibration against the overlap, and detection of a lost target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.bench.metrics.curves import Floats

LOST_OVERLAP = 0.2
"""Overlap below which the target is lost."""
BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Scores against overlaps, over frames of many sequences.

    Attributes:
        expected, observed: [K] mean score and mean overlap of the frames in each bin of scores that has some.
        counts: [K] numbers of frames.
        auroc: Probability that a lost frame (overlap below 0.2) has a lower score than another one; None where there
            are no frames of one of the kinds.
    """

    expected: Floats
    observed: Floats
    counts: NDArray[np.int64]
    auroc: float | None

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean of |score - overlap| of the bins, each as often as it has frames."""
        return float(np.average(np.abs(self.expected - self.observed), weights=self.counts))


def reliability(scores: Floats, overlaps: Floats) -> Reliability | None:
    """Compare scores with overlaps.

    Args:
        scores: [N] in 0..1, of one tracker; others are clipped.
        overlaps: [N] with the truth, 0 where the target is absent; NaN where it is unknown.

    Returns:
        None where nothing is known.
    """
    known = np.isfinite(scores) & np.isfinite(overlaps)
    scores, overlaps = scores[known].clip(0, 1), overlaps[known]
    if not len(scores):
        return None
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    used = counts > 0
    expected, observed = (np.bincount(bins, weights=x, minlength=BINS)[used] / counts[used] for x in (scores, overlaps))
    lost = overlaps < LOST_OVERLAP
    below, others = np.sort(scores[lost]), scores[~lost]
    # Pairs in which the lost frame scores less, equal scores counting half.
    ordered = sum(np.searchsorted(below, others, side).sum() for side in ("left", "right")) / 2
    auroc = float(ordered / (len(below) * len(others))) if len(below) and len(others) else None
    return Reliability(expected, observed, counts[used], auroc)
