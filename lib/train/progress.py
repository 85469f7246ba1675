"""The batches of an epoch and their throughput."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from lib.data import Rows
from lib.train.process import preserved_rng

SMOOTHING = 0.7
"""Weight of the step time known so far when a new interval has been measured."""


class EpochLoader(Protocol):
    """Batches of any epoch from any position on; what a batch holds depends on the epoch and its number alone."""

    @property
    def bad_samples(self) -> int:
        """Number of samples that could not be read so far, in this process."""
        ...

    def __len__(self) -> int:
        """Batches per epoch for this process; the same in all processes."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Batches `start`, `start + 1`, ... of an epoch (counted from 1)."""
        ...


class EpochIterator:
    """The batches of an epoch from `start` on, brought to the device and normalised by `prepare`.

    Starting the loader's worker processes draws random numbers; those of the training are left as they were.

    Attributes:
        waited: Seconds spent waiting for the loader since the last `take_waited`; the first batch, for which worker
            processes are started, is not counted.
    """

    def __init__(self, loader: EpochLoader, epoch: int, start: int, prepare: Callable[[Any], Rows]) -> None:
        self._prepare = prepare
        self.waited = 0.0
        with preserved_rng():
            self._batches = iter(loader.epoch(epoch, start))
            self._first: Any = next(self._batches, None)

    def next(self) -> Rows:
        """The next batch. Raises RuntimeError when the loader ends before its announced length."""
        if self._first is not None:
            batch, self._first = self._first, None
            return self._prepare(batch)
        began = time.perf_counter()
        try:
            batch = next(self._batches)
        except StopIteration:
            raise RuntimeError("the loader gave fewer batches than it announced") from None
        self.waited += time.perf_counter() - began
        return self._prepare(batch)

    def take_waited(self) -> float:
        """Seconds waited since the last call."""
        waited, self.waited = self.waited, 0.0
        return waited


@dataclass
class Span:
    """Work done by this process since `began` (of `time.perf_counter`); `waited`: seconds spent waiting for data."""

    began: float
    samples: int = 0
    steps: int = 0
    waited: float = 0.0

    @property
    def seconds(self) -> float:
        """Since it began; never zero."""
        return max(time.perf_counter() - self.began, 1e-9)


class ThroughputMeter:
    """Throughput of an epoch and, within it, of one print interval after the other.

    Attributes:
        step_seconds: Time of one step, smoothed over the intervals; 0 before the first has ended.
    """

    def __init__(self) -> None:
        self.step_seconds = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin a new epoch."""
        self.epoch, self.interval = Span(time.perf_counter()), Span(time.perf_counter())

    def count(self, samples: int, steps: int, waited: float) -> None:
        """Add one step."""
        for span in (self.epoch, self.interval):
            span.samples += samples
            span.steps += steps
            span.waited += waited

    def exclude(self, seconds: float) -> None:
        """Leave out time that went into something else (writing a checkpoint)."""
        self.epoch.began += seconds
        self.interval.began += seconds

    def next_interval(self) -> Span:
        """End the interval and return it."""
        ended, self.interval = self.interval, Span(time.perf_counter())
        if ended.steps:
            measured = ended.seconds / ended.steps
            known = self.step_seconds or measured
            self.step_seconds = SMOOTHING * known + (1 - SMOOTHING) * measured
        return ended
