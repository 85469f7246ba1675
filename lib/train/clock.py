"""How fast a training goes and how long it still takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

MEMORY = 0.7
"""Weight of what was known before, when a new interval has been measured."""


@dataclass
class Span:
    """A stretch of work of this process. waited: seconds spent waiting for data."""

    began: float
    samples: int = 0
    steps: int = 0
    waited: float = 0.0

    def count(self, samples: int, steps: int, waited: float) -> None:
        """Add what one step did."""
        self.samples += samples
        self.steps += steps
        self.waited += waited

    @property
    def seconds(self) -> float:
        """Since it began; never zero."""
        return max(time.perf_counter() - self.began, 1e-9)

    @property
    def samples_per_second(self) -> float:
        """Of this process."""
        return self.samples / self.seconds

    @property
    def data_share(self) -> float:
        """Share of the time spent waiting for data, 0..1."""
        return min(1.0, self.waited / self.seconds)


class Clock:
    """Measures one loader's epoch and, within it, one print interval after the other.

    step_seconds: time of one step, smoothed over the intervals; 0 while nothing is known.
    """

    def __init__(self) -> None:
        self.step_seconds = 0.0
        self.restart()

    def restart(self) -> None:
        """A new epoch begins."""
        self.epoch, self.interval = Span(time.perf_counter()), Span(time.perf_counter())

    def count(self, samples: int, steps: int, waited: float) -> None:
        """Add what one step did."""
        self.epoch.count(samples, steps, waited)
        self.interval.count(samples, steps, waited)

    def skip(self, seconds: float) -> None:
        """Do not count `seconds` that went into something else (writing a checkpoint)."""
        self.epoch.began += seconds
        self.interval.began += seconds

    def next_interval(self) -> Span:
        """End the interval and return it."""
        ended, self.interval = self.interval, Span(time.perf_counter())
        if ended.steps:
            measured = ended.seconds / ended.steps
            known = self.step_seconds or measured
            self.step_seconds = MEMORY * known + (1 - MEMORY) * measured
        return ended
