"""The comparing command on folders of text files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lib.bench import ResultSource, Scoring, load_runs, read_truth, write_boxes
from tests.support.commands import import_command

BOXES = np.stack([np.arange(10) * 2.0 + 5, np.full(10, 9.0), np.full(10, 20.0), np.full(10, 20.0)], axis=1)


@pytest.fixture(scope="module")
def command() -> ModuleType:
    return import_command("analysis_results")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_boxes(tmp_path / "gt" / f"{name}.txt", BOXES)
        write_boxes(tmp_path / "good" / f"{name}.txt", BOXES, "float_space")
        write_boxes(tmp_path / "poor" / f"{name}.txt", BOXES + np.array([8, 0, 0, 0]), "int_tab")
    return tmp_path


@pytest.mark.slow
def test_folders_of_any_format_are_compared(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--gt", str(folders / "gt"), "--results", f"ours={folders / 'good'}", str(folders / "poor")]
    assert command.main([*args, "--per_sequence", "--report", str(folders / "out")]) == 0
    out = capsys.readouterr().out
    assert "3 sequences, metric variant ostrack" in out
    assert "ours" in out
    assert "95.24*" in out
    assert (folders / "out" / "report.html").stat().st_size > 10_000
    assert (folders / "out" / "scores.csv").read_text().startswith("Tracker,AUC")


def test_missing_results_are_an_error_that_names_them_or_left_out(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "poor" / "b.txt").unlink()
    args = ["--gt", str(folders / "gt"), "--results", str(folders / "good"), str(folders / "poor")]
    assert command.main(args) == 2
    assert "poor: no result for 1 of 3 sequences: b (" in capsys.readouterr().err
    assert command.main([*args, "--skip_missing"]) == 0
    out = capsys.readouterr().out
    assert "2 sequences" in out
    assert "left out: 1 sequences that some tracker has no result for: b" in out


def test_files_of_no_sequence_are_shown_next_to_missing_results(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "poor" / "b.txt").rename(folders / "poor" / "bb.txt")
    (folders / "poor" / "c.txt").rename(folders / "poor" / "C.txt")
    assert command.main(["--gt", str(folders / "gt"), "--results", str(folders / "poor")]) == 2
    assert "no result for 1 of 3 sequences: b; files of no sequence are there: bb.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("benchmark", "ours", "theirs"),
    [
        ("otb", "Human4_2", "Human4-2"),
        ("otb", "Human4_2", "Human4"),
        ("otb", "Jogging_1", "jogging-1"),
        ("uav", "uav_uav2", "uav2"),
        ("nfs", "nfs_ball", "Ball"),
    ],
)
def test_results_by_the_names_of_other_toolkits(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], benchmark: str, ours: str, theirs: str
) -> None:
    write_boxes(tmp_path / "gt" / f"{ours}.txt", BOXES)
    write_boxes(tmp_path / "results" / f"{theirs}.txt", BOXES)
    args = ["--gt", str(tmp_path / "gt"), "--dataset", benchmark, "--results", str(tmp_path / "results")]
    assert command.main(args) == 0
    assert "1 sequences, metric variant" in capsys.readouterr().out


def test_a_sequence_that_cannot_be_scored_is_named_and_the_others_are_compared(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = BOXES.copy()
    rows[4] = np.nan
    write_boxes(folders / "gt" / "b.txt", rows)
    write_boxes(folders / "poor" / "c.txt", np.concatenate([BOXES, BOXES[-1:]]))
    args = ["--gt", str(folders / "gt"), "--results", str(folders / "good"), str(folders / "poor")]
    assert command.main(args) == 1
    out = capsys.readouterr().out
    assert "2 sequences, metric variant" in out
    assert "left out: b of good cannot be scored: NaN in the ground truth" in out
    assert "note: poor: results with other numbers of rows than frames: c (11 rows, 10 frames)" in out
    (folders / "poor" / "a.txt").write_text("")
    assert command.main(args) == 1
    out = capsys.readouterr().out
    assert "1 sequences, metric variant" in out
    assert "left out: a of poor cannot be scored: a.txt: empty" in out
    both = f"mean={folders / 'good'},{folders / 'poor'}"
    assert command.main(["--gt", str(folders / "gt"), "--results", both]) == 1
    assert "1 sequences, metric variant" in capsys.readouterr().out


def test_runs_of_one_tracker_are_averaged(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = f"mean={folders / 'good'},{folders / 'poor'}"
    assert command.main(["--gt", str(folders / "gt"), "--results", both, "--csv"]) == 0
    row = capsys.readouterr().out.split("\nmean,")[1].split(",")
    alone = []
    for name in ("good", "poor"):
        command.main(["--gt", str(folders / "gt"), "--results", str(folders / name), "--csv"])
        alone.append(float(capsys.readouterr().out.split(f"\n{name},")[1].split(",")[0]))
    assert float(row[0]) == pytest.approx(np.mean(alone), abs=1e-4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dataset", "lasoot", "--results", "x"], "did you mean 'lasot'"),
        (["--gt", "nowhere", "--results", "x"], "nowhere: no such folder"),
        (
            ["--gt", "{}/gt", "--results", "{}/none"],
            "none: no such folder or archive (results of none); {} has good, gt",
        ),
        (["--gt", "{}/gt", "--results", "{}/good", "--metric", "matlb"], "did you mean 'matlab'"),
        (["--gt", "{}/gt", "--results", "{}/good", "--attribute", "blur"], "no sequence has the attribute 'blur'"),
        (["--gt", "{}/gt", "--results", "{}/good", "{}/good"], "same label"),
        (
            ["--gt", "{}/gt", "--results", "{}/good", "--about", "goood=ours"],
            "--about goood: no such tracker; did you mean 'good'? (there: good)",
        ),
    ],
)
def test_errors_are_one_sentence(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert command.main([a.format(folders) for a in args]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message.format(folders) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("more", [["--training_log", "x"], ["--title", "x"], ["--report", "r", "--training_log", "x"]])
def test_options_of_a_report_that_would_have_no_effect_are_refused(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--gt", str(folders / "gt"), "--results", str(folders / "good"), *more])
    assert re.search("--t.*(has no effect without --report|x: no such file)", capsys.readouterr().err)


def test_each_result_folder_is_listed_and_no_name_is_asked_for(
    command: ModuleType, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    scandir = os.scandir

    def count(path: str | Path | int) -> Any:
        listed.append(os.path.basename(str(path)))
        return scandir(path)

    asked: list[Path] = []
    is_file = Path.is_file
    sequences = read_truth(folders / "gt")
    sources = [ResultSource(name, (folders / name,)) for name in ("good", "poor")]
    monkeypatch.setattr(os, "scandir", count)
    monkeypatch.setattr(Path, "is_file", lambda path: asked.append(path) or is_file(path))
    load_runs(sources, sequences, Scoring("ostrack"))
    assert listed.count("good") == 3  # results at its top, results of every sequence, their files
    assert not [path for path in asked if path.parent == folders / "good" and path.suffix in (".txt", ".value")]


def test_long_comparisons_show_their_progress_beside_the_tables(
    command: ModuleType, folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["--gt", str(folders / "gt"), "--results", str(folders / "good"), str(folders / "poor")]
    assert command.main(args) == 0
    short = capsys.readouterr()
    monkeypatch.setattr("lib.bench.analysis.MANY_RESULTS", 6)
    assert command.main(args) == 0
    long = capsys.readouterr()
    assert (short.err, long.out) == ("", short.out)
    assert "results" in long.err
