"""Options of a training, and their command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from lib.config import ConfigError, add_experiment_options

RESUME = ("auto", "never", "must")


@dataclass(frozen=True)
class TrainOptions:
    """Options of one training; the help texts of `add_training_options` describe them.

    Raises:
        ConfigError: `resume` is another word.
    """

    script: str
    config: str
    save_dir: Path | None = None
    data_dir: Path | None = None
    use_lmdb: bool = False
    use_wandb: bool = False
    resume: str = "auto"
    allow_config_change: bool = False
    load: str | Path | None = None
    script_prv: str | None = None
    config_prv: str | None = None
    distill: bool = False
    script_teacher: str | None = None
    config_teacher: str | None = None
    seed: int | None = None
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.resume not in RESUME:
            raise ConfigError(f"resume {self.resume!r} is unknown; expected {', '.join(RESUME)}")

    @property
    def previous(self) -> tuple[str, str] | None:
        """Script and configuration of `--script_prv` and `--config_prv`."""
        if self.script_prv and self.config_prv:
            if self.load is not None:
                raise ConfigError("--load and --script_prv both name weights to begin with; leave one of them out")
            return self.script_prv, self.config_prv
        if self.script_prv or self.config_prv:
            raise ConfigError("--script_prv and --config_prv belong together: the script and the configuration")
        return None

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
    what.add_argument("--config", required=True, help="experiments/<script>/<config>.yaml, without suffix")
    add_experiment_options(what)
    what.add_argument("--seed", type=int, help="in place of TRAIN.SEED (42); process r uses seed + r")
    where = parser.add_argument_group("where")
    where.add_argument("--save_dir", type=Path, help="checkpoints and logs (default: save_dir of local.yaml, ./output)")
    where.add_argument("--data_dir", type=Path, help="parent of the data set folders (default: local.yaml, ./data)")
    where.add_argument("--use_lmdb", type=_flag, default=False, metavar="0|1", help="read data sets from LMDB stores")
    where.add_argument("--use_wandb", type=_flag, default=False, metavar="0|1", help="log to Weights & Biases as well")
    where.add_argument("--device", default="auto", help="auto (a GPU when there is one), cpu, cuda, cuda:1, mps")
    start = parser.add_argument_group("where to start")
    text = "auto: go on from the newest state of this experiment, if there is one; never: start from scratch "
    text += "(earlier files are moved aside); must: an error when there is nothing to go on from"
    start.add_argument("--resume", choices=RESUME, default="auto", help=text)
    text = "resume although the configuration is not what it was"
    start.add_argument("--allow_config_change", action="store_true", help=text)
    start.add_argument(
        "--load", metavar="FILE", help="start from these weights (ours, a *.pth.tar, or hf://OWNER/NAME)"
    )
    start.add_argument("--script_prv", help="start from the last checkpoint of another experiment: its script ...")
    start.add_argument("--config_prv", help="... and its configuration")
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
