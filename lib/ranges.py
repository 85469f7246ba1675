"""Accepted values of settings, as annotations: `size: Side = 256` is checked wherever a configuration sets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Accepted numbers.

    Attributes:
        low, high: Bounds; None for none.
        above, below: The bound itself is not accepted.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def problem(self, value: float) -> str:
        """A phrase such as ``must be at least 1, not 0``; empty for an accepted number."""
        low = self.low is None or (value > self.low if self.above else value >= self.low)
        high = self.high is None or (value < self.high if self.below else value <= self.high)
        if low and high:
            return ""
        bounds = []
        if self.low is not None:
            bounds.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if self.high is not None:
            bounds.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        allowed = f"be {' and '.join(bounds)}"
        if len(bounds) == 2 and not (self.above or self.below):
            allowed = f"lie in {self.low:g}..{self.high:g}"
        return f"must {allowed}, not {value!r}"


@dataclass(frozen=True)
class Choice:
    """Accepted words, two or more."""

    words: tuple[str, ...]

    def problem(self, value: str) -> str:
        """A phrase such as ``must be RGB or BGR, not 'x'``; empty for an accepted word."""
        expected = f"{', '.join(self.words[:-1])} or {self.words[-1]}"
        return "" if value in self.words else f"must be {expected}, not {value!r}"


Count = Annotated[int, Range(1)]
CountOrNone = Annotated[int, Range(0)]
"""A number of things, where 0 stands for none."""
Side = Annotated[int, Range(1, 8192)]
"""Side of a picture in pixels."""
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Ratio = Annotated[float, Range(0, 1, above=True)]
"""A share that is not zero."""
Rate = Annotated[float, Range(0, 1, below=True)]
"""A share that is not all, such as of dropout."""
