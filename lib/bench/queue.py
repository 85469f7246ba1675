"""Which worker tracks which sequence: claims, and what happens to them when a worker dies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Loss:
    """What a dead worker leaves: sequences that go back to the queue, and those given up (their second time)."""

    given_back: tuple[str, ...]
    given_up: tuple[str, ...]


@dataclass
class WorkQueue:
    """Sequences in the order they are to be handed out (longest first keeps the last worker from being alone for long).

    The sequences of a worker that dies are handed out once more. As nobody knows which of its rows killed it, each of
    them then runs alone in its worker, so that an innocent one never pays for its neighbour.
    """

    names: Iterable[str]
    _waiting: list[str] = field(init=False)
    _suspects: list[str] = field(init=False, default_factory=list)
    _given_back: set[str] = field(init=False, default_factory=set)
    _running: dict[int, list[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = list(self.names)

    @property
    def waiting(self) -> int:
        """How many sequences nobody has claimed yet."""
        return len(self._waiting) + len(self._suspects)

    def take(self, worker: int) -> str | None:
        """The next sequence for this worker, or None when there is nothing for it now."""
        mine = self._running.setdefault(worker, [])
        if any(name in self._given_back for name in mine):
            return None
        if self._waiting:
            name = self._waiting.pop(0)
        elif self._suspects and not mine:
            name = self._suspects.pop(0)
        else:
            return None
        mine.append(name)
        return name

    def done(self, worker: int, name: str) -> None:
        """The worker has finished with a sequence, well or not."""
        self._running[worker].remove(name)

    def lost(self, worker: int) -> Loss:
        """The worker is dead; its sequences go back, those that had come back before are given up."""
        claimed = self._running.pop(worker, [])
        again = [name for name in claimed if name in self._given_back]
        back = [name for name in claimed if name not in self._given_back]
        self._given_back.update(back)
        self._suspects.extend(back)
        return Loss(tuple(back), tuple(again))
