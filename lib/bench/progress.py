"""What an evaluation shows while it runs: a bar with ETA, frames per second and the score so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of a finished sequence: frames, seconds that the tracker spent on them, main score in percent."""

    frames: int
    seconds: float
    score: float | None = None


@dataclass
class Display:
    """A watcher (see `lib.bench.workers.Watcher`) that shows a bar on a terminal, a line now and then elsewhere."""

    console: Console
    title: str
    sequences: int
    frames: int
    label: str = "AUC"
    unit: str = "sequences"
    done: dict[str, Summary] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _tracked: int = 0
    _began: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)
    _bar: Progress | None = None

    def __enter__(self) -> Display:
        self._began = self._logged = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task(self.title, total=max(1, self.frames), note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def finished(self, name: str, summary: Summary) -> None:
        self.done[name] = summary
        self._show()

    def failed(self, name: str, reason: str) -> None:
        self.failures[name] = reason
        self.say(f"[red]failed[/red] {name}: {escape(reason)}")
        self._show()

    def tracked(self, frames: int) -> None:
        self._tracked += frames
        self._show()

    def say(self, message: str) -> None:
        """A line above the bar; rich markup is understood."""
        (self._bar.console if self._bar is not None else self.console).print(message, highlight=False, soft_wrap=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def _note(self) -> str:
        rate = self._tracked / max(self.seconds, 1e-9)
        scores = [s.score for s in self.done.values() if s.score is not None]
        score = f"  {self.label} {sum(scores) / len(scores):.1f}" if scores else ""
        return f"{len(self.done) + len(self.failures)}/{self.sequences} {self.unit}  {rate:.1f} fps{score}"

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._tracked, note=self._note())
        elif time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            share = min(1.0, self._tracked / max(1, self.frames))
            left = self.seconds * (1 - share) / share if share > 0 else float("nan")
            self.console.print(f"{self.title}: {100 * share:.0f}%  {self._note()}  ETA {left:.0f} s", highlight=False)
