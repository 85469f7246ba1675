"""Starts the processes of a training: this one turned into it, or several by torchrun on one node or more."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from lib.cores import threads_per_process
from lib.train.options import add_training_options

RUN_TRAINING = Path(__file__).with_name("run_training.py")
TORCHRUN = Path(__file__).with_name("torchrun.py")
GRACE_SECONDS = 300
"""How long processes may take to finish their step and write their state after Ctrl-C."""


def parser() -> argparse.ArgumentParser:
    """The options of `tracking/train.py`."""
    built = argparse.ArgumentParser(
        description="Train a tracker. Interrupt with Ctrl-C; the same command goes on where it stopped.",
        allow_abbrev=False,
    )
    start = built.add_argument_group("processes")
    start.add_argument(
        "--mode",
        choices=("single", "multiple", "multi_node"),
        help="single: one process (the default); multiple: --nproc_per_node processes on this machine (the default "
        "when that is given); multi_node: the same on every node, run this command on each with its --rank",
    )
    start.add_argument("--nproc_per_node", type=int, help="processes per machine, one per GPU")
    start.add_argument("--rank", type=int, default=0, help="multi_node: number of this node, from 0")
    start.add_argument("--world-size", "--world_size", dest="world_size", type=int, help="multi_node: number of nodes")
    start.add_argument("--ip", default="127.0.0.1", help="multi_node: address of node 0")
    start.add_argument("--port", type=int, default=20000, help="multi_node: free port of node 0")
    add_training_options(built)
    return built


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a training as the command line says; returns its exit code (130 after Ctrl-C, 143 after SIGTERM)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    launcher = torchrun_arguments(options)
    passed_on = training_arguments(given)
    if not launcher:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, str(RUN_TRAINING), *passed_on])
    environment = {"OMP_NUM_THREADS": str(threads_per_process(options.nproc_per_node)), **os.environ}
    return run_and_forward([sys.executable, *launcher, str(RUN_TRAINING), *passed_on], environment)


def torchrun_arguments(options: argparse.Namespace) -> list[str]:
    """What follows `python` to start several processes; nothing for a single one. Exits with a message if unusable."""
    mode = options.mode or ("single" if options.nproc_per_node in (None, 1) else "multiple")
    if mode == "single":
        if options.nproc_per_node not in (None, 1):
            parser().error(f"--mode single is one process; --nproc_per_node {options.nproc_per_node} needs multiple")
        return []
    if not options.nproc_per_node or options.nproc_per_node < 1:
        parser().error(f"--mode {mode} needs --nproc_per_node, the number of processes (GPUs) per machine")
    launcher = [str(TORCHRUN), f"--shutdown_timeout={GRACE_SECONDS}"]
    launcher.append(f"--nproc_per_node={options.nproc_per_node}")
    if mode == "multiple":
        return [*launcher, "--standalone"]
    if options.world_size is None or not 0 <= options.rank < options.world_size:
        parser().error("--mode multi_node needs --world-size (number of nodes) and --rank from 0 to that minus 1")
    return [
        *launcher,
        f"--nnodes={options.world_size}",
        f"--node_rank={options.rank}",
        f"--master_addr={options.ip}",
        f"--master_port={options.port}",
    ]


def training_arguments(given: Sequence[str]) -> list[str]:
    """The arguments without those that only say how processes are started."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--mode", "--nproc_per_node", "--rank", "--ip", "--port"):
        own.add_argument(name)
    own.add_argument("--world-size", "--world_size")
    return own.parse_known_args(given)[1]


def run_and_forward(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run `command` apart from the terminal's signals, passing each of Ctrl-C and SIGTERM on once; its exit code."""
    received: list[int] = []
    # In a session of its own, the launcher gets one Ctrl-C from us instead of one from us and one from the terminal.
    child = subprocess.Popen(list(command), env=environment, start_new_session=True)

    def forward(signum: int, frame: FrameType | None) -> None:
        if received and signum == signal.SIGINT and time.monotonic() - asked_at[0] > 1.0:
            os.killpg(child.pid, signal.SIGKILL)
        if not received:
            received.append(signum)
            asked_at.append(time.monotonic())
            child.send_signal(signum)

    asked_at: list[float] = []
    before = {s: signal.signal(s, forward) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if received and code:  # the launcher may have been killed in its haste
        return 128 + received[0]
    return code if code >= 0 else 128 - code
