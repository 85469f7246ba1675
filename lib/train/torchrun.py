"""torchrun, ending as a user expects: without its own traceback, with the exit code of the process that failed."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules are nobody's top-level modules

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun


def main() -> int:
    """Run torchrun with the arguments of the command line; its processes' exit code, 128 + n for signal n."""
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
