"""Starts a program in several processes under `torchrun`: a training, or an evaluation with `--threads N`.

Run as a file, this module is torchrun itself, with two differences: it ends with the exit code of the process that
failed instead of a traceback of its own, and on one machine its store listens on 127.0.0.1 only.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if __name__ == "__main__":
    # Started as a file: Python put this folder on the path; the repository root is needed instead.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lib.cores import threads_per_process

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters

GRACE_SECONDS = 300
"""How long processes may take to finish their step and write their state after Ctrl-C."""
LOOPBACK = "loopback"
QUIET_LOGGERS = ("torch.distributed.elastic.agent.server.api", "torch.distributed.elastic.multiprocessing.api")
"""They report every signal that is passed on; the processes and `main` say what a user needs to know."""
_PR_SET_PDEATHSIG = 1


def run_under_torchrun(
    program: Path | str, arguments: Sequence[str], processes: int, nodes: Sequence[str] = (), restarts: int = 0
) -> int:
    """Run a Python program in several processes and wait for them.

    Args:
        program: Python file; it calls `lib.distributed.start` in each process.
        arguments: Its command line.
        processes: Processes on this machine.
        nodes: Arguments of `torchrun` that say how several machines meet (see `meet_at`); none: this machine only.
        restarts: How often torchrun starts all processes again when one of them has failed.

    Returns:
        Exit code: 0, that of the process that failed, 130 after Ctrl-C, 143 after SIGTERM.
    """
    meeting = list(nodes) or [f"--rdzv_backend={LOOPBACK}", "--rdzv_endpoint=127.0.0.1:0"]
    launcher = [str(Path(__file__).resolve()), f"--nproc_per_node={processes}", *meeting]
    launcher += [f"--shutdown_timeout={GRACE_SECONDS}", f"--max_restarts={restarts}"]
    environment = {"OMP_NUM_THREADS": str(threads_per_process(processes)), **os.environ}
    if not nodes and sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return run_and_forward([sys.executable, *launcher, str(program), *arguments], environment)


def meet_at(address: str, port: int, nodes: int, rank: int) -> list[str]:
    """Arguments of torchrun for node `rank` of `nodes` machines that meet at node 0."""
    return [f"--nnodes={nodes}", f"--node_rank={rank}", f"--master_addr={address}", f"--master_port={port}"]


def run_and_forward(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run `command` apart from the terminal's signals, passing Ctrl-C or SIGTERM on once; returns its exit code."""
    received: list[tuple[int, float]] = []
    # In a session of its own, the launcher gets one Ctrl-C from us instead of one from us and one from the terminal.
    child = subprocess.Popen(list(command), env=environment, start_new_session=True)

    def forward(signum: int, frame: FrameType | None) -> None:
        if received and signum == signal.SIGINT and time.monotonic() - received[0][1] > 1.0:
            os.killpg(child.pid, signal.SIGKILL)
        if not received:
            received.append((signum, time.monotonic()))
            child.send_signal(signum)

    before = {s: signal.signal(s, forward) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if received and code:  # the launcher may have been killed by a second Ctrl-C
        return 128 + received[0][0]
    return code if code >= 0 else 128 - code


def end_with_parent() -> None:
    """Ask for SIGTERM when the process that started this one is gone, even by SIGKILL (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def main() -> int:
    """Run torchrun with the arguments of the command line; the exit code of its processes, 128 + n for signal n."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry
    from torch.distributed.run import main as torchrun

    end_with_parent()
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    rendezvous_handler_registry.register(LOOPBACK, _loopback_rendezvous)
    try:
        torchrun()
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        code = failure.exitcode
        end = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        print(f"process {rank} {end}", file=sys.stderr)
        return 128 - code if code < 0 else code
    return 0


def _loopback_rendezvous(parameters: RendezvousParameters) -> RendezvousHandler:
    """torchrun's meeting point for one machine: a store that no other machine can reach."""
    import socket

    from torch.distributed import PrefixStore, TCPStore
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    port = listener.getsockname()[1]
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())

    class Loopback(RendezvousHandler):
        """Node 0 of 1."""

        use_agent_store = True

        def get_backend(self) -> str:
            return LOOPBACK

        def next_rendezvous(self) -> RendezvousInfo:
            return RendezvousInfo(PrefixStore("agent", store), 0, 1, RendezvousStoreInfo("127.0.0.1", port))

        def is_closed(self) -> bool:
            return False

        def set_closed(self) -> None:
            """There is nobody else to be told."""

        def num_nodes_waiting(self) -> int:
            return 0

        def get_run_id(self) -> str:
            return LOOPBACK

        def shutdown(self) -> bool:
            return True

    return Loopback()


if __name__ == "__main__":
    raise SystemExit(main())
