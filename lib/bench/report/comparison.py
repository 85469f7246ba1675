"""Trackers on common sequences, and paired tests of whether one is better than another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from lib.bench.metrics import MetricError, Scores
from lib.bench.metrics.reliability import Reliability
from lib.data import Boxes, Video

MIN_SEQUENCES = 6
"""With fewer sequences Wilcoxon's two-sided p cannot fall below 0.05 (its minimum is 2 / 2^n)."""
RESAMPLES = 10_000
"""Of the bootstrap."""


@dataclass(frozen=True)
class TrackerRun:
    """One tracker on one benchmark.

    Attributes:
        name: the tracker's name.
        results: sequence name -> [N, 4] boxes x, y, w, h, for the frame players; may be empty.
        scores: on all sequences.
        manifest: origin of the results (`manifest.json`); empty where unknown.
        fps: frames per second while these results were made; None where unknown.
        parameters: of the network; None where unknown.
        published: label of a score -> figure in percent that the tracker's authors published on this benchmark.
        reliability: of the scores of all frames; None where the results have none.
        size_biases: sequence name -> mean of ln(area / true area) over its frames (`size_bias`); may be empty.
    """

    name: str
    results: Mapping[str, Boxes]
    scores: Scores
    manifest: Mapping[str, Any] = field(default_factory=dict)
    fps: float | None = None
    parameters: int | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    size_biases: Mapping[str, float] = field(default_factory=dict)
    reliability: Reliability | None = None

    @property
    def size_bias(self) -> float | None:
        """Mean over the scored sequences that have one; None if there is none."""
        known = [self.size_biases[name] for name in self.scores.names if name in self.size_biases]
        return float(np.mean(known)) if known else None

    @property
    def main_score(self) -> float:
        """The score that ranks trackers, in percent."""
        return self.scores.headline[self.scores.main]


def size_bias(boxes_xywh: Boxes, truth_xywh: Boxes) -> float | None:
    """Mean of ln(area / true area): above 0 where boxes are too large, ln 2 where they are twice as large.

    Args:
        boxes_xywh, truth_xywh: [N, 4] in image pixels; the first row, and rows without area or with NaN, do not count.

    Returns:
        None where no row counts, or where the rows are not one box for each true one.
    """
    if boxes_xywh.shape != truth_xywh.shape:
        return None
    sizes = np.stack([boxes_xywh, truth_xywh])[:, 1:, 2:]
    found, true = sizes[:, (sizes > 0).all(axis=(0, 2))].prod(axis=2)
    return float(np.log(found / true).mean()) if len(true) else None


def ranked(runs: Iterable[TrackerRun]) -> list[TrackerRun]:
    """The runs by their main score, the best first."""
    return sorted(runs, key=lambda run: -run.main_score)


def on_common_sequences(runs: Sequence[TrackerRun]) -> list[TrackerRun]:
    """The runs on the sequences that all of them have, in the first one's order.

    Raises:
        MetricError: the runs have different metric variants or no sequence in common.
    """
    variants = {run.scores.variant for run in runs}
    if len(variants) != 1:
        raise MetricError(f"only scores of one metric variant can be compared, not {sorted(variants)}")
    shared = set.intersection(*(set(run.scores.names) for run in runs))
    order = [name for name in runs[0].scores.names if name in shared]
    if not order:
        unscored = [(run.name, *one) for run in runs for one in list(run.scores.unscored.items())[:1]]
        reasons = "".join(f"; {name} of {tracker} cannot be scored: {reason}" for tracker, name, reason in unscored)
        raise MetricError(f"the trackers have no sequence in common{reasons}")
    if all(list(run.scores.names) == order for run in runs):
        return list(runs)
    return [replace(run, scores=run.scores.subset(order)) for run in runs]


def by_attribute(sequences: Iterable[Video], scored: Iterable[str]) -> dict[str, list[str]]:
    """Attribute -> names of its sequences, sorted by attribute; sequences that are not `scored` are left out."""
    known = set(scored)
    found: dict[str, list[str]] = {}
    for sequence in sequences:
        if sequence.name in known:
            for attribute in sequence.attributes:
                found.setdefault(attribute, []).append(sequence.name)
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Score of tracker `a` minus score of tracker `b`, sequence by sequence, in percentage points.

    Attributes:
        a, b: names of the trackers.
        label: name of the score.
        sequences: number of sequences.
        mean: mean difference.
        low, high: 95 % bootstrap interval of the mean difference.
        wilcoxon_p, bootstrap_p: two-sided; None with fewer than `MIN_SEQUENCES` sequences.
        wins, losses: number of sequences on which a (b) is better.
    """

    a: str
    b: str
    label: str
    sequences: int
    mean: float
    low: float
    high: float
    wilcoxon_p: float | None
    bootstrap_p: float | None
    wins: int
    losses: int


def compare(a: Scores, b: Scores, names: tuple[str, str], key: str | None = None) -> PairedComparison:
    """Compare two trackers by the difference of one score on each sequence.

    Wilcoxon's signed-rank test, and a percentile bootstrap that resamples sequences: its p is twice the share of
    resampled means on the other side of zero, and at least 2 / 2^n, the probability that all n signs agree by chance.

    Args:
        a, b: scores on the same sequences.
        names: names of the trackers.
        key: the score; the main one by default.

    Raises:
        MetricError: the sequences differ.
    """
    key = key or a.main
    scores_a, scores_b = a.per_sequence(key), b.per_sequence(key)
    if set(scores_a) != set(scores_b):
        raise MetricError("a paired comparison needs the same sequences for both trackers")
    difference = np.array([scores_a[name] - scores_b[name] for name in scores_a])
    n, mean = len(difference), float(difference.mean())
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    low, high, wilcoxon_p, bootstrap_p = _paired_tests(tuple(difference.tolist()))
    return PairedComparison(*names, a.labels[key], n, mean, low, high, wilcoxon_p, bootstrap_p, wins, losses)


@lru_cache(maxsize=1024)
def _paired_tests(differences: tuple[float, ...]) -> tuple[float, float, float | None, float | None]:
    """`low`, `high`, `wilcoxon_p` and `bootstrap_p` of a `PairedComparison`; kept, since each table asks for them."""
    from scipy import stats

    difference, n = np.array(differences), len(differences)
    low = high = differences[0]
    wilcoxon_p = bootstrap_p = None
    if n > 1:
        batch = max(1, min(RESAMPLES, 10_000_000 // n))  # bounds the memory of the resampled indices
        rng = np.random.default_rng(0)
        bootstrap = stats.bootstrap(
            (difference,), np.mean, n_resamples=RESAMPLES, batch=batch, method="percentile", rng=rng
        )
        low, high = map(float, bootstrap.confidence_interval)
    if n >= MIN_SEQUENCES:
        means = bootstrap.bootstrap_distribution
        tail = min(float(np.mean(means <= 0)), float(np.mean(means >= 0)))
        # no test can know more about n pairs than that all of them have one sign
        bootstrap_p = min(1.0, max(2 * max(tail, 1 / RESAMPLES), 2 / 2**n))
        wilcoxon_p = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
    return low, high, wilcoxon_p, bootstrap_p
