"""One process of a training: by itself, or one of those that torchrun starts.

torchrun --nproc_per_node 4 lib/train/run_training.py --script ostrack --config vitb_256_mae_ce_32x4_ep300 --save_dir .
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started as a file, this folder is on the path where the repository root should be.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from lib import distributed
from lib.data import WORKER_DIED, TooManyBadSamplesError, WorkerError, is_worker_death
from lib.distributed import World
from lib.launch import end_with_parent
from lib.models import WeightsError
from lib.registry import UnknownNameError
from lib.train.checkpoint import CheckpointError, OccupiedError, ResumeError
from lib.train.launch import add_training_options, training_options
from lib.train.loop import Trainer
from lib.train.process import InterruptedTraining
from lib.train.session import open_session
from lib.train.step import TrainingError

WRONG_SETUP = (
    ValueError, OSError, UnknownNameError, WeightsError, CheckpointError, ResumeError, OccupiedError,
)  # fmt: skip
"""Errors of the setup that a user can correct: the message is one sentence. Other errors come with their traceback."""
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""A full, read-only or failing disk."""


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
        return 130
    except WRONG_SETUP as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run(trainer, world)


def run(trainer: Trainer, world: World) -> int:
    """Train to the last epoch and report the end in the log.

    Args:
        trainer: At its position, with an open log.
        world: This process among all.

    Returns:
        The exit code of `main`.
    """
    try:
        trainer.run()
    except InterruptedTraining as stopped:
        trainer.log.write(f"{stopped}: run the same command again")
        code = stopped.exit_code
    except KeyboardInterrupt:
        trainer.log.write(f"stopped at once; {trainer.folder.last_good()}")
        return 130
    except Exception as error:
        explained = isinstance(error, (TrainingError, TooManyBadSamplesError, WorkerError))
        if explained or (isinstance(error, OSError) and error.errno in DISK_TROUBLE):
            reason = str(error)
        else:
            reason = f"{WORKER_DIED} ({error})" if is_worker_death(error) else traceback.format_exc()
        # The log belongs to the first process; the others print.
        print(f"error: process {world.rank}: {reason}", file=sys.stderr, flush=True)
        trainer.log.write(f"training failed ({type(error).__name__}); {trainer.folder.last_good()}")
        trainer.log.close()
        return 1
    else:
        trainer.log.write(f"training is complete: {trainer.folder.newest_weights()}")
        code = 0
    trainer.log.close()
    distributed.stop(world)
    return code


def leave(code: int) -> None:
    """End this process; after a failure among several, without closing connections that others still wait at.

    Args:
        code: Exit code.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if code and torch.distributed.is_initialized():
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
