"""Train a tracker: starts one process, or one per GPU by torchrun, and passes on their exit code.

python tracking/train.py --script ostrack --config vitb_256_mae_ce_32x4_ep300 --save_dir ./output --mode multiple \
    --nproc_per_node 4
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import _bootstrap  # noqa: F401

from lib.launch import run_under_torchrun
from lib.train import add_training_options, run_training
from tracking._options import CommandParser, at_least


def _process_parser() -> argparse.ArgumentParser:
    """Parser of the options that decide on processes."""
    built = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    start = built.add_argument_group("processes")
    text = "single: one process (the default); multiple: --nproc_per_node processes on this machine (the default "
    text += "when that is given); multi_node: the same on every node, run this command on each with its --rank"
    start.add_argument("--mode", choices=("single", "multiple", "multi_node"), help=text)
    start.add_argument("--nproc_per_node", type=at_least(1), help="processes per machine, one per GPU")
    start.add_argument("--rank", type=at_least(0), default=0, help="multi_node: number of this node, from 0")
    start.add_argument(
        "--world-size", "--world_size", dest="world_size", type=at_least(1), help="multi_node: number of nodes"
    )
    start.add_argument("--ip", default="127.0.0.1", help="multi_node: address of node 0")
    start.add_argument("--port", type=int, default=20000, help="multi_node: free port of node 0")
    return built


def parser() -> argparse.ArgumentParser:
    """Build the parser of `tracking/train.py`."""
    text = "Train a tracker. Interrupt with Ctrl-C; the same command goes on where it stopped."
    built = CommandParser(text, parents=[_process_parser()], allow_abbrev=False)
    add_training_options(built)
    nodes = "without --mode multi_node, since one machine finds its address and port by itself"
    built.no_effect("--rank --world-size --ip --port", lambda o: o.mode != "multi_node", nodes, warn=True)
    teacher = "as 0 with --script_teacher or --config_teacher, which make it a distillation"
    built.no_effect("--distill", lambda o: not o.distill and (o.script_teacher or o.config_teacher), teacher, warn=True)
    built.no_effect("--allow_config_change", lambda o: o.resume == "never", "with --resume never, a new beginning")
    return built


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a training in one process or in several.

    Args:
        arguments: The command line without the program's name; None reads `sys.argv`.

    Returns:
        Exit code of the training (130 after Ctrl-C, 143 after SIGTERM).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    processes, nodes = processes_and_nodes(parser().parse_args(given))
    passed_on = training_arguments(given)
    if processes:
        return run_under_torchrun(run_training.__file__, passed_on, processes, nodes)
    return run_training.leave(run_training.main(passed_on))


def processes_and_nodes(options: argparse.Namespace) -> tuple[int, list[str]]:
    """Decide on the processes to start.

    Args:
        options: Of `parser`.

    Returns:
        Processes per machine (0: a single one without torchrun), and torchrun's arguments for several machines.

    Raises:
        SystemExit: The options contradict each other; the message is printed.
    """
    mode = options.mode or ("single" if options.nproc_per_node in (None, 1) else "multiple")
    if mode == "single":
        if options.nproc_per_node not in (None, 1):
            parser().error(f"--mode single is one process; --nproc_per_node {options.nproc_per_node} needs multiple")
        return 0, []
    if not options.nproc_per_node:
        parser().error(f"--mode {mode} needs --nproc_per_node, the number of processes (GPUs) per machine")
    if mode == "multiple":
        return options.nproc_per_node, []
    if options.world_size is None or options.rank >= options.world_size:
        parser().error("--mode multi_node needs --world-size (number of nodes) and --rank from 0 to that minus 1")
    nodes = [f"--nnodes={options.world_size}", f"--node_rank={options.rank}"]
    return options.nproc_per_node, [*nodes, f"--master_addr={options.ip}", f"--master_port={options.port}"]


def training_arguments(given: Sequence[str]) -> list[str]:
    """Remove the options of the group "processes" from a command line.

    Args:
        given: The command line of `tracking/train.py`.

    Returns:
        The command line of `lib/train/run_training.py`.
    """
    return _process_parser().parse_known_args(given)[1]


if __name__ == "__main__":
    raise SystemExit(main())
