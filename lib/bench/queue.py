"""The processes of one evaluation and the queue that they share: one process, N on this machine, or several machines.

    python tracking/test.py SCRIPT CONFIG --dataset lasot --threads 16          # runs itself under torchrun
    torchrun --nnodes 2 --nproc_per_node 8 tracking/test.py SCRIPT CONFIG --dataset lasot

The queue lives in a key-value store: in the launcher's under torchrun, in this process's memory without. Under
torchrun each rank tracks in a child process (`lib.command.run_in_child`), so that a killed child (kill -9, a crash in a
driver) does not end the group: the rank's next child returns the runs that it had in flight to the queue. All
processes must see the same result folder.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from torch.distributed import HashStore, PrefixStore, Store

from lib.bench.results import Result
from lib.command import EXIT_REASON, RESTARTS
from lib.distributed import meet

_meet = cache(meet)
STORE_TIMEOUT = timedelta(days=7)
REPORT_SECONDS, POLL_SECONDS, LOG_SECONDS = 0.5, 0.1, 15.0
DONE = "done"


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of a finished run for the display: its main score in percent, and a remark on it."""

    score: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Team:
    """The processes of one evaluation, seen from one of them.

    Attributes:
        store: Key-value store of all processes.
        rank: Number of this process; 0 prepares, reports and scores.
        size: Number of processes.
        local_rank: Number of this process on its machine.
        local_size: Number of processes on its machine.
        restarts: Number of children of this rank that have died before this one.
        exit_reason: Why the last of them ended.
    """

    store: Store
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0
    exit_reason: str = ""

    @property
    def is_main(self) -> bool:
        """True in the process that prepares, reports and scores."""
        return self.rank == 0

    def share(self, key: str, make: Callable[[], Any]) -> Any:
        """Share a value of the main process; it is made once, whichever process dies.

        Args:
            key: Name of the value in the store.
            make: Makes it, of JSON types; called in the main process only.

        Returns:
            The value, in every process.
        """
        if self.is_main and not self.store.check([key]):
            self.store.set(key, json.dumps(make()))
        self.store.wait([key], STORE_TIMEOUT)
        return json.loads(self.store.get(key))


def join_team(purpose: str) -> Team:
    """Connect to the processes that torchrun has started, or to none.

    Args:
        purpose: Name that keeps evaluations apart in the store, the same in all processes.

    Returns:
        The team; of this process alone where torchrun has not started several.
    """
    environment = os.environ
    if "RANK" not in environment or int(environment.get("WORLD_SIZE", "1")) < 2:
        return Team(HashStore())
    rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    local = int(environment.get("LOCAL_RANK", rank)), int(environment.get("LOCAL_WORLD_SIZE", size))
    store = PrefixStore(f"evaluation/{purpose}", _meet(STORE_TIMEOUT))
    return Team(store, rank, size, *local, int(environment.get(RESTARTS, "0")), environment.get(EXIT_REASON, ""))


