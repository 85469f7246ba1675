"""One process of a training: by itself, or one of those that torchrun starts.

torchrun --nproc_per_node 4 lib/train/run_training.py --script ostrack --config vitb_256_mae_ce_32x4_ep300 --save_dir .
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    # Started as a file, this folder is on the path where the repository root should be.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lib.command import expect_interrupts, prepare_streams

    prepare_streams()
    expect_interrupts()

import torch

from lib import distributed
from lib.command import is_first_to_report, report_interrupt
from lib.data import TooManyBadSamplesError, WorkerError, machine_trouble
from lib.files import sentence
from lib.launch import end_with_parent
from lib.models import WeightsError
from lib.registry import UnknownNameError
from lib.train.checkpoint import CheckpointError, OccupiedError, ResumeError
from lib.train.options import add_training_options, training_options
from lib.train.process import InterruptedTraining
from lib.train.session import open_session, run_to_end
from lib.train.step import TrainingError

WRONG_SETUP = (ValueError, OSError, UnknownNameError, WeightsError, CheckpointError, ResumeError, OccupiedError)
"""Errors of the setup that a user can correct: the message is one sentence. Other errors come with their traceback."""
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""A full, read-only or failing disk."""
LOST_PEER = ("closed by peer", "reset by peer", "broken pipe", "nccl communicator was aborted", "connection refused")
"""Messages of gloo and nccl when another process of the training has ended; that one says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train in this process.

    Args:
        arguments: The command line without the program's name; None reads `sys.argv`.

    Returns:
        Exit code: 0, 130 after Ctrl-C, 143 after SIGTERM, 2 for a wrong setup, 1 when the training failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_training_options(parser)
    # What torch.distributed.launch of published commands passes; the environment says the same.
    parser.add_argument("--local-rank", "--local_rank", help=argparse.SUPPRESS)
    options = training_options(parser.parse_args(arguments))
    if distributed.is_launched():
        end_with_parent()
    try:
        world = distributed.start(options.device)
        trainer = open_session(options, world)
    except KeyboardInterrupt:
        report_interrupt()
        return 130
    except WRONG_SETUP as error:
        if is_first_to_report(str(error)):
            print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        return 2
    try:
        run_to_end(trainer, world)
    except InterruptedTraining as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        end_workers()
        explained = isinstance(error, (TrainingError, TooManyBadSamplesError, WorkerError))
        explained = explained or (isinstance(error, OSError) and error.errno in DISK_TROUBLE)
        reason = machine_trouble(error) or (sentence(error) if explained else traceback.format_exc())
        if world.size > 1 and not explained and any(sign in str(error).lower() for sign in LOST_PEER):
            reason = "another process of this training has ended"
        if is_first_to_report(reason):
            print(f"error: process {world.rank}: {reason}; {trainer.folder.last_good()}", file=sys.stderr, flush=True)
        return 1
    finally:
        end_workers()  # before the loaders go, which would wait for them
    return 0


def end_workers() -> None:
    """End data loading processes at once; PyTorch would wait for what they still read."""
    # PyTorch's handler would raise an error for each of them.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        child.kill()


def leave(code: int) -> NoReturn:
    """End this process; after a failure among several, without closing connections that others still wait at.

    Args:
        code: Exit code.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    if code and torch.distributed.is_initialized():
        shutil.rmtree(get_temp_dir(), ignore_errors=True)  # which only other exits clear
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
