"""The batches of an epoch and their throughput."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lib.data import BatchLoader, Rows
from lib.train.process import rng_state, set_rng_state

SMOOTHING = 0.7
"""Weight of the step time known so far when a new interval has been measured."""


class EpochIterator:
    """The batches of an epoch, brought to the device and normalised.

    Starting the loader's worker processes draws random numbers; those of the training are left as they were.

    Args:
        loader: Where the batches come from.
        epoch: Counted from 1.
        start: Number of the first batch, from 0.
        prepare: Brings a loaded batch to the device and normalises it.
    """

    def __init__(self, loader: BatchLoader[Any], epoch: int, start: int, prepare: Callable[[Any], Rows]) -> None:
        self._prepare = prepare
        generators = rng_state()
        self._batches = iter(loader.epoch(epoch, start))
        self._first: Any = next(self._batches, None)
        set_rng_state(generators)

    def take(self, count: int) -> tuple[list[Rows], float]:
        """Take the next batches.

        Args:
            count: Number of batches.

        Returns:
            The batches, and the seconds spent waiting for the loader. The very first batch, for which worker
            processes are started, does not count as waiting.
        """
        taken, waited = [], 0.0
        for _ in range(count):
            batch, self._first = self._first, None
            if batch is None:
                began = time.perf_counter()
                batch = next(self._batches)
                waited += time.perf_counter() - began
            taken.append(self._prepare(batch))
        return taken, waited


@dataclass
class Interval:
    """Work of this process in a stretch of time.

    Attributes:
        began: Its beginning, by `time.perf_counter`.
        samples: Samples trained on.
        steps: Batches trained on.
        waited: Seconds spent waiting for data.
    """

    began: float
    samples: int = 0
    steps: int = 0
    waited: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since it began; never zero."""
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
        self.epoch, self.interval = Interval(time.perf_counter()), Interval(time.perf_counter())

    def count(self, samples: int, steps: int, waited: float) -> None:
        """Add one step to the epoch and the interval.

        Args:
            samples: Samples of the step, in this process.
            steps: Batches of the step.
            waited: Seconds spent waiting for them.
        """
        for span in (self.epoch, self.interval):
            span.samples += samples
            span.steps += steps
            span.waited += waited

    def exclude(self, seconds: float) -> None:
        """Leave out time that went into something else.

        Args:
            seconds: Time spent, for example on writing a checkpoint.
        """
        self.epoch.began += seconds
        self.interval.began += seconds

    def next_interval(self) -> Interval:
        """End the interval, update `step_seconds` and begin the next.

        Returns:
            The interval that ended.
        """
        ended, self.interval = self.interval, Interval(time.perf_counter())
        if ended.steps:
            measured = ended.seconds / ended.steps
            known = self.step_seconds or measured
            self.step_seconds = SMOOTHING * known + (1 - SMOOTHING) * measured
        return ended
