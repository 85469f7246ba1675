"""CPU cores and their distribution over processes; needs no torch."""

from __future__ import annotations

import os


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_process(processes: int) -> int:
    """The cores, shared among the processes of this host."""
    return max(1, available_cores() // max(1, processes))
