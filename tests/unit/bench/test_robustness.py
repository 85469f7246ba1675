"""Score over how bad the frames are: sweeps, curves, the command and its report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lib.bench import Curve, Robustness, Sweep, robustness_table, write_robustness
from lib.data import Modality
from tests.support.commands import import_command
from tests.unit.bench.test_commands import command
from tests.unit.tracking.test_rgbx import TINY, pictures


def curve(tracker: str, sweep, *scores: float) -> Curve:
    return Curve(tracker, sweep, {level: {"sr": s} for level, s in zip(sweep.levels, scores, strict=True)})


def found(*curves: Curve) -> Robustness:
    return Robustness("LasHeR", Modality.RGBT, 3, "lasher", "sr", {"sr": "SR"}, curves)


def test_a_sweep_begins_with_clean_frames_and_ascends() -> None:
    sweep = Sweep("drop", "aux", [1.0, 0.5], fill="repeat", seed=3)
    assert sweep.levels == (0.0, 0.5, 1.0)
    assert [sweep.at(level).label for level in sweep.levels] == [
        "",
        "drop-aux-0.5-repeat_seed3",
        "drop-aux-1-repeat_seed3",
    ]
    assert Sweep("occlusion", "rgb", [0.2]).at(0.2).label == "occlusion-0.2-rgb"
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Sweep("drop", "aux", [1.5])
    with pytest.raises(ValueError, match="unknown corruption"):
        Sweep("fog", "rgb", [0.2])


def test_what_is_kept_is_the_area_under_the_curve_over_the_clean_score() -> None:
    sweep = Sweep("drop", "aux", [0.25, 1.0])
    assert curve("a", sweep, 60, 60, 60).kept("sr") == pytest.approx(100)
    assert curve("a", sweep, 60, 30, 30).kept("sr") == pytest.approx(100 * (0.25 * 45 + 0.75 * 30) / 60)
    assert np.isnan(curve("a", sweep, 0, 0, 0).kept("sr"))


@pytest.mark.slow
def test_levels_of_several_sweeps_share_a_table(tmp_path: Path) -> None:
    result = found(
        curve("a", Sweep("drop", "aux", [0.5]), 60, 50),
        curve("b", Sweep("drop", "rgb", [1.0]), 55, 10),
        curve("a", Sweep("noise", "both", [0.1]), 60, 58),
    )
    table = robustness_table(result, "drop")
    assert [c.title for c in table.columns] == ["Frames", "0", "0.5", "1", "Kept"]
    assert [row[:4] for row in table.rows] == [["a, thermal dropped", 60, 50, None], ["b, RGB dropped", 55, None, 10]]
    page = write_robustness(result, tmp_path).read_text()
    assert "Missing images" in page
    assert "noise on RGB and thermal" in page
    assert {"robustness_drop.pdf", "robustness_noise.png", "robustness_all.csv"} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.slow
def test_the_command_measures_and_does_not_measure_twice(tmp_path: Path) -> None:
    root = tmp_path / "data/lasher/testingset/mine"
    pictures(root / "visible", "%d.jpg", range(6))
    pictures(root / "infrared", "%d.jpg", range(6))
    for file in ("visible.txt", "init.txt"):
        (root / file).write_text("30,20,16,12\n" * 6)
    line = (
        "robustness", "sdstrack", "synthetic_demo", "--untrained", "--dataset", "lasher", "--data_dir",
        tmp_path / "data", "--save_dir", tmp_path, "--rates", "1", "--corrupt", "occlusion", "--on", "both",
        "--strengths", "0.5", "--report", tmp_path / "report", "--set", *TINY,
    )  # fmt: skip
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert re.search(r"thermal dropped +[\d.]+ +[\d.]+ +[\d.]+", done.stdout)
    rows = json.loads((tmp_path / "report/robustness_all.json").read_text())["rows"]
    assert [(r["Frames"], r["Level"]) for r in rows[-2:]] == [("occlusion on RGB and thermal", v) for v in (0, 0.5)]
    files = {p: p.stat().st_mtime_ns for p in tmp_path.glob("test/**/mine.txt")}
    assert len(files) == 8  # clean, two drops, one occlusion; each with the float copy
    assert command(*line).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_an_rgb_benchmark_has_nothing_to_drop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--tracker", "static", "--dataset", "otb", "--drop", "aux", "--save_dir", str(tmp_path)]
    assert import_command("test").main(line) == 2
    assert capsys.readouterr().err == "error: OTB-2015 has no second picture to drop or to corrupt\n"
