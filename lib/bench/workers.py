"""Several processes on one queue of sequences. The parent hands out names over one pipe per worker; nothing is shared,
so a worker may die at any moment (kill -9, a crash in a driver) without holding up the others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from lib.bench.queue import WorkQueue
from lib.bench.results import Result
from lib.bench.runner import Work

REPORT_SECONDS = 0.5


class Watcher(Protocol):
    """Who is told what happens."""

    def finished(self, name: str, summary: Any) -> None: ...

    def failed(self, name: str, reason: str) -> None: ...

    def tracked(self, frames: int) -> None: ...

    def say(self, message: str) -> None: ...


class WorkersFailedError(RuntimeError):
    """No worker could work at all; the message has the reason of the first."""


@dataclass
class RemoteWork:
    """A worker's end of the pipe. keep: writes a finished result and returns what the parent is to know of it."""

    pipe: Connection
    keep: Callable[[Result], Any]
    _frames: int = 0
    _reported: float = field(default_factory=time.monotonic)

    def take(self) -> str | None:
        self.pipe.send(("take", None, None))
        name: str | None = self.pipe.recv()
        return name

    def finished(self, result: Result) -> None:
        self.pipe.send(("finished", result.name, self.keep(result)))

    def failed(self, name: str, reason: str) -> None:
        self.pipe.send(("failed", name, reason))

    def tracked(self, frames: int) -> None:
        self._frames += frames
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self.pipe.send(("tracked", None, self._frames))
            self._frames, self._reported = 0, time.monotonic()


class WorkerMain(Protocol):
    """What a worker process does: picklable; build the tracker for worker `slot` and run until the queue is empty."""

    def __call__(self, slot: int, connect: Callable[[Callable[[Result], Any]], Work]) -> None: ...


def _entry(main: WorkerMain, slot: int, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which then ends its workers
    try:
        main(slot, lambda keep: RemoteWork(pipe, keep))
        pipe.send(("bye", None, None))
    except (BrokenPipeError, EOFError, ConnectionResetError):
        os._exit(1)  # the parent is gone
    except Exception as error:
        text = " ".join(str(error).split())
        pipe.send(("broken", None, f"{type(error).__name__}: {text}" if text else type(error).__name__))


@dataclass
class _Worker:
    """`index` counts every process ever started; a replacement has the `slot` (and so the GPU) of the dead one."""

    index: int
    slot: int
    process: SpawnProcess
    pipe: Connection
    farewell: bool = False
    reason: str = ""


@dataclass
class WorkerPool:
    """Runs `main` in `count` spawned processes until `queue` is empty.

    A worker that dies is replaced as long as it had begun a sequence; its sequences go back to the queue once.
    """

    main: WorkerMain
    count: int
    queue: WorkQueue
    watcher: Watcher
    _workers: list[_Worker] = field(default_factory=list)
    _context: multiprocessing.context.SpawnContext = field(default_factory=lambda: multiprocessing.get_context("spawn"))
    _started: int = 0

    def run(self) -> None:
        """Work until nothing is left; raises WorkersFailedError when sequences are left and no worker can be had."""
        try:
            for slot in range(min(self.count, self.queue.waiting)):
                self._start(slot)
            while self._workers:
                sources: list[Any] = [x for w in self._workers for x in (w.pipe, w.process.sentinel)]
                ready = wait(sources)
                for worker in list(self._workers):
                    if worker.pipe in ready or worker.process.sentinel in ready:
                        self._attend(worker)
            if self.queue.waiting:
                raise WorkersFailedError(f"{self.queue.waiting} sequences are left and every worker has stopped")
        finally:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.process.join()
                worker.pipe.close()

    def _start(self, slot: int) -> None:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_entry, args=(self.main, slot, theirs), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(self._started, slot, process, mine))
        self._started += 1

    def _attend(self, worker: _Worker) -> None:
        try:
            while worker.pipe.poll():
                self._hear(worker, *worker.pipe.recv())
        except (EOFError, ConnectionResetError):
            self._bury(worker)
            return
        except BrokenPipeError:  # it died between its question and our answer; the next wait tells
            return

    def _hear(self, worker: _Worker, kind: str, name: str | None, value: Any) -> None:
        if kind == "take":
            worker.pipe.send(self.queue.take(worker.index))
        elif kind == "tracked":
            self.watcher.tracked(value)
        elif kind in ("bye", "broken"):
            worker.farewell, worker.reason = kind == "bye", value or ""
        elif name is not None:
            self.queue.done(worker.index, name)
            (self.watcher.finished if kind == "finished" else self.watcher.failed)(name, value)

    def _bury(self, worker: _Worker) -> None:
        """The worker's pipe is closed: it has ended, in one way or another."""
        worker.process.join(timeout=10)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        self._workers.remove(worker)
        worker.pipe.close()
        why = worker.reason or _cause_of_death(worker.process.exitcode)
        loss = self.queue.lost(worker.index)
        if not worker.farewell:
            self._mourn(worker, why, loss.given_back, loss.given_up)
        lacking = min(self.count, self.queue.waiting) - len(self._workers)
        if self.queue.waiting and lacking > 0 and (worker.farewell or loss.given_back or loss.given_up):
            self._start(worker.slot)
        elif self.queue.waiting and not self._workers:
            raise WorkersFailedError(f"no worker could start: {why}")

    def _mourn(self, worker: _Worker, why: str, given_back: tuple[str, ...], given_up: tuple[str, ...]) -> None:
        doing = ", ".join((*given_back, *given_up)) or "no sequence"
        tail = f"; given back to the queue: {', '.join(given_back)}" if given_back else ""
        self.watcher.say(f"worker {worker.slot} ended ({why}) while tracking {doing}{tail}")
        for name in given_up:
            self.watcher.failed(name, f"its worker ended twice ({why})")


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
