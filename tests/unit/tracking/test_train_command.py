"""The command that starts a training: which processes it starts, what it passes on."""

from __future__ import annotations

import pytest

from tests.support.commands import import_command

command = import_command("train")


def launcher(*arguments: str) -> tuple[int, list[str]]:
    return command.processes_and_nodes(
        command.parser().parse_args(["--script", "ostrack", "--config", "x", *arguments])
    )


def test_single_needs_no_launcher() -> None:
    assert launcher("--mode", "single") == launcher() == (0, [])


@pytest.mark.parametrize("mode", [["--mode", "multiple"], []])
def test_multiple_is_this_machine(mode: list[str]) -> None:
    assert launcher(*mode, "--nproc_per_node", "4") == (4, [])


def test_multi_node_names_the_meeting_point() -> None:
    processes, nodes = launcher(
        "--mode", "multi_node", "--nproc_per_node", "4", "--rank", "1", "--world-size", "2", "--ip", "n0", "--port", "7"
    )
    assert processes == 4
    assert {"--nnodes=2", "--node_rank=1", "--master_addr=n0", "--master_port=7"} == set(nodes)


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
    assert command.training_arguments(given) == ["--script", "a", "--set", "TRAIN.LR=1"]
