"""Command-line options that several commands share."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

Parser = argparse.ArgumentParser | argparse._ArgumentGroup


class CommandParser(argparse.ArgumentParser):
    """A parser that keeps the lines of its description, and says how to write what argparse took for something else.

    `no_effect` states the options that a mode of the command does not read; the check is one for all commands.
    """

    def __init__(self, description: str | None, epilog: str | None = None, **options: Any) -> None:
        raw = "\n" in f"{description}{epilog}"  # None with python -OO
        formatter = argparse.RawDescriptionHelpFormatter if raw else argparse.HelpFormatter
        super().__init__(description=description, epilog=epilog, formatter_class=formatter, **options)
        self._no_effects: list[tuple[list[str], Callable[[argparse.Namespace], object], str, bool]] = []

    def no_effect(
        self, options: str, when: Callable[[argparse.Namespace], object], reason: str, warn: bool = False
    ) -> None:
        """State that the command does not read some options in one of its modes; giving one of them there is an error.

        Args:
            options: Their names, separated by blanks.
            when: True in that mode, of the parsed options.
            reason: End of the sentence that begins with "--OPTION has no effect".
            warn: Say so and go on, for options that leave results as they are.
        """
        self._no_effects.append((options.split(), when, reason, warn))

    def parse_args(self, args: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse a command line, and check that what is given on it has an effect."""
        parsed = super().parse_args(args)
        given = self._given(args)
        for options, when, reason, warn in self._no_effects:
            for option in options:
                action = next(a for a in self._actions if option in (a.option_strings or (a.dest,)))
                named = action.dest in given and (action.nargs != 0 or given[action.dest] == action.const)
                if not named or not when(parsed):
                    continue
                if not warn:
                    self.error(f"{option} has no effect {reason}")
                if "TORCHELASTIC_RUN_ID" not in os.environ:  # said before torchrun was started
                    print(f"warning: {option} has no effect {reason}", file=sys.stderr)
        return parsed

    def _given(self, args: Sequence[str] | None) -> dict[str, Any]:
        """The options that stand on a command line, whether or not their values are the defaults."""
        defaults, self._defaults = self._defaults, {}
        kept = [(action, action.default) for action in self._actions]
        try:
            for action, _ in kept:
                action.default = argparse.SUPPRESS
            return vars(super().parse_args(args))
        finally:
            self._defaults = defaults
            for action, default in kept:
                action.default = default

    def error(self, message: str) -> NoReturn:
        """End with the message, and a hint where an option took what was meant for something else, or the reverse."""
        first = " ".join(action.dest for action in self._actions if not action.option_strings)
        if re.search(r"required: (script|source|config|workspace|file)", message):
            message += f"; write {first} in front of options that take several values"
        elif "expected one argument" in message or "expected at least one argument" in message:
            message += "; if the value begins with -, write it behind a =, as in --init=-5,3,20,20"
        elif re.match(r"unrecognized arguments: [-\d.]", message) and "--init" in self._option_string_actions:
            message += "; write the four numbers as one word, --init x,y,w,h"
        elif message.startswith("unrecognized arguments: -") and "--set" in self._option_string_actions:
            message += "; keys of the configuration are set as --set TRAIN.BATCH_SIZE=16 or --set TEST.EPOCH=300"
        super().error(message)


ONE_DEVICE = "--num_gpus", lambda o: o.device.strip().lower() not in ("auto", "cuda"), "with a --device that is named"
"""For `CommandParser.no_effect`, of commands with machine options."""


