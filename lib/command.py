"""End of a command: exit code, errors in one sentence, and restarts of processes that torchrun has started."""

from __future__ import annotations

import atexit
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import TextIOWrapper
from types import FrameType
from typing import Any, TextIO

from lib.files import sentence

RESTARTS, EXIT_REASON = "TRACKING_WORKER_RESTARTS", "TRACKING_WORKER_EXIT_REASON"
"""Environment of a child of `run_in_child`: number of children before it, and why the last of them ended."""


def run_command(run: Callable[[], int | None], debug: bool = False, interrupted: str = "stopped") -> int:
    """Run a command and turn what it raises into a message on stderr.

    Args:
        run: The command; returns its exit code, None for 0.
        debug: Let exceptions through.
        interrupted: Message after Ctrl-C.

    Returns:
        Exit code: that of `run`, 2 for an error, 130 after Ctrl-C, 141 where `| head` reads no further.
    """
    prepare_streams()
    code = run_in_child()
    if code is not None:
        return code
    try:
        return run() or 0
    except KeyboardInterrupt:
        report_interrupt(interrupted)
        return 130
    except (ValueError, OSError, RuntimeError, LookupError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):
            return 141
        if debug:
            raise
        if is_first_to_report(str(error)):
            print(f"error: {sentence(error)}", file=sys.stderr)
        return 2


def _is_closed(stream: TextIO) -> bool:
    """True if nobody reads a stream any more; what it still holds goes to the null device, without an error at exit."""
    try:
        print(file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def report_interrupt(message: str = "stopped") -> None:
    """Say after Ctrl-C, in the first process, that it was heard.

    Args:
        message: Of the command.
    """
    if os.environ.get("RANK", "0") == "0":
        print(f"\n{message}", file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Print what the encoding of a terminal lacks, such as letters of file names, as escapes in place of an error.

    Streams that are closed (`2>&-`, a daemon) get the null device; files would be opened under their numbers else.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def expect_interrupts() -> None:
    """Report Ctrl-C in one line, also outside `run_command`; during an import it ends the process at once.

    Libraries catch a KeyboardInterrupt during their imports, and continue with a half-imported module.
    """

    def interrupt(_signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                report_interrupt()
                sys.stdout.flush()
                atexit._run_exitfuncs()  # temporary folders and child processes are cleared here
                os._exit(130)
            frame = frame.f_back
        raise KeyboardInterrupt

    def report(kind: type[BaseException], *error: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            report_interrupt()
        else:
            sys.__excepthook__(kind, *error)

    sys.excepthook = report
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def is_first_to_report(message: str) -> bool:
    """True in the first of torchrun's processes that has this message; the others need not repeat it.

    Args:
        message: An error that may come up in every process.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" not in environment or int(environment.get("WORLD_SIZE", "1")) < 2:
        return True
    from torch.distributed import TCPStore

    try:
        address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"reported/{hashlib.sha256(message.encode()).hexdigest()}", 1) == 1
    except (RuntimeError, KeyError):
        return True  # better twice than never


def run_in_child() -> int | None:
    """In a process that torchrun has started: run this command in a child, again whenever a signal kills it.

    torchrun ends all processes as soon as one of them dies. This one survives its child's death (kill -9, a crash in a
    driver), and the next child continues.

    Returns:
        The child's exit code; None in the child, and without torchrun, where the caller has to do the work.
    """
    if RESTARTS in os.environ or "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    # torchrun signals the whole process group; this process has to wait for its child's exit code.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)
    restarts, reason = 0, ""
    while True:
        environment = {**os.environ, RESTARTS: str(restarts), EXIT_REASON: reason}
        code = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment).wait()
        if code >= 0 or -code in (signal.SIGINT, signal.SIGTERM):
            return code if code >= 0 else 128 - code
        restarts, reason = restarts + 1, f"killed by {signal.Signals(-code).name}"
