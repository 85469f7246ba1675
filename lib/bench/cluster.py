"""Evaluation under torchrun: every process is one worker, the queue is a counter in the process group's store.

    torchrun --nnodes 2 --nproc_per_node 8 tracking/test.py SCRIPT CONFIG --dataset lasot

All processes must see the same result folder. When one dies torchrun ends the others; what is finished stays, and the
same command continues.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

from torch.distributed import PrefixStore, Store, rendezvous

from lib.bench.progress import Summary
from lib.bench.results import Result
from lib.bench.workers import REPORT_SECONDS, Watcher

PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Group:
    """The processes of this run. rank 0 prepares and reports."""

    store: Store
    rank: int
    size: int

    @property
    def local_rank(self) -> int:
        return int(os.environ.get("LOCAL_RANK", self.rank))

    def share(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` gives on rank 0 (a JSON value), on every rank."""
        if self.rank == 0:
            value = make()
            self.store.set(key, json.dumps(value))
            return value
        self.store.wait([key], PATIENCE)
        return json.loads(self.store.get(key))

    def gather(self, key: str, value: Any) -> list[Any]:
        """The values of all ranks, on rank 0; an empty list elsewhere."""
        self.store.set(f"{key}/{self.rank}", json.dumps(value))
        if self.rank:
            return []
        keys = [f"{key}/{rank}" for rank in range(self.size)]
        self.store.wait(keys, PATIENCE)
        return [json.loads(self.store.get(k)) for k in keys]

    def leave(self) -> None:
        """Wait at the end until nobody needs the store any more (rank 0 may be hosting it)."""
        gone = self.store.add("gone", 1)
        while self.rank == 0 and gone < self.size:
            time.sleep(0.05)
            gone = self.store.add("gone", 0)


def join_group(purpose: str) -> Group | None:
    """The group that torchrun has started this process in, or None when it was started alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        return None
    store, rank, size = _meet()
    return Group(PrefixStore(f"evaluation/{purpose}", store), rank, size)


@lru_cache(maxsize=1)
def _meet() -> tuple[Store, int, int]:
    """The store of the process group; met once, since rank 0 may be hosting it."""
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    return store, rank, size


@dataclass
class ClusterWork:
    """One rank's view of the queue: `take` claims the next position of `names`, which are the same on every rank."""

    group: Group
    names: Sequence[str]
    keep: Callable[[Result], Summary]
    watcher: Watcher
    failures: dict[str, str] = field(default_factory=dict)
    _frames: int = 0
    _seen: int = 0
    _reported: float = field(default_factory=time.monotonic)

    def take(self) -> str | None:
        position = self.group.store.add("claims", 1) - 1
        return self.names[position] if position < len(self.names) else None

    def finished(self, result: Result) -> None:
        self.watcher.finished(result.name, self.keep(result))

    def failed(self, name: str, reason: str) -> None:
        self.failures[name] = reason
        self.watcher.failed(name, reason)

    def tracked(self, frames: int) -> None:
        """Frames are counted over all ranks, so that rank 0 shows the progress of the whole."""
        self._frames += frames
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        total = self.group.store.add("frames", self._frames)
        self.watcher.tracked(total - self._seen)
        self._frames, self._seen, self._reported = 0, total, time.monotonic()
