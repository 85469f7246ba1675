"""Whether one tracker is better than another on the same sequences: Wilcoxon's signed-rank test and a bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.bench.metrics import MetricError, Scores


@dataclass(frozen=True, slots=True)
class Comparison:
    """Score of `a` minus score of `b`, sequence by sequence, in percentage points.

    low, high: 95 % bootstrap interval of the mean difference. wilcoxon_p, bootstrap_p: two-sided.
    wins, losses: sequences on which a (b) is better.
    """

    a: str
    b: str
    label: str
    sequences: int
    mean: float
    median: float
    low: float
    high: float
    wilcoxon_p: float
    bootstrap_p: float
    wins: int
    losses: int

    def sentence(self) -> str:
        """The comparison in words."""
        verdict = "differ" if self.wilcoxon_p < 0.05 and not self.low <= 0.0 <= self.high else "cannot be told apart"
        return (
            f"{self.a} and {self.b} {verdict} in {self.label}: mean difference {self.mean:+.2f} points over "
            f"{self.sequences} sequences (95% bootstrap interval {self.low:+.2f} to {self.high:+.2f}, "
            f"p = {self.bootstrap_p:.3g}; Wilcoxon p = {self.wilcoxon_p:.3g}); {self.a} is better on {self.wins}, "
            f"worse on {self.losses}."
        )


def compare(
    a: Scores, b: Scores, names: tuple[str, str], key: str | None = None, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Paired comparison of one score (the main one by default) on the sequences of `a`, which `b` must have too.

    The bootstrap resamples sequences; its p is twice the share of resampled means on the far side of zero.
    """
    key = key or a.main
    mine, other = a.per_sequence(key), b.per_sequence(key)
    if set(mine) != set(other):
        raise MetricError("a paired comparison needs the same sequences for both trackers")
    difference = np.array([mine[name] - other[name] for name in mine])
    n = len(difference)
    rng = np.random.default_rng(seed)
    means = np.concatenate([_resampled(difference, rng, part) for part in _parts(resamples, n)])
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min(float(np.mean(means <= 0)), float(np.mean(means >= 0)))
    return Comparison(
        *names,
        label=a.labels[key],
        sequences=n,
        mean=float(difference.mean()),
        median=float(np.median(difference)),
        low=float(low),
        high=float(high),
        wilcoxon_p=_wilcoxon(difference),
        bootstrap_p=float(min(1.0, 2 * max(tail, 1 / resamples))),
        wins=int((difference > 0).sum()),
        losses=int((difference < 0).sum()),
    )


def _wilcoxon(difference: np.ndarray) -> float:
    if not difference.any():
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(difference).pvalue)


def _parts(resamples: int, n: int) -> list[int]:
    """Resamples per turn, so that the index array stays below some ten million entries."""
    size = max(1, min(resamples, 10_000_000 // n))
    return [size] * (resamples // size) + ([resamples % size] if resamples % size else [])


def _resampled(difference: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    n = len(difference)
    means: np.ndarray = difference[rng.integers(0, n, size=(count, n))].mean(axis=1)
    return means
