"""What a comparison is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lib.bench.metrics import MetricError, Scores
from lib.data import Boxes


class Tagged(Protocol):
    """A sequence with attributes."""

    @property
    def name(self) -> str: ...

    @property
    def attributes(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class TrackerRun:
    """One tracker on one benchmark.

    results: sequence name -> [N, 4] boxes x, y, w, h (for the frame players; may be empty).
    manifest: what made the results, as its file has it; empty for results of unknown origin.
    """

    name: str
    results: Mapping[str, Boxes]
    scores: Scores
    manifest: Mapping[str, Any] = field(default_factory=dict)


def on_common_sequences(runs: Sequence[TrackerRun]) -> list[TrackerRun]:
    """The runs on the sequences that all of them have, in the first one's order; MetricError when there is none."""
    variants = {run.scores.variant for run in runs}
    if len(variants) != 1:
        raise MetricError(f"only scores of one metric variant can stand in one table, not {sorted(variants)}")
    shared = set.intersection(*(set(run.scores.names) for run in runs))
    order = [name for name in runs[0].scores.names if name in shared]
    if not order:
        raise MetricError("the trackers have no sequence in common")
    return [replace(run, scores=run.scores.subset(order)) for run in runs]


def by_attribute(sequences: Iterable[Tagged], scored: Iterable[str]) -> dict[str, list[str]]:
    """Attribute -> names of its sequences, sorted by attribute; sequences without scores are left out."""
    known = set(scored)
    found: dict[str, list[str]] = {}
    for sequence in sequences:
        if sequence.name in known:
            for attribute in sequence.attributes:
                found.setdefault(attribute, []).append(sequence.name)
    return dict(sorted(found.items()))
