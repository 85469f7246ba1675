"""The project's commands, each in a process of its own that begins with its libraries loaded.

A new interpreter needs five seconds of a core to import PyTorch and the library. Here one process imports them once and
forks for every command; the fork gets the command's arguments, environment and folder, and ends as the command does.
Processes that the command starts by torchrun are forks as well.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]
PRELOADED = (
    "lib.bench", "lib.deploy", "lib.methods", "lib.train", "lib.viz", "lib.command", "synthetic", "torch._dynamo",
    "torch.utils.tensorboard",
)  # fmt: skip
"""The last two take three seconds where a training first needs them."""


def import_command(name: str) -> ModuleType:
    """A command of `tracking/` as a module: its `main` takes a command line in this process, which costs no start."""
    if (folder := str(REPOSITORY / "tracking")) not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(f"tracking.{name}")


def run_python(
    arguments: Sequence[object],
    environment: Mapping[str, str] | None = None,
    cwd: Path = REPOSITORY,
    timeout: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """Run a Python file of the project, with its output captured.

    Args:
        arguments: File and command line.
        environment: All of its variables; None: those of this process, with one thread.
        cwd: Folder that it is run in.
        timeout: Seconds; the command is ended by SIGALRM then.

    Returns:
        As of `subprocess.run`.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        start_python(arguments, environment, cwd, timeout, out, err)
        return subprocess.CompletedProcess([*map(str, arguments)], exit_code(), out.read_text(), err.read_text())


def start_python(
    arguments: Sequence[object],
    environment: Mapping[str, str] | None = None,
    cwd: Path = REPOSITORY,
    timeout: float = 300.0,
    out: str | Path = os.devnull,
    err: str | Path = os.devnull,
) -> int:
    """Start a Python file of the project; `exit_code` waits for it. Its process leads a group of this number."""
    file, *line = map(str, arguments)
    request = {
        "arguments": [str(REPOSITORY / file), *line],
        "environment": dict(environment or {**os.environ, "OMP_NUM_THREADS": "1"}),
        "cwd": str(cwd),
        "files": [os.devnull, str(out), str(err)],
        "timeout": timeout,
    }
    stream = forks().stdin
    assert stream is not None
    stream.write(json.dumps(request) + "\n")
    stream.flush()
    return answered()


def run_and_kill(arguments: Sequence[object], until: Callable[[], object], patience: float = 100.0) -> None:
    """Start a Python file of the project; SIGKILL it and its children when `until` says something."""
    group = start_python(arguments)
    limit = time.monotonic() + patience
    try:
        while not until():
            assert time.monotonic() < limit, "what the command should be killed at did not come"
            time.sleep(0.005)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        assert exit_code() == -signal.SIGKILL, "the command ended before it was killed"


def exit_code() -> int:
    """Wait for the command that was started last; -n: it was ended by signal n."""
    return answered()


def answered() -> int:
    stream = forks().stdout
    assert stream is not None
    answer = stream.readline()
    assert answer, "the process that starts commands has ended"
    return int(answer)


@cache
def forks() -> subprocess.Popen[str]:
    """The process that forks; it ends with this one."""
    return subprocess.Popen(
        [sys.executable, __file__],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def serve(requests: IO[str], answers: IO[str]) -> dict[str, Any] | None:
    """Fork for each request, answer with its process and then its exit code; returns the request in the fork."""
    for line in requests:
        child = os.fork()
        if not child:
            return dict(json.loads(line))
        print(child, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    return None


def become(request: dict[str, Any]) -> NoReturn:
    """Turn this fork into the command, and end with its exit code."""
    os.setsid()
    for target, file in enumerate(request["files"]):
        opened = os.open(file, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, target)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    signal.alarm(round(request["timeout"]))
    subprocess.Popen.__init__ = open_process  # type: ignore[method-assign]
    run_and_leave(request["arguments"])


def run_and_leave(arguments: list[str]) -> NoReturn:
    code: Any = 1
    try:
        run_file(arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        print(end.code if isinstance(end.code, str) else "", end="", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    leave(code)


def leave(code: int) -> NoReturn:
    """End in good order, but without taking the loaded libraries apart, which takes a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


open_any_process = subprocess.Popen.__init__


def open_process(process: subprocess.Popen[Any], args: Any, **options: Any) -> None:
    """Stands in for `subprocess.Popen`: Python files of the project, as torchrun starts them, run in forks too."""
    words = [word for word in map(str, args) if word != "-u"]
    known = options.keys() <= {"env", "start_new_session", "stdout", "stderr"}
    if not (known and words[0] == sys.executable and Path(words[1]).is_relative_to(REPOSITORY)):
        return open_any_process(process, args, **options)
    process.args, process.returncode, process.pid = args, None, os.fork()
    process.stdin = process.stdout = process.stderr = None
    vars(process).update(_child_created=True, _waitpid_lock=threading.Lock(), _sigint_wait_secs=0.25)
    if process.pid:
        return None
    if options.get("start_new_session"):
        os.setsid()
    for target, name in enumerate(("stdout", "stderr"), 1):
        if options.get(name) is not None:
            os.dup2(options[name].fileno(), target)
    os.environ.clear()
    os.environ.update(options["env"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    atexit._clear()
    run_and_leave(words[1:])


def run_file(arguments: list[str]) -> None:
    sys.argv, sys.orig_argv = arguments, [sys.executable, *arguments]
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(REPOSITORY)
    for name in PRELOADED:
        __import__(name)
    gc.freeze()  # so that forks share what is loaded
    asked = serve(sys.stdin, os.fdopen(os.dup(1), "w"))
    if asked is not None:
        become(asked)
