"""Shared by the end-to-end tests: the user's commands, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.support import Run
from tests.support.commands import run_python


@pytest.fixture(scope="session")
def command() -> Run:
    """Run a script of the repository; fails with its output unless the exit code is the expected one."""

    def run(*arguments: object, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = run_python(arguments, {**os.environ, "OMP_NUM_THREADS": "1", **environment})
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory, command: Run) -> Path:
    """A data folder with a small synthetic benchmark: four training and three test sequences."""
    root = tmp_path_factory.mktemp("data")
    common = ("--width", 160, "--height", 120, "--seed", 3, "--workers", 1)
    make = "tracking/make_synthetic_data.py"
    command(make, "--output", root / "synthetic/train", "--split", "train", "--sequences", 4, "--frames", 24, *common)
    command(make, "--output", root / "synthetic/test", "--split", "test", "--sequences", 3, "--frames", 10, *common)
    return root
