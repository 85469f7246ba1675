"""Claims survive the death of workers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from torch.distributed import HashStore, Store

from lib.bench import Result, Summary, Team, WorkQueue
from lib.bench import queue as module


class Log:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failures: dict[str, str] = {}
        self.said: list[str] = []
        self.frames = 0

    def finished(self, name: str, summary: Summary) -> None:
        self.done.append(name)

    def failed(self, name: str, reason: str) -> None:
        self.failures[name] = reason

    def tracked(self, frames: int) -> None:
        self.frames += frames

    def message(self, message: str) -> None:
        self.said.append(message)


def queue(store: Store, names: str, rank: int = 0, restarts: int = 0, log: Log | None = None) -> WorkQueue:
    team = Team(store, rank, 2, restarts=restarts, exit_reason="killed by SIGKILL")
    made = WorkQueue(team, list(names), lambda result: Summary(), log)
    assert made.recover()
    return made


def drain(work: WorkQueue) -> list[str]:
    names = []
    while (name := work.take()) is not None:
        names.append(name)
    return names


def finish(work: WorkQueue, name: str) -> None:
    work.finished(Result(name, np.zeros((1, 4))))


def test_every_sequence_is_handed_out_once_and_in_order() -> None:
    store = HashStore()
    a, b = queue(store, "abc"), queue(store, "abc", 1)
    assert [a.take(), b.take(), a.take(), b.take()] == ["a", "b", "c", None]
    for worker, name in ((a, "a"), (a, "c"), (b, "b")):
        assert not a.over()
        finish(worker, name)
    assert a.over()
    assert b.over()


def test_a_dead_worker_gives_its_sequences_back_once() -> None:
    store, log = HashStore(), Log()
    main = queue(store, "ab", 0, log=log)
    queue(store, "ab", 1).take()
    assert main.take() == "b"
    successor = queue(store, "ab", 1, restarts=1)
    finish(main, "b")
    assert log.said == ["worker 1 ended (killed by SIGKILL) while tracking a; given back to the queue: a"]
    assert successor.take() == "a"
    queue(store, "ab", 1, restarts=2)
    main.poll()
    assert log.failures == {"a": "its worker ended twice (killed by SIGKILL)"}
    assert log.done == ["b"]
    assert main.over()


def test_suspects_run_alone_so_that_an_innocent_row_is_not_given_up() -> None:
    store, log = HashStore(), Log()
    assert drain(queue(store, "ip", 1)) == ["i", "p"]
    successor = queue(store, "ip", 1, restarts=1)
    assert successor.take() == "i"
    assert successor.take() is None
    finish(successor, "i")
    assert successor.take() == "p"
    main = queue(store, "ip", 0, log=log)
    queue(store, "ip", 1, restarts=2)
    main.poll()
    assert list(log.failures) == ["p"]
    assert main.over()


def test_a_worker_that_dies_before_it_has_begun_is_not_started_for_ever() -> None:
    store, log = HashStore(), Log()
    main = queue(store, "a", 0, log=log)
    queue(store, "a", 1)
    team = Team(store, 1, 2, restarts=1, exit_reason="killed by SIGSEGV")
    assert not WorkQueue(team, ["a"], lambda result: Summary()).recover()
    assert main.take() == "a"
    main.give_back("no memory", resume=False)
    with pytest.raises(RuntimeError, match="no worker could start: no memory"):
        main.wait()


def test_lines_of_progress_have_an_eta_in_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_SECONDS", 0.0)
    text = io.StringIO()
    display = module.Display(Console(file=text, width=200), "LaSOT", 280, 1_000_000)
    with display:
        display.failed("one", "frame 0")
        monkeypatch.setattr(module.Display, "seconds", 36.0)
        display.tracked(1000)
    assert [line.partition("ETA ")[2] for line in text.getvalue().splitlines()[1:]] == ["unknown", "9:59:24"]
