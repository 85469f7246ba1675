"""Options of the commands."""

from __future__ import annotations

import argparse

import pytest

from lib.bench import TrackerSpec, Way, WayTiming
from lib.config import ConfigError
from lib.train import TrainOptions
from tests.support.commands import import_command
from tracking._options import add_machine_options


def test_numbers_that_cannot_be_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_machine_options(parser, threads=4)
    assert parser.parse_args([]).threads == 4
    assert parser.parse_args(["--threads", "0", "--batch", "3"]).batch == 3
    for words, message in (
        (["--batch", "0"], "argument --batch: 0 is less than 1"),
        (["--threads", "-1"], "argument --threads: -1 is less than 0"),
        (["--batch", "x"], "argument --batch: invalid int value: 'x'"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test", ["--runid", "-1"]),
        ("check_data", ["--threads", "0"]),
        ("build_lmdb", ["--threads", "0"]),
        ("demo", ["clip.mp4", "--max_frames", "0"]),
        ("profile_model", ["--batch", "0"]),
        ("vot_workspace", ["folder", "--timeout", "0"]),
        ("vot_workspace", ["folder", "--runid", "-1"]),
        ("make_synthetic_data", ["--frames", "0"]),
    ],
)
def test_every_command_refuses_such_numbers(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        import_command(name).parse(words)
    option, value = words[-2:]
    assert f"argument {option}" in (err := capsys.readouterr().err)
    assert value in err


@pytest.mark.parametrize("words", [["--engine", "onnx"], ["--protocol", "fast"], ["--device", "cpu"], ["--aux"]])
def test_options_without_an_effect_on_the_table_of_ways_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = import_command("profile_model")
    with pytest.raises(SystemExit):
        command.parse(["--config", "synthetic_small", "--ways", *words])
    assert f"{words[0]} is not for --ways" in capsys.readouterr().err


def test_the_table_of_ways_takes_random_weights_where_there_are_no_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(spec: TrackerSpec, *_: object, **__: object) -> list[WayTiming]:
        assert spec.untrained
        return [WayTiming(Way(), seconds=0.01)]

    monkeypatch.setattr("lib.bench.measure_ways", measured)
    command, names = import_command("profile_model"), ["--script", "sdstrack", "--config", "cvpr2024_rgbt", "--ways"]
    assert command.main(names) == 0
    said = capsys.readouterr().out
    assert "no weights: random ones" in said
    assert said.splitlines()[-1].split()[-4:] == ["-", "-", "<-", "fast"]
    assert command.main([*names, "--checkpoint", "nothing.pth"]) == 2


@pytest.mark.parametrize("words", [[], ["--engine", "onnx"], ["--tracker", "static"]])
def test_a_calibration_without_an_engine_in_8_bits_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    named = [] if "static" in words else ["ostrack", "synthetic_small"]
    command = ["--dataset", "synthetic", "--calibration", "LASOT", *words, *named]
    assert import_command("test").main(command) == 2
    assert "--calibration is for" in capsys.readouterr().err


def test_an_earlier_experiment_is_named_by_two_names() -> None:
    assert TrainOptions("ostrack", "x").previous is None
    assert TrainOptions("ostrack", "x", script_prv="a", config_prv="b").previous == ("a", "b")
    with pytest.raises(ConfigError, match="--script_prv and --config_prv belong together"):
        _ = TrainOptions("ostrack", "x", script_prv="a").previous


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("demo", ["clip.mp4", "--init", "10", "20", "30", "40"], "write the four numbers as one word, --init x,y,w,h"),
        ("demo", ["clip.mp4", "--init", "-5,2,3,4"], "write it behind a =, as in --init=-5,3,20,20"),
        ("annotate", ["--init", "1,2,3,4", "clip.mp4"], "write source in front of options that take several values"),
        ("calibrate", ["--dataset", "otb", "ostrack", "x"], "write script config in front of options"),
        ("test", ["--dataset", "otb", "ostrack", "x"], "give SCRIPT CONFIG in front of options"),
    ],
)
def test_words_that_went_elsewhere_are_explained(
    name: str, words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        import_command(name).parse(words)
    assert hint in capsys.readouterr().err
