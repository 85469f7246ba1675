"""torchrun, ending as a user expects: without its own traceback, with the exit code of the process that failed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

if __name__ == "__main__":
    # Started as a file, this folder is on the path where the repository root should be.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from lib.train.ownership import end_with_parent

CHATTER = ("torch.distributed.elastic.agent.server.api", "torch.distributed.elastic.multiprocessing.api")
"""Loggers that tell of every signal passed on; what a user needs to know is said by the processes and below."""


def main() -> int:
    """Run torchrun with the arguments of the command line; its processes' exit code, 128 + n for signal n."""
    end_with_parent()
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        torchrun()
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        code = failure.exitcode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        print(f"process {rank} {how}", file=sys.stderr)
        return 128 - code if code < 0 else code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
