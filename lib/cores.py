"""CPU cores and their distribution over processes; does not import torch."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux shows a container the limits of its control group."""


def available_cores() -> int:
    """The cores that this process may use, by its affinity and by the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (("cpu.max", "cpu.max"), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # version 2, version 1
        with suppress(OSError, ValueError):  # not this version; or no quota, which version 2 calls "max" and 1 calls -1
            quota, period = ((CONTROL_GROUP / file).read_text().split() for file in files)
            granted = math.ceil(int(quota[0]) / int(period[-1]))
            cores = min(cores, granted) if granted > 0 else cores
    return cores


def threads_per_process(processes: int) -> int:
    """The cores, shared among the processes of this host."""
    return max(1, available_cores() // max(1, processes))


SMALL_NETWORK = 4_000_000
"""Parameters below which an operation is too short to be shared: handing it to a second thread takes as long."""


def network_threads(parameters: int, requested: int = 0) -> int:
    """CPU threads that compute a network while it tracks.

    Args:
        parameters: Of the network.
        requested: What the user asked for, which is taken as it is; 0: by the rule.

    Returns:
        One for a small network; else OMP_NUM_THREADS, or this process's share of the cores among those of torchrun.
    """
    if requested or parameters < SMALL_NETWORK:
        return requested or 1
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(given) if given.isdigit() else threads_per_process(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