@dataclass
class WorkQueue:
    """Runs that are still to be tracked, as one process sees them.

    Every run may be claimed twice: `run/<position>` and `retry/<position>` in the store hold the name of the claimant,
    then `done`. What a dead process had in flight is tried once more. Since any of its rows may have killed it, each
    of them then runs alone in its process, so that one bad sequence makes no other fail.

    Attributes:
        team: The processes that share the queue.
        names: Runs in the order in which they are handed out (the longest first, so that no process has to work alone
            for long at the end).
        write_result: Writes a finished result.
        display: Receives the progress, in the main process.
    """

    team: Team
    names: Sequence[str]
    write_result: Callable[[Result], Summary]
    display: Display | None = None
    _claims: dict[str, str] = field(default_factory=dict)  # run in flight -> its key in the store
    _started: bool = False  # the store knows that this process has claimed a run
    _retrying: bool = False  # the run in flight is a second attempt, which runs alone
    _next: int = 0  # position of the next run to claim
    _next_retry: int = 0  # number of the next returned run to claim
    _first_open: int = 0  # all runs before this position are finished or have failed
    _give_backs: int = 0
    _events_read: int = 0
    _frames: int = 0  # tracked since the last report
    _frames_read: int = 0  # of all processes, shown on the display
    _reported: float = field(default_factory=time.monotonic)

    def take(self) -> str | None:
        """Claim the next run; those that dead processes left come last, and alone.

        Returns:
            Its name; None when there is none for this process now.
        """
        if self._retrying:
            return None
        while self._next < len(self.names):
            self._next += 1
            if self._claim("run", self._next - 1):
                return self.names[self._next - 1]
        returned = self.team.store.add("returned", 0)
        while not self._claims and self._next_retry < returned:
            position = int(self.team.store.get(f"returned/{self._next_retry}"))
            self._next_retry += 1
            if self._claim("retry", position):
                self._retrying = True
                return self.names[position]
        return None

    def _claim(self, attempt: str, position: int) -> bool:
        """Claim run number `position` for its first ("run") or second ("retry") attempt; True if no other has it."""
        key = f"{attempt}/{position}"
        mine = f"{self.team.rank}.{self.team.restarts}.{self._give_backs}"
        if self.team.store.compare_set(key, "", mine).decode() != mine:
            return False
        if not self._started:
            self.team.store.set(f"child/{self.team.rank}.{self.team.restarts}", "started")
            self._started = True
        self._claims[self.names[position]] = key
        return True

    def finished(self, result: Result) -> None:
        """Write a result and report it.

        Args:
            result: Of a run that `take` has returned.
        """
        self._settle(result.name, "finished", asdict(self.write_result(result)))

    def failed(self, name: str, reason: str) -> None:
        """Report a run that cannot be tracked.

        Args:
            name: Of the run.
            reason: For the report.
        """
        self._settle(name, "failed", reason)

    def _settle(self, name: str, event: str, value: Any) -> None:
        self._post(event, name, value)  # first: a process that dies here has the run tracked again, not forgotten
        self.team.store.set(self._claims.pop(name), DONE)
        self._retrying = False
        self.poll()

    def tracked(self, frames: int) -> None:
        """Count frames; they are reported to the other processes twice a second at most.

        Args:
            frames: Number of frames since the last call.
        """
        self._frames += frames
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self.team.store.add("frames", self._frames)
            self._frames, self._reported = 0, time.monotonic()
            self.poll()

    def over(self) -> bool:
        """True when every run is finished or has failed, in whatever process."""
        store = self.team.store
        while self._first_open < len(self.names):
            keys = [f"{attempt}/{self._first_open}" for attempt in ("run", "retry")]
            if not any(store.check([key]) and store.get(key).decode() == DONE for key in keys):
                return False
            self._first_open += 1
        return True

    @property
    def in_flight(self) -> bool:
        """True if this process has claimed runs that are not settled."""
        return bool(self._claims)

    def recover(self) -> bool:
        """Return to the queue what a dead child of this rank had in flight.

        Returns:
            False if that child died before it had claimed anything, so that this one would die as well.
        """
        store, rank, restarts = self.team.store, self.team.rank, self.team.restarts
        before = f"{rank}.{restarts - 1}"
        store.set(f"child/{rank}.{restarts}", "joined")
        if not store.check([f"child/{before}"]):
            return True
        keys = [(name, f"{attempt}/{i}") for i, name in enumerate(self.names) for attempt in ("run", "retry")]
        for name, key in keys:
            if store.check([key]) and store.get(key).decode().startswith(f"{before}."):
                self._claims[name] = key
        started = store.get(f"child/{before}") == b"started"
        self.give_back(self.team.exit_reason, resume=started)
        return started

    def give_back(self, reason: str, resume: bool = True) -> None:
        """Return the runs in flight after a failure of the whole process; those that come back twice have failed.

        Args:
            reason: Of the failure.
            resume: This process goes on; else it leaves.
        """
        store = self.team.store
        again = [name for name, key in self._claims.items() if key.startswith("run/")]
        twice = [name for name in self._claims if name not in again]
        tail = f"; given back to the queue: {', '.join(again)}" if again else ""
        doing = ", ".join(self._claims) or "no sequence"
        self._post("message", "", f"worker {self.team.rank} ended ({reason}) while tracking {doing}{tail}")
        for name in again:
            store.set(f"returned/{store.add('slots', 1) - 1}", self._claims.pop(name).partition("/")[2])
            store.add("returned", 1)
        for name in twice:
            self.failed(name, f"its worker ended twice ({reason})")
        self._retrying = False
        self._give_backs += 1
        if not resume:
            store.set("last_reason", reason)
            store.add("left", 1)

    def wait(self) -> None:
        """Wait a moment for other processes.

        Raises:
            RuntimeError: All processes have left; raised in the main one.
        """
        if self.team.is_main and self.team.store.add("left", 0) >= self.team.size:
            raise RuntimeError(f"no worker could start: {self.team.store.get('last_reason').decode()}")
        time.sleep(POLL_SECONDS)
        self.poll()

    def _post(self, event: str, name: str, value: Any) -> None:
        number = self.team.store.add("events", 1) - 1
        self.team.store.set(f"event/{number}", json.dumps([event, name, value]))

    def poll(self) -> None:
        """Pass events and frames of all processes since the last call to the display, if there is one."""
        if self.display is None:
            return
        store = self.team.store
        events = store.add("events", 0)
        while self._events_read < events:
            event, name, value = json.loads(store.get(f"event/{self._events_read}"))
            self._events_read += 1
            if event == "finished":
                self.display.finished(name, Summary(**value))
            elif event == "failed":
                self.display.failed(name, value)
            else:
                self.display.message(escape(value))
        frames = store.add("frames", 0)
        self.display.tracked(frames - self._frames_read)
        self._frames_read = frames