def add_machine_options(parser: Parser, threads: int = 0) -> None:
    """Add `--threads`, `--num_gpus`, `--batch`, `--device`, `--data_dir` and `--save_dir`.

    Args:
        parser: Receives the options.
        threads: Default of `--threads`.
    """
    add = parser.add_argument
    add("--threads", type=at_least(0), default=threads, help=f"worker processes, 0: in this one (default: {threads})")
    add("--num_gpus", type=at_least(0), default=0, help="GPUs that workers share in turn (default: all)")
    add("--batch", type=at_least(1), default=1, help="sequences at a time in each process (default: 1)")
    add("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    add_folder_options(parser, "where checkpoints are and results go")


def add_folder_options(parser: Parser, save_dir: str) -> None:
    """Add `--data_dir` and `--save_dir`.

    Args:
        parser: Receives the options.
        save_dir: What the second one is.
    """
    parser.add_argument("--data_dir", help="parent of the data set folders (default: local.yaml)")
    parser.add_argument("--save_dir", help=f"{save_dir} (default: local.yaml)")


def protect_source(source: str, option: str, video: Path | None, boxes: Path | None = None) -> None:
    """Check that what is written does not replace the video that is read, or what stands next to it by its name.

    Args:
        source: What is read.
        option: That names the video.
        video: The video that is written; its ending may change, and boxes may be written next to it.
        boxes: Where else they are written.

    Raises:
        ValueError: The video has the source's folder and name, or `boxes` is the source.
    """
    given = Path(source).resolve()
    if video is not None and given.is_file() and video.resolve().with_suffix("") == given.with_suffix(""):
        raise ValueError(f"{option} {video} would replace {source} or files next to it; give it another name")
    if boxes is not None and boxes.resolve() == given:
        raise ValueError(f"--boxes {boxes} would replace {source}; give it another name")


def at_least(least: int) -> Callable[[str], int]:
    """A converter for whole numbers of the command line.

    Args:
        least: Smallest number that is accepted.
    """

    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    read.__name__ = "int"  # argparse: "invalid int value: 'x'"
    return read


def add_engine_options(parser: Parser) -> None:
    """Add `--engine NAME`, `--calibration DATASET` and `--cpu_threads N`.

    Args:
        parser: Receives the options.
    """
    add = parser.add_argument
    text = "torch, onnx, openvino, or in 8 bits onnx-int8, openvino-int8, which need --protocol fast "
    text += "(default: torch; on a CPU the quickest that gives the protocol's boxes, timed once)"
    add("--engine", default="auto", metavar="NAME", help=f"runtime that computes the network: {text}")
    text = "data set, as in DATASETS_NAME of a configuration, for the ranges of 8-bit numbers"
    add("--calibration", default="", metavar="DATASET", help=f"{text} (default: procedural sequences)")
    text = "threads that compute the network on a CPU (default: one for a small network, else all cores)"
    add("--cpu_threads", type=at_least(0), default=0, metavar="N", help=text)


def add_confidence_options(parser: Parser) -> None:
    """Add `--scores KIND` and `--reacquire`.

    Args:
        parser: Receives the options.
    """
    text = "calibrated (default): the expected overlap, where tracking/calibrate.py was run for the weights; or raw"
    parser.add_argument("--scores", choices=["calibrated", "raw"], default="calibrated", help=text)
    text = "look for a lost target in the whole frame; for long-term protocols, needs calibrated scores"
    parser.add_argument("--reacquire", action="store_true", help=text)


def add_degradation_options(parser: Parser) -> None:
    """Add `--drop`, `--drop_rate`, `--drop_fill`, `--corrupt` and `--degradation_seed` for degraded frames.

    Args:
        parser: Receives the options, the arguments of `Degradation.parse`.
    """
    add = parser.add_argument
    text = "leave out this picture of every frame (aux: thermal, depth, events)"
    add("--drop", choices=["rgb", "aux"], help=text)
    text = "leave it out in this share of the frames, the first one not among them (default: 1, in every frame)"
    add("--drop_rate", type=float, default=1.0, metavar="R", help=text)
    text = "replacement for the missing picture: black, or the last picture that was there"
    add("--drop_fill", default="black", choices=["black", "repeat"], help=text)
    text = "noise:0.3 or occlusion:0.4, on rgb, aux or both (default) pictures of every frame but the first"
    add("--corrupt", nargs="+", default=[], metavar="KIND:STRENGTH[:PICTURE]", help=text)
    add("--degradation_seed", type=int, default=0, help="seed of all that is drawn for these options (default: 0)")
