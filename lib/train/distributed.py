"""Several processes as `torchrun` starts them: who this one is, how they agree, how their gradients meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from lib.cores import threads_per_process
from lib.device import DeviceError, choose_device

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """This process among those of the run. One process without `torchrun` is a world of its own."""

    device: torch.device
    device_reason: str = ""
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """The process that writes files and speaks."""
        return self.rank == 0

    def agree(self, *flags: int) -> tuple[int, ...]:
        """The largest value of each flag over all processes."""
        if self.control is None:
            return flags
        values = torch.tensor(flags, dtype=torch.int64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.control)
        return tuple(int(v) for v in values)

    def gather(self, value: T) -> list[T]:
        """Every process's value (plain types, CPU tensors), by rank."""
        if self.control is None:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """Let the first process do it; its result, or its exception, is everybody's."""
        outcome: tuple[bool, Any] = (False, None)
        if self.is_main:
            try:
                outcome = (True, work())
            except Exception as error:
                if self.control is None:
                    raise
                outcome = (False, error)
        done, value = self.gather(outcome)[0]
        if not done:
            raise value
        return value

    def barrier(self, timeout: timedelta = TIMEOUT) -> None:
        """Wait for the others; an error that names those that did not come within `timeout`."""
        if self.control is not None:
            dist.monitored_barrier(self.control, timeout=timeout, wait_all_ranks=True)

    def wrap(self, module: nn.Module, static_graph: bool = False) -> nn.Module:
        """`module` with its gradients averaged over the processes; itself when there is one process.

        Parameters that take no part in the loss (OSTrack keeps two) are found anew in every step, unless the graph is
        declared to be the same in all steps. Batch normalisation uses each process's own statistics; the running
        averages are those of process 0.
        """
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(
            module, find_unused_parameters=not static_graph, static_graph=static_graph
        )


def start(device: str = "auto", environment: Mapping[str, str] = os.environ) -> World:
    """Join the processes that `torchrun` started (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).

    device: ``auto`` (a GPU when there is one), ``cpu``, ``cuda``, or any torch device such as ``cuda:1``.
    Gradients travel by nccl between GPUs and by gloo between CPUs; flags and objects always by gloo.
    Raises DeviceError for a device that is not there.
    """
    size = int(environment.get("WORLD_SIZE", "1"))
    rank, local_rank = int(environment.get("RANK", "0")), int(environment.get("LOCAL_RANK", "0"))
    local_size = int(environment.get("LOCAL_WORLD_SIZE", str(size)))
    chosen, reason = pick_device(device, local_rank, local_size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    _set_threads(chosen, local_size, environment)
    control: dist.ProcessGroup | None = None
    if size > 1:
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=_store(environment), rank=rank, world_size=size, timeout=TIMEOUT)
        group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        control = group if isinstance(group, dist.ProcessGroup) else None
    return World(chosen, reason, rank, size, local_rank, local_size, control)


def stop(world: World) -> None:
    """Leave the group in good order. After a failure simply exit: the others may be waiting inside a collective."""
    if world.control is not None:
        world.barrier()
        dist.destroy_process_group()


def pick_device(name: str, local_rank: int = 0, local_size: int = 1) -> tuple[torch.device, str]:
    """The device of this process and, in words, why it is that one; several processes take one GPU each."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_size == 1:
        return choose_device(name)
    if name == "auto" and not gpus:
        name = "cpu"
    if name in ("auto", "cuda"):
        if 0 < gpus < local_size:
            raise DeviceError(f"{local_size} processes were started on this machine, but it has {gpus} CUDA devices")
        name = f"cuda:{local_rank}"
    return choose_device(name)


def _store(environment: Mapping[str, str]) -> dist.Store:
    """Where the processes meet. After a restart by torchrun it still holds the addresses of those that are gone."""
    store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    return dist.PrefixStore(f"restart_{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _set_threads(device: torch.device, local_size: int, environment: Mapping[str, str]) -> None:
    if "OMP_NUM_THREADS" not in environment and device.type == "cpu":
        torch.set_num_threads(threads_per_process(local_size))
