"""The project's commands, as benchmarks give them: forks of the benchmark, which has the libraries loaded."""

from __future__ import annotations

import math
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from subprocess import CalledProcessError, TimeoutExpired

from lib.methods import load_experiment
from lib.paths import checkpoint_folder

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # to look for GPUs otherwise keeps forks from using them
for _name in ("lib.bench", "lib.train", "torch._dynamo", "torch.utils.tensorboard"):
    with suppress(ImportError):  # TensorBoard need not be there
        import_module(_name)  # what every command would otherwise import for itself, in eight seconds


def run(*command: str, log: Path | None = None, deadline: float = math.inf) -> None:
    """One command.

    Args:
        command: Python file and its command line.
        log: File that its output is added to; None: only errors are shown.
        deadline: Time of `time.monotonic` at which it is ended in good order.

    Raises:
        CalledProcessError: It failed.
        TimeoutExpired: It was ended, or not begun, because of the deadline.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutExpired(command, 0)
    print("$ python", *command, flush=True)
    child = multiprocessing.get_context("fork").Process(target=_become, args=(command, log))
    child.start()
    child.join(None if math.isinf(left) else left)
    if child.is_alive():
        child.terminate()
        child.join()
        raise TimeoutExpired(command, left)
    if child.exitcode:
        raise CalledProcessError(child.exitcode, command)


def _become(command: Sequence[str], log: Path | None) -> None:
    """Turn this process into the command."""
    out = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2) if log else (1,):
        os.dup2(out, stream)
    sys.argv, sys.orig_argv = list(command), [sys.executable, *command]
    sys.path[0] = str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")


def trained(
    script: str, config: str, seed: int, save_dir: Path, *more: str, settings: Sequence[str] = (),
    log: Path | None = None, deadline: float = math.inf,
) -> Path:  # fmt: skip
    """Where the last epoch of a training leaves its weights; trains where they are not there yet.

    more: options; settings: KEY=VALUE for --set, which do not change the number of epochs; log, deadline: of `run`.
    """
    experiment = load_experiment(script, config)
    last = f"{experiment.method.network_name}_ep{experiment.config.train.epoch:04d}.safetensors"
    weights = checkpoint_folder(save_dir, script, config) / last
    if not weights.is_file():
        names = ("--script", script, "--config", config, "--save_dir", str(save_dir))
        sets = ("--set", f"TRAIN.SEED={seed}", *settings)
        run("lib/train/run_training.py", *names, *more, *sets, log=log, deadline=deadline)
    return weights
