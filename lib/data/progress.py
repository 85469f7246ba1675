"""How far a long walk over files has come: a bar with ETA on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 15.0


@contextmanager
def show_progress(title: str, total: int, unit: str = "files") -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`; shown on standard error."""
    if sys.stderr.isatty():
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        yield _Lines(title, total, unit)


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
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
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=max(total, 1))
        yield lambda n: progress.advance(task, n)


class _Lines:
    """One line every `LINE_SECONDS`."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._began = self._told = time.monotonic()

    def __call__(self, n: int) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            left = (now - self._began) * max(0, self._total - self._done) / max(1, self._done)
            print(
                f"{self._title}: {self._done} of {self._total} {self._unit}, ETA {left:.0f} s",
                file=sys.stderr,
                flush=True,
            )
