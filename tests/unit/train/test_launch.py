"""The user's command: which processes it starts, what it passes on, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.train import parser, run_and_forward, torchrun_arguments, training_arguments

ROOT = Path(__file__).resolve().parents[3]


def launcher(*arguments: str) -> list[str]:
    return torchrun_arguments(parser().parse_args(["--script", "ostrack", *arguments]))


def test_single_needs_no_launcher() -> None:
    assert launcher("--mode", "single") == launcher() == []


@pytest.mark.parametrize("mode", [["--mode", "multiple"], []])
def test_multiple_is_standalone_torchrun(mode: list[str]) -> None:
    command = launcher(*mode, "--nproc_per_node", "4")
    assert command[0].endswith("torchrun.py")
    assert {"--standalone", "--nproc_per_node=4"} <= set(command)


def test_multi_node_names_the_meeting_point() -> None:
    command = launcher(
        "--mode", "multi_node", "--nproc_per_node", "4", "--rank", "1", "--world-size", "2", "--ip", "n0", "--port", "7"
    )
    expected = {"--nnodes=2", "--node_rank=1", "--master_addr=n0", "--master_port=7", "--nproc_per_node=4"}
    assert expected <= set(command)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--mode", "multiple"],
        ["--mode", "single", "--nproc_per_node", "2"],
        ["--mode", "multi_node", "--nproc_per_node", "2"],
        ["--mode", "multi_node", "--nproc_per_node", "2", "--world-size", "2", "--rank", "2"],
    ],
)
def test_modes_that_cannot_be_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        launcher(*wrong)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_training_gets_its_own_arguments_only() -> None:
    given = ["--script", "a", "--mode", "multiple", "--nproc_per_node=4", "--set", "TRAIN.LR=1", "--world-size", "2"]
    assert training_arguments(given) == ["--script", "a", "--set", "TRAIN.LR=1"]


def test_exit_code_is_passed_on() -> None:
    assert run_and_forward([sys.executable, "-S", "-c", "raise SystemExit(7)"], dict(os.environ)) == 7


def test_ctrl_c_reaches_the_processes_once() -> None:
    child = (
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "time.sleep(1.0); time.sleep(0.3)\n"
        "print(len(seen), flush=True); sys.exit(1)\n"
    )
    program = (
        "import os, sys\n"
        "from lib.train.launch import run_and_forward\n"
        f"sys.exit(run_and_forward([sys.executable, '-S', '-c', {child!r}], dict(os.environ)))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "1\n"
    assert process.wait() == 130
