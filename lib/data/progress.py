"""Progress of long work over files: a bar with ETA on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 15.0


class Meter:
    """Counter of finished items, shown as a bar of rich or as one line every `LINE_SECONDS`.

    Args:
        title: Of the work.
        total: Number of items; 0 if not known yet.
        unit: Name of the items.
        bar: Where the items are shown; None prints lines.
    """

    def __init__(self, title: str, total: int, unit: str, bar: Progress | None = None) -> None:
        self._title, self._total, self._unit, self._bar = title, total, unit, bar
        self._task = None if bar is None else bar.add_task(title, total=total or None)
        self._done = 0
        self._began = self._printed = time.monotonic()

    def begin(self, total: int) -> None:
        """Set the number of items, if it was not known before."""
        self._total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def __call__(self, n: int) -> None:
        """Count `n` items that were just finished."""
        self._done += n
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n)
            return
        now = time.monotonic()
        if now - self._printed >= LINE_SECONDS:
            self._printed = now
            left = (now - self._began) * max(0, self._total - self._done) / max(1, self._done)
            done = f"{self._done} of {self._total} {self._unit}, ETA {left:.0f} s"
            print(f"{self._title}: {done}", file=sys.stderr, flush=True)


@contextmanager
def show_progress(title: str, total: int = 0, unit: str = "files") -> Iterator[Meter]:
    """A meter shown on standard error while the block runs.

    Args:
        title: Of the work.
        total: Number of items; 0 if not known yet.
        unit: Name of the items.
    """
    if not sys.stderr.isatty():
        yield Meter(title, total, unit)
        return
    from rich import progress as parts
    from rich.console import Console

    counts = parts.BarColumn(bar_width=30), parts.MofNCompleteColumn(), parts.TextColumn(unit)
    times = parts.TimeElapsedColumn(), parts.TextColumn("ETA"), parts.TimeRemainingColumn()
    columns = parts.TextColumn("{task.description}"), *counts, *times
    with parts.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Meter(title, total, unit, progress)
