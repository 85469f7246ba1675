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
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

if __name__ == "__main__":
    # Started as a file: Python put this folder on the path; the repository root is needed instead.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lib.command import expect_interrupts, prepare_streams
from lib.cores import threads_per_process

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters

GRACE_SECONDS = 300
"""Time that processes have to finish their step and write their state after Ctrl-C."""
LOOPBACK = "loopback"
QUIET_LOGGERS = ("torch.distributed.elastic.agent.server.api", "torch.distributed.elastic.multiprocessing.api")
"""Silenced: they report every signal that is passed on, while the processes and `main` print what matters."""
_PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl` that asks for a signal when the parent process has ended."""


def run_under_torchrun(program: Path | str, arguments: Sequence[str], processes: int, nodes: Sequence[str] = ()) -> int:
    """Run a Python program in several processes and wait for them.

    Args:
        program: Python file; it calls `lib.distributed.start` in each process.
        arguments: Its command line.
        processes: Processes on this machine.
        nodes: Arguments of `torchrun` by which several machines meet; none: this machine only.

    Returns:
        Exit code: 0, that of the process that failed, 130 after Ctrl-C, 143 after SIGTERM.
    """
    meeting = list(nodes) or [f"--rdzv_backend={LOOPBACK}", "--rdzv_endpoint=127.0.0.1:0"]
    launcher = [str(Path(__file__).resolve()), f"--nproc_per_node={processes}", *meeting]
    environment = {"OMP_NUM_THREADS": str(threads_per_process(processes)), **os.environ}
    # As a variable: torch before 2.12 knows no such option, and grants 30 seconds.
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_SECONDS))
    if not nodes and sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return run_and_forward_signals([sys.executable, *launcher, str(program), *arguments], environment)


def run_and_forward_signals(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command apart from the terminal's signals, and pass on the first Ctrl-C or SIGTERM.

    The command is expected to end in good order then. A second Ctrl-C, more than a second after the first signal,
    kills it together with its children.

    Args:
        command: Program and arguments.
        environment: All of its environment variables.

    Returns:
        Its exit code; 128 + n where it failed after signal n was passed on, or was ended by signal n.
    """
    received: list[tuple[int, float]] = []
    # In a session of its own, the launcher receives one Ctrl-C from here, and not a second one from the terminal.
    child = subprocess.Popen(list(command), env=environment, start_new_session=True)

    def forward(signum: int, frame: FrameType | None) -> None:
        if received and signum == signal.SIGINT and time.monotonic() - received[0][1] > 1.0:
            child.kill() if sys.platform == "win32" else os.killpg(child.pid, signal.SIGKILL)
        if not received:
            received.append((signum, time.monotonic()))
            if sys.platform != "win32" or signum != signal.SIGINT:  # there, the terminal's reaches the launcher too
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


def end_with_parent(parent: int | None = None) -> None:
    """Ask the system for a SIGTERM when the process that started this one ends, even by SIGKILL.

    A launcher that is killed would otherwise leave its processes running. Only Linux has this; elsewhere nothing
    happens.

    Args:
        parent: Number of that process; if it has ended already, this one ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if parent not in (None, os.getppid()):
            signal.raise_signal(signal.SIGTERM)


def main() -> int:
    """Run torchrun with the arguments of the command line.

    Returns:
        Exit code: 0, that of the first process that failed, or 128 + n after signal n.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry
    from torch.distributed.run import main as torchrun

    end_with_parent()
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    rendezvous_handler_registry.register(LOOPBACK, _loopback_rendezvous)
    try:
        with TemporaryDirectory(prefix="torchelastic_") as logs:  # torchrun would leave it behind
            sys.argv.insert(1, f"--log_dir={logs}")
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
    """Meeting point of torchrun's processes on one machine: a store that no other machine can reach.

    torchrun's own static rendezvous listens on every network interface.

    Args:
        parameters: Arguments of torchrun; not needed.

    Returns:
        The rendezvous of node 0 of 1, whose store the processes share.
    """
    from torch.distributed import PrefixStore
    from torch.distributed.elastic.rendezvous import RendezvousInfo, RendezvousStoreInfo
    from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

    from lib.distributed import listen_on_loopback

    store, port = listen_on_loopback()

    class Loopback(StaticTCPRendezvous):
        def get_backend(self) -> str:
            return LOOPBACK

        def next_rendezvous(self) -> RendezvousInfo:
            return RendezvousInfo(PrefixStore("agent", store), 0, 1, RendezvousStoreInfo("127.0.0.1", port))

    return Loopback("127.0.0.1", port, rank=0, world_size=1, run_id=LOOPBACK, timeout=GRACE_SECONDS)


if __name__ == "__main__":
    prepare_streams()
    expect_interrupts()
    raise SystemExit(main())
