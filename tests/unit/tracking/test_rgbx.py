"""The RGB-T and RGB-E workspaces: published arguments, paths and formats over the one runner."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.bench import Result
from lib.bench.benchmarks import get_benchmark
from lib.bench.metrics import evaluate
from tests.unit.bench.test_benchmarks import paths_at
from tracking._rgbx import RGBE, RGBT, main

TINY = ("MODEL.BACKBONE.EMBED_DIM=32", "MODEL.BACKBONE.NUM_HEADS=2", "MODEL.BACKBONE.ADAPTER_DIM=4")


def pictures(folder: Path, pattern: str, numbers: range) -> None:
    folder.mkdir(parents=True)
    for i in numbers:
        picture = np.random.default_rng([i, len(str(folder))]).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / (pattern % i)), picture)


@pytest.fixture
def lasher(tmp_path: Path) -> Path:
    """Two sequences of one's own in LasHeR's layout, the second with more than one camera's naming."""
    root = tmp_path / "data/lasher/testingset"
    for name, first in (("mine_1", 0), ("mine_2", 1)):
        pictures(root / name / "visible", "v%04d.jpg", range(first, first + 5))
        pictures(root / name / "infrared", "%d.jpg", range(5))
        for file in ("visible.txt", "infrared.txt", "init.txt"):
            (root / name / file).write_text("30,20,16,12\n" * 5)
    return tmp_path


@pytest.fixture
def visevent(tmp_path: Path) -> Path:
    """One sequence whose target comes with the third frame."""
    root = tmp_path / "somewhere"
    pictures(root / "video_1/vis_imgs", "frame%04d.bmp", range(3, 9))
    pictures(root / "video_1/event_imgs", "frame%04d.bmp", range(3, 9))
    (root / "video_1/groundtruth.txt").write_text("0,0,0,0\n0,0,0,0\n" + "30,20,16,12\n" * 4)
    (root / "video_1/absent_label.txt").write_text("0\n0\n1\n1\n1\n1\n")
    (root / "testlist.txt").write_text("video_1\n")
    return root


def track(workspace, tmp_path: Path, *more: object) -> int:
    script = tmp_path / "RGBX_workspace/test.py"
    fixed = ("--yaml_name", "synthetic_demo", "--untrained", "--save_dir", tmp_path / "o", "--set", *TINY)
    return main(workspace, script, [str(a) for a in (*more, *fixed)])


def test_rgbt_results_lie_where_published_and_are_kept(lasher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--dataset_name", "LasHeR", "--data_dir", lasher / "data", "--mode", "sequential")
    assert track(RGBT, lasher, *options) == 0
    assert "these are 2 sequences, LasHeR has 245" in capsys.readouterr().out
    folder = lasher / "RGBX_workspace/results/LasHeR/synthetic_demo_untrained"
    first, *others = (folder / "mine_2.txt").read_text().splitlines()
    assert first == " ".join(f"{v:.18e}" for v in (30, 20, 16, 12))
    assert len(others) == 4
    assert re.fullmatch(r"(mine_\d: [\d.]+\n){2}ave:[\d.]+\n", (folder / "fps_rgbt.txt").read_text())
    before = {p: p.stat().st_mtime_ns for p in folder.glob("mine_?.txt")}
    assert track(RGBT, lasher, *options) == 0
    assert {p: p.stat().st_mtime_ns for p in folder.glob("mine_?.txt")} == before
    assert track(RGBT, lasher, *options, "--drop", "aux", "--video", "mine_1") == 0
    dropped = folder.with_name(f"{folder.name}_drop-aux-1")
    assert [p.name for p in dropped.glob("mine_?.txt")] == ["mine_1.txt"]
    assert (dropped / "mine_1.txt").read_text() != (folder / "mine_1.txt").read_text()


def test_rgbe_results_have_a_row_per_frame(visevent: Path, tmp_path: Path) -> None:
    assert track(RGBE, tmp_path, "--root", visevent, "--threads", 0) == 0
    lines = (tmp_path / "RGBX_workspace/results/VisEvent/synthetic_demo_untrained/video_1.txt").read_text().splitlines()
    assert lines[:3] == [",".join(f"{v:.14f}" for v in (30, 20, 16, 12))] * 3
    assert len(lines) == 6


def test_results_of_published_rgbe_runners_begin_with_the_first_present_frame(visevent: Path, tmp_path: Path) -> None:
    (tmp_path / "visevent").mkdir()
    visevent.rename(tmp_path / "visevent/test")
    (sequence,) = get_benchmark("visevent").sequences(paths_at(tmp_path))
    assert sequence.start == 2
    cut = np.tile([30.0, 20, 16, 12], (4, 1))
    whole = np.concatenate([cut[:1], cut[:1], cut])
    wanted = evaluate("matlab", [sequence.sequence_result([Result("video_1", whole)])]).headline
    assert evaluate("matlab", [sequence.sequence_result([Result("video_1", cut)])]).headline == wanted
    with pytest.raises(ValueError, match="video_1"):
        evaluate("matlab", [sequence.sequence_result([Result("video_1", cut[1:])])])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--dataset_name", "LashR"), "did you mean 'LasHeR'"),
        (("--video", "mine_3"), "has no sequence 'mine_3'"),
        (("--epoch", 7, "--checkpoint", "nowhere.pth.tar"), "nowhere.pth.tar: no such file"),
        (("--corrupt", "fog:0.3"), "unknown corruption 'fog'"),
        (("--drop", "aux", "--degradation_seed", 1), "--degradation_seed has no effect without --corrupt"),
    ],
)
def test_what_cannot_be_done_is_reported(
    lasher: Path, capsys: pytest.CaptureFixture[str], more: tuple[object, ...], message: str
) -> None:
    script = lasher / "RGBX_workspace/test.py"
    fixed = ["--yaml_name", "synthetic_demo", "--save_dir", lasher / "o", "--data_dir", lasher / "data", "--threads", 0]
    fixed += [] if "--checkpoint" in more else ["--untrained"]
    assert main(RGBT, script, [str(a) for a in (*more, *fixed)]) == 2
    assert message in capsys.readouterr().err


def test_an_epoch_that_is_not_there_is_not_replaced_by_other_weights(
    lasher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [
        "--save_dir",
        lasher / "o",
        "--data_dir",
        lasher / "data",
        "--threads",
        0,
        "--yaml_name",
        "synthetic_rgbt",
    ]
    arguments = [str(a) for a in (*places, "--epoch", 3)]
    assert main(RGBT, lasher / "RGBX_workspace/test.py", arguments) == 2
    assert "no checkpoint of epoch 3 (TEST.EPOCH, as asked for) in" in capsys.readouterr().err
