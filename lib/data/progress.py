"""Progress of long work over files: a bar with ETA on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 15.0


class Meter(ABC):
    """Counter of finished items: call it with the number of items just finished."""

    @abstractmethod
    def __call__(self, n: int) -> None: ...

    @abstractmethod
    def begin(self, total: int) -> None:
        """Set the number of items, if it was not known before."""


@contextmanager
def show_progress(title: str, total: int = 0, unit: str = "files") -> Iterator[Meter]:
    """A meter shown on standard error while the block runs. total: 0 if not known yet."""
    if not sys.stderr.isatty():
        yield _Lines(title, total, unit)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, title, total)


class _Bar(Meter):
    """A bar of rich."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total or None)

    def __call__(self, n: int) -> None:
        self._progress.advance(self._task, n)

    def begin(self, total: int) -> None:
        self._progress.update(self._task, total=total)


class _Lines(Meter):
    """One line every `LINE_SECONDS`."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._began = self._printed = time.monotonic()

    def begin(self, total: int) -> None:
        self._total = total

    def __call__(self, n: int) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._printed >= LINE_SECONDS:
            self._printed = now
            left = (now - self._began) * max(0, self._total - self._done) / max(1, self._done)
            done = f"{self._done} of {self._total} {self._unit}, ETA {left:.0f} s"
            print(f"{self._title}: {done}", file=sys.stderr, flush=True)
