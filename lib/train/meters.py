"""Running means of the loss terms, per process and over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Meters:
    """Means of named values, weighted by the number of samples; a name may be absent from some steps."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, values: Mapping[str, float], weight: float) -> None:
        """Count `values` with `weight`."""
        for name, value in values.items():
            entry = self._sums.setdefault(name, [0.0, 0.0])
            entry[0] += value * weight
            entry[1] += weight

    def means(self) -> dict[str, float]:
        """The means so far."""
        return {name: total / weight for name, (total, weight) in self._sums.items()}

    def state(self) -> dict[str, list[float]]:
        """Sums and weights, as plain values."""
        return {name: list(entry) for name, entry in self._sums.items()}

    @classmethod
    def of(cls, states: Iterable[Mapping[str, list[float]]]) -> Meters:
        """The meters that saw all that the given ones saw."""
        meters = cls()
        for state in states:
            for name, (total, weight) in state.items():
                entry = meters._sums.setdefault(name, [0.0, 0.0])
                entry[0] += total
                entry[1] += weight
        return meters
