"""The project's commands, as benchmarks give them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.methods import load_experiment
from lib.paths import checkpoint_folder


def run(*command: str) -> None:
    """One command. Raises CalledProcessError."""
    print("$ python", *command, flush=True)
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def trained(script: str, config: str, seed: int, save_dir: Path, *more: str, settings: Sequence[str] = ()) -> Path:
    """Where the last epoch of a training leaves its weights; trains where they are not there yet.

    more: options; settings: KEY=VALUE for --set, which do not change the number of epochs.
    """
    experiment = load_experiment(script, config)
    last = f"{experiment.method.network_name}_ep{experiment.config.train.epoch:04d}.safetensors"
    weights = checkpoint_folder(save_dir, script, config) / last
    if not weights.is_file():
        names = ("--script", script, "--config", config, "--save_dir", str(save_dir), "--mode", "single")
        run("tracking/train.py", *names, *more, "--set", f"TRAIN.SEED={seed}", *settings)
    return weights