@dataclass
class Display:
    """Progress of an evaluation, all processes included: a bar on a terminal, a line now and then elsewhere.

    Attributes:
        console: Where it is shown.
        title: Of the benchmark.
        runs: Number of runs to track.
        frames: Number of their frames.
        label: Of the main score.
        unit: What is counted.
        scores: Finished run -> main score in percent.
        failures: Failed run -> reason.
        notes: Finished run -> remark on it.
    """

    console: Console
    title: str
    runs: int
    frames: int
    label: str = "AUC"
    unit: str = "sequences"
    scores: dict[str, float | None] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    _tracked: int = 0
    _began: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)
    _bar: Progress | None = None

    def __enter__(self) -> Display:
        self._began = self._logged = time.monotonic()
        if self.console.is_terminal and not self.console.quiet:
            columns = (*Progress.get_default_columns(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Progress(*columns, console=self.console)
            self._task = self._bar.add_task(self.title, total=max(1, self.frames), note="")
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def finished(self, name: str, summary: Summary) -> None:
        """Count a finished run and its score.

        Args:
            name: Of the run.
            summary: Its figures.
        """
        self.scores[name] = summary.score
        if summary.note:
            self.notes[name] = summary.note
        self._show()

    def failed(self, name: str, reason: str) -> None:
        """Count and print a failed run.

        Args:
            name: Of the run.
            reason: For the report.
        """
        self.failures[name] = reason
        self.message(f"[red]failed[/red] {name}: {escape(reason)}")
        self._show()

    def tracked(self, frames: int) -> None:
        """Count frames.

        Args:
            frames: Number of frames since the last call.
        """
        self._tracked += frames
        self._show()

    def message(self, message: str) -> None:
        """Print a line above the bar.

        Args:
            message: With rich markup.
        """
        self.console.print(message, highlight=False, soft_wrap=True)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._began

    def _show(self) -> None:
        scores = [score for score in self.scores.values() if score is not None]
        shown = f"  {self.label} {sum(scores) / len(scores):.1f}" if scores else ""
        rate = self._tracked / max(self.seconds, 1e-9)
        note = f"{len(self.scores) + len(self.failures)}/{self.runs} {self.unit}  {rate:.1f} fps{shown}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._tracked, note=note)
        elif time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            share = min(1.0, self._tracked / max(1, self.frames))
            left = str(timedelta(seconds=round(self.seconds * (1 - share) / share))) if share > 0 else "unknown"
            self.console.print(f"{self.title}: {100 * share:.0f}%  {note}  ETA {left}", highlight=False)
