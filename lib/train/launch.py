"""Command line of a training, and the processes that it starts: this one, or several by torchrun. Needs no torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.config import add_experiment_options
from lib.launch import meet_at, run_under_torchrun

RUN_TRAINING = Path(__file__).with_name("run_training.py")


@dataclass(frozen=True)
class TrainOptions:
    """Options of one training; the help texts of `add_training_options` describe them."""

    script: str
    config: str = "baseline"
    save_dir: Path | None = None
    data_dir: Path | None = None
    use_lmdb: bool = False
    use_wandb: bool = False
    resume: str = "auto"
    allow_config_change: bool = False
    load: str | Path | None = None
    script_prv: str | None = None
    config_prv: str = "baseline"
    distill: bool = False
    script_teacher: str | None = None
    config_teacher: str | None = None
    seed: int | None = None
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    plugins: tuple[str, ...] = ()

    @property
    def all_overrides(self) -> list[str]:
        """``KEY=VALUE`` of every `--set`, and of the options that stand for a key of the configuration."""
        keys = {"TRAIN.SEED": self.seed, "TEACHER.SCRIPT": self.script_teacher, "TEACHER.CONFIG": self.config_teacher}
        return [*self.overrides, *(f"{key}={value}" for key, value in keys.items() if value is not None)]


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `lib/train/run_training.py` and `tracking/train.py` share.

    Args:
        parser: Gets the options in groups.
    """
    what = parser.add_argument_group("what to train")
    what.add_argument("--script", required=True, help="method: the folder in experiments/, such as ostrack")
    what.add_argument("--config", default="baseline", help="experiments/<script>/<config>.yaml, without suffix")
    add_experiment_options(what)
    what.add_argument("--seed", type=int, help="in place of TRAIN.SEED (42); process r uses seed + r")
    where = parser.add_argument_group("where")
    where.add_argument("--save_dir", type=Path, help="checkpoints and logs (default: save_dir of local.yaml, ./output)")
    where.add_argument("--data_dir", type=Path, help="parent of the data set folders (default: local.yaml, ./data)")
    where.add_argument("--use_lmdb", type=_flag, default=False, metavar="0|1", help="read data sets from LMDB stores")
    where.add_argument("--use_wandb", type=_flag, default=False, metavar="0|1", help="log to Weights & Biases as well")
    where.add_argument("--device", default="auto", help="auto (a GPU when there is one), cpu, cuda, cuda:1, mps")
    start = parser.add_argument_group("where to start")
    text = "auto: go on from the newest state of this experiment, if there is one; never: begin from scratch "
    text += "(earlier files are moved aside); must: an error when there is nothing to go on from"
    start.add_argument("--resume", choices=("auto", "never", "must"), default="auto", help=text)
    text = "resume although the configuration is not what it was"
    start.add_argument("--allow_config_change", action="store_true", help=text)
    start.add_argument(
        "--load", metavar="FILE", help="start from these weights (ours, a *.pth.tar, or hf://OWNER/NAME)"
    )
    start.add_argument("--script_prv", help="start from the last checkpoint of another experiment: its script ...")
    start.add_argument("--config_prv", default="baseline", help="... and its configuration")
    teacher = parser.add_argument_group("teacher (any method with a one-stream network)")
    teacher.add_argument("--distill", type=_flag, default=False, metavar="0|1", help="1: an error without a teacher")
    teacher.add_argument("--script_teacher", help="in place of TEACHER.SCRIPT: the teacher's script ...")
    teacher.add_argument("--config_teacher", help="... and in place of TEACHER.CONFIG: its configuration")


def training_options(arguments: argparse.Namespace) -> TrainOptions:
    """Options of a training from parsed arguments.

    Args:
        arguments: Of a parser with `add_training_options`; other arguments are ignored.
    """
    values = {k: v for k, v in vars(arguments).items() if k in TrainOptions.__dataclass_fields__}
    values["overrides"], values["plugins"] = tuple(arguments.overrides), tuple(arguments.plugins)
    return TrainOptions(**values)


def _flag(text: str) -> bool:
    """Parse ``0`` or ``1``, the published commands' switches."""
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"expected 0 or 1, not {text!r}")
    return text == "1"


def _process_parser() -> argparse.ArgumentParser:
    """Parser of the options that decide on processes."""
    built = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    start = built.add_argument_group("processes")
    text = "single: one process (the default); multiple: --nproc_per_node processes on this machine (the default "
    text += "when that is given); multi_node: the same on every node, run this command on each with its --rank"
    start.add_argument("--mode", choices=("single", "multiple", "multi_node"), help=text)
    start.add_argument("--nproc_per_node", type=int, help="processes per machine, one per GPU")
    start.add_argument("--rank", type=int, default=0, help="multi_node: number of this node, from 0")
    start.add_argument("--world-size", "--world_size", dest="world_size", type=int, help="multi_node: number of nodes")
    start.add_argument("--ip", default="127.0.0.1", help="multi_node: address of node 0")
    start.add_argument("--port", type=int, default=20000, help="multi_node: free port of node 0")
    return built


def parser() -> argparse.ArgumentParser:
    """Build the parser of `tracking/train.py`."""
    text = "Train a tracker. Interrupt with Ctrl-C; the same command goes on where it stopped."
    built = argparse.ArgumentParser(description=text, parents=[_process_parser()], allow_abbrev=False)
    add_training_options(built)
    return built


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a training in one process or in several.

    Args:
        arguments: The command line without the program's name; None reads `sys.argv`.

    Returns:
        Exit code of the training (130 after Ctrl-C, 143 after SIGTERM); a single process takes the place of this one.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    processes, nodes = processes_and_nodes(parser().parse_args(given))
    passed_on = training_arguments(given)
    if not processes:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, str(RUN_TRAINING), *passed_on])
    return run_under_torchrun(RUN_TRAINING, passed_on, processes, nodes)


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
    if not options.nproc_per_node or options.nproc_per_node < 1:
        parser().error(f"--mode {mode} needs --nproc_per_node, the number of processes (GPUs) per machine")
    if mode == "multiple":
        return options.nproc_per_node, []
    if options.world_size is None or not 0 <= options.rank < options.world_size:
        parser().error("--mode multi_node needs --world-size (number of nodes) and --rank from 0 to that minus 1")
    return options.nproc_per_node, meet_at(options.ip, options.port, options.world_size, options.rank)


def training_arguments(given: Sequence[str]) -> list[str]:
    """Remove the options of the group "processes" from a command line.

    Args:
        given: The command line of `tracking/train.py`.

    Returns:
        The command line of `lib/train/run_training.py`.
    """
    return _process_parser().parse_known_args(given)[1]
