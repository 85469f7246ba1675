"""The processes of one run, as `torchrun` starts them: rank, device and communication of each.

Training and evaluation share this module; `lib.launch` starts the processes.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from lib.cores import threads_per_process
from lib.device import DeviceError, choose_device, count_gpus

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """This process among those of the run. One process without `torchrun` is a world of size 1.

    Attributes:
        device: Device of this process.
        device_reason: Reason for that device, in a few words for the log.
        rank: Number of this process, 0 to `size` - 1; rank 0 writes files and prints.
        size: Number of processes.
        local_rank: Number of this process on its machine.
        local_size: Number of processes on its machine.
        control: gloo group for flags and Python objects; None in a world of size 1.
        store: Key-value store of all processes, for example for a work queue (`store.add("claims", 1)`). It lives in
            the launcher, outlives a worker, and is empty after a restart by torchrun. (In rank 0, where torchrun
            itself is the launcher on one machine.)
    """

    device: torch.device
    device_reason: str = ""
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    control: dist.ProcessGroup | None = None
    store: dist.Store = field(default_factory=dist.HashStore, compare=False)

    @property
    def is_main(self) -> bool:
        """True in rank 0, the process that writes files and prints."""
        return self.rank == 0

    def all_reduce_max(self, *flags: int) -> tuple[int, ...]:
        """The largest value of each flag over all processes.

        Args:
            *flags: Integers of this process; every process gives equally many.

        Returns:
            The same tuple in every process.
        """
        if self.control is None:
            return flags
        values = torch.tensor(flags, dtype=torch.int64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.control)
        return tuple(int(v) for v in values)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks.

        Args:
            value: Value of this process; it is pickled, so plain types and CPU tensors.
        """
        if self.control is None:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """Run a function in rank 0 only.

        Args:
            work: Function whose result can be pickled.

        Returns:
            Its result, in every process.

        Raises:
            Exception: What `work` raised, in every process.
        """
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


def is_launched() -> bool:
    """True in a process that torchrun has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def start(device: str = "auto") -> World:
    """Join the processes that `torchrun` started (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).

    Gradients travel by nccl between GPUs and by gloo between CPUs; flags and objects always by gloo.

    Args:
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, or any torch device such as `cuda:1`.

    Returns:
        The world as this process sees it, with its groups connected if there is more than one process.

    Raises:
        DeviceError: The device is not there, or there are fewer GPUs than processes that need one.
    """
    environment = os.environ
    size = int(environment.get("WORLD_SIZE", "1"))
    rank, local_rank = int(environment.get("RANK", "0")), int(environment.get("LOCAL_RANK", "0"))
    local_size = int(environment.get("LOCAL_WORLD_SIZE", str(size)))
    chosen, reason = pick_device(device, local_rank, local_size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "OMP_NUM_THREADS" not in environment and chosen.type == "cpu":
        torch.set_num_threads(threads_per_process(local_size))
    if size == 1:
        return World(chosen, reason)
    if local_size == size and sys.platform == "linux":
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, "lo")
    store = meet(TIMEOUT)
    if listens_on_all_interfaces(environment) and local_size == size:
        store = _move_to_loopback(store, rank)
    # After a restart by torchrun the store still holds the addresses of the processes that are gone.
    store = dist.PrefixStore(f"restart_{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store), rank=rank, world_size=size, timeout=TIMEOUT
    )
    group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    control = group if isinstance(group, dist.ProcessGroup) else None
    return World(chosen, reason, rank, size, local_rank, local_size, control, dist.PrefixStore("user", store))


def meet(timeout: timedelta) -> dist.Store:
    """The store at which the processes of RANK and WORLD_SIZE meet.

    Variables that no torchrun has set may be left from an interactive job or set for another program. Then nobody else
    comes, so that what is waited for is said.

    Args:
        timeout: Time for the others to come.
    """
    if not is_launched():
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        found = " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
        text = f"waiting for the other processes of {found}, variables of the environment that torchrun has not set; "
        print(f"{text}for one process alone: unset RANK WORLD_SIZE", file=sys.stderr, flush=True)
    store, _, _ = next(dist.rendezvous("env://", timeout=timeout))
    return store


def listen_on_loopback() -> tuple[dist.TCPStore, int]:
    """Make a store that no other machine can reach: its socket is bound to 127.0.0.1 before the store gets it.

    Returns:
        (the store, its port).
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    port = listener.getsockname()[1]
    own = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    return own, port


def _move_to_loopback(store: dist.Store, rank: int) -> dist.Store:
    """A store on 127.0.0.1 in place of torchrun's, which other machines reach; that one only has the port."""
    key = f"loopback_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if rank > 0:
        return dist.TCPStore("127.0.0.1", int(store.get(key)), is_master=False, timeout=TIMEOUT)
    own, port = listen_on_loopback()
    store.set(key, str(port))
    return own


def listens_on_all_interfaces(environment: Mapping[str, str]) -> bool:
    """True if torchrun's store of several processes listens on every interface of this machine.

    Args:
        environment: Variables of torchrun.
    """
    return environment.get("TORCHELASTIC_RUN_ID", "loopback") != "loopback" and environment.get("WORLD_SIZE") != "1"


def network_notes(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Sentences on what this run opens to the network; none where that is 127.0.0.1 alone.

    Args:
        environment: Variables of torchrun.
    """
    if not listens_on_all_interfaces(environment):
        return []
    size, place = int(environment.get("WORLD_SIZE", "1")), f"port {environment.get('MASTER_PORT')} of every interface"
    if int(environment.get("LOCAL_WORLD_SIZE", size)) < size:
        others = "every process on the interface of its host's name, without passwords: use a private network"
        return [
            f"network: node 0 ({environment.get('MASTER_ADDR')}) listens on {place} (torchrun's store), and {others}"
        ]
    others = "as all does with --nproc_per_node of tracking/train.py and --threads of tracking/test.py"
    own = f"torchrun itself listens on {place}, without a password"
    return [f"network: {own}; the processes listen on 127.0.0.1 alone, {others}"]


def stop(world: World) -> None:
    """Leave the group in good order, all processes together.

    After a failure simply exit: the others may be waiting inside a collective.

    Args:
        world: What `start` returned.

    Raises:
        RuntimeError: Some did not come in time; the message has their ranks.
    """
    if world.control is not None:
        dist.monitored_barrier(world.control, timeout=TIMEOUT, wait_all_ranks=True)
        dist.destroy_process_group()


def pick_device(
    name: str, local_rank: int = 0, local_size: int = 1, share_gpus: int | None = None
) -> tuple[torch.device, str]:
    """Choose the device of one process.

    Args:
        name: `auto`, `cpu`, `cuda`, or any torch device.
        local_rank: Number of the process on its machine.
        local_size: Number of processes on its machine.
        share_gpus: None: one GPU per process, as training needs it. A number: processes take turns on the first
            `share_gpus` GPUs (0: all there are), as evaluation does.

    Returns:
        (device, the reason for it in words).

    Raises:
        DeviceError: The device is not there, or there are fewer GPUs than processes that need one.
    """
    name = name.strip().lower()
    gpus = count_gpus()
    if local_size > 1 and name == "auto" and not gpus:
        name = "cpu"
    if name in ("auto", "cuda") and gpus and share_gpus is not None:
        name = f"cuda:{local_rank % (min(share_gpus, gpus) if share_gpus else gpus)}"
    elif name in ("auto", "cuda") and local_size > 1:
        if 0 < gpus < local_size:
            raise DeviceError(f"{local_size} processes were started on this machine, but it has {gpus} CUDA devices")
        name = f"cuda:{local_rank}"
    return choose_device(name)
