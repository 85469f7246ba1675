"""The trials against the VOT toolkit (`vot_toolkit_trials.py`), in a process of their own.

The toolkit computes overlaps by numba, whose thread pool and OpenVINO's do not survive a fork in one process.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("vot") is None, reason="the VOT toolkit is not installed (bash install.sh)"
)
def test_metrics_agree_with_the_toolkit_on_random_trajectories() -> None:
    trials = Path(__file__).with_name("vot_toolkit_trials.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(trials)],
        cwd=trials.parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
