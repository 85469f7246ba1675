"""Options of the commands."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib.bench import TrackerSpec, Way, WayTiming
from lib.config import ConfigError
from lib.train import TrainOptions
from tests.support.commands import import_command
from tests.support.small_trackers import SMALL
from tracking._options import CommandParser, add_machine_options


def test_a_command_without_docstrings_has_its_options() -> None:
    assert "--help" in CommandParser(None).format_help()  # python -OO


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a folder that is in use")
def test_a_working_directory_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    code = 'cd "$1" && rmdir "$1" && "$2" -S "$3"'
    command = str(Path(__file__).resolve().parents[3] / "tracking" / "check_data.py")
    done = subprocess.run(["sh", "-c", code, "sh", tmp_path, sys.executable, command], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("error: the working directory has been removed; go to another one\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("export", ["ostrack", "synthetic_small", "--output", "OUT"]),
        ("profile_model", ["--script", "ostrack", "--config", "synthetic_small", "--output", "OUT/x.json"]),
        ("robustness", ["sdstrack", "synthetic_demo", "--dataset", "lasher", "--drop", "aux", "--report", "OUT"]),
        ("analysis_results", ["--dataset", "synthetic", "--results", "a=b", "--report", "OUT"]),
        pytest.param(
            "calibrate",
            ["ostrack", "synthetic_small", "--dataset", "synthetic", "--overwrite", "--checkpoint", "OUT/a"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_before_long_work(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.safetensors").write_bytes(SMALL.read_bytes())
    (tmp_path / "a.json").write_bytes(SMALL.with_suffix(".json").read_bytes())
    monkeypatch.setattr("os.access", lambda path, mode: False)
    benchmark = SimpleNamespace(sequences=lambda paths: [])
    if name == "calibrate":
        monkeypatch.setattr("lib.bench.benchmarks.get_benchmark", lambda name: benchmark)
    assert import_command(name).main([word.replace("OUT", str(tmp_path)) for word in words]) == 2
    assert f"error: {tmp_path}: permission denied" in capsys.readouterr().err


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


UNREAD = """
profile_model --config x --ways: --engine onnx
profile_model --config x --ways: --protocol official
profile_model --config x --ways: --device auto
profile_model --config x --ways: --aux
profile_model --config x --ways: --batch 2
profile_model --config x --ways: --frame 9 9
profile_model --config x --ways: --repeats 3
demo a.mp4 --init 1,2,3,4 --no_video --boxes a.txt: --output b.mp4
annotate a.mp4 --mot gt.txt --output b: --video c.mp4
annotate a.mp4 --mot gt.txt --output b: --device cpu
annotate a.mp4 --mot gt.txt --output b: --set TEST.EPOCH=1
annotate a.mp4 --init 1,2,3,4 --output b: --overwrite
tune a b --dataset otb --test_dataset uav --keys A=1,2: --seed 0
robustness a b --dataset gtot: --on aux
robustness a b --dataset gtot --drop --corrupt noise: --fill black
robustness a b --dataset gtot --rates 1: --degradation_seed 3
robustness a b --dataset gtot: --title x
check_data --write_vot_lists: --full
check_data lasot: --threads 4
analysis_results --gt a --results b --latex: --csv
analysis_results --dataset otb --results b: --absent c
convert_checkpoint a.pth: --like b.pth
convert_checkpoint a.pth --published a b: --base b.pth
make_synthetic_data --layout otb --output a: --modality rgb
make_synthetic_data --preview a.jpg: --workers 1
vot_workspace a --tracker static: --runid 1
"""


@pytest.mark.parametrize("line", UNREAD.strip().splitlines())
def test_an_option_that_a_mode_does_not_read_is_refused_there(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, _, option = line.partition(": ")
    name, *given = words.split()
    import_command(name).parse(given)
    with pytest.raises(SystemExit):
        import_command(name).parse([*given, *option.split()])
    assert f"error: {option.split()[0]} has no effect w" in capsys.readouterr().err


def test_an_option_that_leaves_results_as_they_are_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ostrack", "x", "--dataset", "otb", "--threads", "0"]
    import_command("test").parse(words)
    assert capsys.readouterr().err == ""
    assert import_command("test").parse([*words, "--debug"]).debug == 1
    assert "warning: --threads has no effect with --debug" in capsys.readouterr().err
    import_command("test").parse([*words, "--device", "cpu", "--num_gpus", "2"])
    assert "warning: --num_gpus has no effect with a --device that is named" in capsys.readouterr().err
    import_command("build_lmdb").parse(["--dataset", "x", "--source", "a", "--target", "b", "--data_dir", "c"])
    assert "warning: --data_dir has no effect with --source and --target" in capsys.readouterr().err
    train = ["--script", "a", "--config", "b", "--script_teacher", "c", "--distill", "0", "--port", "9"]
    import_command("train").parser().parse_args(train)
    said = capsys.readouterr().err
    assert "warning: --distill has no effect as 0 with --script_teacher" in said
    assert "warning: --port has no effect without --mode multi_node" in said


def test_folders_of_data_sets_that_are_not_checked_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = import_command("check_data")
    for words in (["otb"], ["--write_vot_lists"]):
        assert command.main([*words, "--path", f"lasot={tmp_path}"]) == 2
        assert f"--path lasot={tmp_path}: lasot is not among the data sets to check" in capsys.readouterr().err
    assert command.main(["--data_dir", str(tmp_path), "--path", f"lasot={tmp_path / 'no'}"]) == 2
    assert f"--path lasot={tmp_path / 'no'}: not there" in capsys.readouterr().err


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
    assert said.splitlines()[-1].split()[-6:] == ["-", "-", "-", "<-", "official,", "fast"]
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
    with pytest.raises(ConfigError, match="--load and --script_prv both name weights to begin with"):
        _ = TrainOptions("ostrack", "x", load="c.pth", script_prv="a", config_prv="b").previous


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        (
            "test",
            ["a", "b", "--dataset", "lasot", "--epoch", "3"],
            "set as --set TRAIN.BATCH_SIZE=16 or --set TEST.EPOCH",
        ),
        ("demo", ["clip.mp4", "--init", "10", "20", "30", "40"], "write the four numbers as one word, --init x,y,w,h"),
        pytest.param(
            "demo",
            ["clip.mp4", "--init", "-5,2,3,4"],
            "write it behind a =, as in --init=-5,3,20,20",
            marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="from Python 3.14 on it is a value"),
        ),
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
