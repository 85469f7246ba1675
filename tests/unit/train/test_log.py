"""What the log says, and that it stays readable for machines."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from lib.train import (
    LinesSink,
    LogPaths,
    MetricAverager,
    Position,
    Report,
    TerminalSink,
    TextSink,
    Trainer,
    TrainLog,
    WandbSink,
    duration,
)
from tests.unit.train.toy import TRAIN, toy_trainer


def report(**changes: object) -> Report:
    values: dict[str, object] = {
        "loader": "train",
        "kind": "step",
        "epoch": 2,
        "epochs": 300,
        "step": 50,
        "steps": 468,
        "terms": {"Loss/total": 1.25},
        "eta_epoch": 65.0,
        "eta": 90061.0,
        "lr": [4e-4, 4e-5],
        "data_share": 0.25,
    }
    return Report(**{**values, **changes})  # type: ignore[arg-type]


def test_a_line_says_what_a_person_wants_to_know() -> None:
    line = report(bad_samples=3, grad_norm=0.5).line()
    for part in ("epoch 2/300", "step 50/468", "0:01:05", "1 d 1:01:01", "data 25%", "0.0004 4e-05", "total 1.25"):
        assert part in line
    assert "3 broken samples" in line
    assert "broken" not in report().line()


def test_nan_does_not_break_the_json_lines(tmp_path: Path) -> None:
    sink = LinesSink(tmp_path / "x.jsonl", Position())
    sink.write(report(terms={"Loss/total": math.nan, "IoU": 0.5}))
    sink.close()
    assert json.loads((tmp_path / "x.jsonl").read_text())["terms"] == {"Loss/total": None, "IoU": 0.5}


def test_a_resumed_training_goes_on_with_its_run_at_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    class Run:
        def __init__(self, id: str = "abc123", **settings: object) -> None:
            self.id, self.values = id, []
            begun.append({"id": id, **settings})

        define_metric = finish = Mock()

        def log(self, values: dict[str, object]) -> None:
            self.values.append(values)

    monkeypatch.setitem(sys.modules, "wandb", Mock(init=Run))
    paths = LogPaths.of(tmp_path, "ostrack", "small")
    WandbSink("ostrack-small", {"SEED": 1}, paths).close()
    sink = WandbSink("ostrack-small", {"SEED": 1}, paths)
    sink.write("a sentence is no curve")
    sink.write(report())
    assert [(run["id"], run.get("resume"), run["dir"]) for run in begun] == [
        ("abc123", None, str(tmp_path / "logs")),
        ("abc123", "allow", str(tmp_path / "logs")),
    ]
    (values,) = sink._run.values
    assert (values["train/Loss/total"], values["LearningRate/group1"], values["epoch"]) == (1.25, 4e-5, 2)
    paths.set_aside()
    WandbSink("ostrack-small", {}, paths)
    assert "resume" not in begun[-1]


def test_files_lie_where_ostrack_users_look(tmp_path: Path) -> None:
    paths = LogPaths.of(tmp_path, "ostrack", "small")
    assert paths.text == tmp_path / "logs" / "ostrack-small.log"
    assert paths.lines == tmp_path / "logs" / "ostrack-small.jsonl"
    assert paths.tensorboard == tmp_path / "tensorboard" / "train" / "ostrack" / "small"


@pytest.mark.parametrize("trouble", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.EIO, "I/O error")])
def test_a_training_goes_on_without_its_terminal(
    tmp_path: Path, trouble: OSError, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Closed(io.TextIOWrapper):
        def write(self, text: str) -> int:
            raise trouble

    stream = Closed((tmp_path / "terminal").open("wb"))
    monkeypatch.setattr(sys, "stdout", stream)
    log = TrainLog([TerminalSink(), TextSink(tmp_path / "x.log")])
    for line in ("one", "two"):
        log.write(line)
    stream.flush()  # as at exit
    log.close()
    assert [line.split()[-1] for line in (tmp_path / "x.log").read_text().splitlines()] == ["one", "two"]
    assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))


def test_means_are_weighted_and_add_up_over_processes() -> None:
    a, b = MetricAverager(), MetricAverager()
    a.add({"x": 1.0, "only": 2.0}, 3)
    b.add({"x": 5.0}, 1)
    assert MetricAverager([a.state(), b.state()]).means() == {"x": 2.0, "only": 2.0}


def test_waiting_for_data_is_warned_of_once_an_epoch(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    trainer: Trainer = toy_trainer(tmp_path, TRAIN, log=TrainLog([TextSink(log)]))
    for share, epoch, seconds in ((0.6, 2, 1.0), (0.5, 2, 60.0), (0.5, 2, 90.0), (0.1, 3, 60.0)):
        trainer._warn_of_waiting(report(data_share=share, epoch=epoch, seconds=seconds))
    printed = log.read_text()
    assert printed.count("of the time is spent waiting for data") == 1
    assert "50%" in printed


def test_duration() -> None:
    assert duration(3723.4) == "1:02:03"
