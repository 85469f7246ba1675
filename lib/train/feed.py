"""Batches of one epoch, with the time that was spent waiting for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from lib.data import Rows
from lib.train.rng import preserved_rng


class EpochLoader(Protocol):
    """Batches of any epoch from any position on; what a batch holds depends on the epoch and its number alone."""

    @property
    def bad_samples(self) -> int:
        """How many samples could not be read so far, in this process."""
        ...

    def __len__(self) -> int:
        """Batches per epoch for this process; the same in all processes."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Batches `start`, `start + 1`, ... of an epoch (counted from 1)."""
        ...


class Feed:
    """An epoch's batches, prepared for the network by `prepare` (to the device, normalised).

    waited: seconds spent in the loader since the last `restart_clock`; the first batch, for which worker processes are
    started, is not counted. The global random numbers of the training are left alone by that start.
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

    def restart_clock(self) -> float:
        """Seconds waited since the last call."""
        waited, self.waited = self.waited, 0.0
        return waited
