"""The data check names what is missing, short or broken, and lets a whole data set pass."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest

from lib.data import (
    CheckPart,
    CheckResult,
    build_lmdb,
    check_part,
    check_parts,
    choose_parts,
    plan_lmdb,
    write_vot_list,
)
from lib.data.datasets import CATALOGUE, Subset
from lib.data.lists import load_list
from lib.paths import Paths, load_paths
from lib.registry import UnknownNameError

ROOT = Path(__file__).resolve().parents[3]
JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))[1].tobytes()
Main = Callable[[list[str]], int]


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def add_lasot(root: Path, name: str, frames: int = 4) -> Path:
    folder = root / name.split("-")[0] / name
    write(folder / "groundtruth.txt", "1,2,10,10\n" * frames)
    write(folder / "full_occlusion.txt", ",".join("0" * frames))
    write(folder / "out_of_view.txt", ",".join("0" * frames))
    for i in range(frames):
        write(folder / f"img/{i + 1:08d}.jpg", JPEG)
    return folder


@pytest.fixture
def lasot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two whole sequences, and a settings file that names nothing else."""
    write(tmp_path / "local.yaml", "data_dir: data\n")
    monkeypatch.setenv("TRACKING_LOCAL_YAML", str(tmp_path / "local.yaml"))
    root = tmp_path / "data" / "lasot"
    for name in ("bear-2", "bear-4"):
        add_lasot(root, name)
    return root


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Main:
    """The command, in this process."""
    monkeypatch.syspath_prepend(ROOT / "tracking")
    return cast(Main, importlib.import_module("check_data").main)


NAMES = ("bear-2", "bear-4")


@pytest.fixture(autouse=True)
def two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A published list of two sequences."""
    real = load_list
    monkeypatch.setattr("lib.data.datasets.build.load_list", lambda name: NAMES if name == "two" else real(name))


def part(expected: int | None = 2, key: str = "lasot") -> CheckPart:
    return CheckPart(CATALOGUE[key], Subset("some", expected, ("two",)))


def check(paths: Paths, depth: str = "normal") -> CheckResult:
    return check_part(part(), paths, depth)  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", ["fast", "normal", "full"])
def test_whole_set_passes(lasot: Path, depth: str) -> None:
    result = check(load_paths(), depth)
    assert (result.found, result.expected, result.problems, result.is_wrong()) == (2, 2, [], False)
    assert result.pictures == (8 if depth == "full" else 0)


def test_lmdb_copy_passes_too(lasot: Path, tmp_path: Path) -> None:
    build_lmdb(plan_lmdb("lasot", lasot, tmp_path / "data" / "lasot_lmdb")[0])
    result = check_part(part(key="lasot_lmdb"), load_paths(), "full")
    assert (result.found, result.pictures, result.is_wrong()) == (2, 8, False)


def test_folder_that_is_not_there(lasot: Path) -> None:
    result = check_part(part(), load_paths({"lasot": "/nowhere"}))
    assert not result.there
    assert result.is_wrong()
    assert result.first_trouble() == "/nowhere is not there"


@pytest.mark.parametrize("depth", ["fast", "normal"])
def test_missing_annotation_file_is_named(lasot: Path, depth: str) -> None:
    (lasot / "bear/bear-4/groundtruth.txt").unlink()
    result = check(load_paths(), depth)
    assert (result.found, result.unreadable, result.missing) == (1, 1, 0)
    assert result.is_wrong(partial=True)
    assert str(lasot / "bear/bear-4/groundtruth.txt") in result.first_trouble()


def test_missing_sequence_is_no_fault_of_a_partial_copy(lasot: Path) -> None:
    shutil.rmtree(lasot / "bear/bear-4")
    result = check(load_paths())
    assert (result.found, result.missing, result.unreadable) == (1, 1, 0)
    assert result.is_wrong()
    assert not result.is_wrong(partial=True)
    shutil.rmtree(lasot / "bear/bear-2/img")
    assert check(load_paths()).is_wrong(partial=True)


def test_missing_picture_within_a_sequence_is_named(lasot: Path) -> None:
    hole = lasot / "bear/bear-2/img/00000002.jpg"
    hole.unlink()
    result = check(load_paths())
    assert (result.found, result.unreadable) == (1, 1)
    assert f"{hole} is missing" in "\n".join(result.problems)
    assert result.is_wrong()


def test_pictures_against_rows(lasot: Path) -> None:
    write(lasot / "bear/bear-2/img/00000005.jpg", JPEG)
    (lasot / "bear/bear-4/img/00000004.jpg").unlink()
    result = check(load_paths())
    assert (result.mismatched, result.found, result.is_wrong()) == (2, 2, False)
    (lasot / "bear/bear-4/img/00000003.jpg").unlink()
    result = check(load_paths())
    assert (result.mismatched, result.found, result.is_wrong()) == (2, 1, True)
    assert any("2 pictures in" in line and "4 annotation rows" in line for line in result.problems)


@pytest.mark.parametrize("depth", ["fast", "normal", "full"])
def test_pictures_numbered_from_zero(lasot: Path, depth: str) -> None:
    img = lasot / "bear/bear-2/img"
    (img / "00000004.jpg").rename(img / "00000000.jpg")
    result = check(load_paths(), depth)
    assert (result.found, result.unreadable, result.mismatched, result.is_wrong()) == (1, 1, 1, True)
    assert "(00000000.jpg to 00000003.jpg) cannot be paired with 4 annotation rows (1 to 4)" in result.first_trouble()


def test_broken_pictures_need_full(lasot: Path) -> None:
    cut = lasot / "bear/bear-2/img/00000002.jpg"
    cut.write_bytes(JPEG[:-30])
    write(lasot / "bear/bear-4/img/00000003.jpg", b"")
    assert check(load_paths()).broken == 0
    result = check(load_paths(), "full")
    assert (result.broken, result.pictures) == (2, 8)
    assert str(cut) in result.problems[0]
    assert "is empty" in result.problems[1]
    assert result.is_wrong()


def test_damaged_annotation_names_file_and_line(lasot: Path) -> None:
    write(lasot / "bear/bear-2/groundtruth.txt", "1,2,3,4\n1,2,x,4\n1,2,3,4\n1,2,3,4\n")
    result = check(load_paths(), "fast")
    assert result.unreadable == 1
    assert "groundtruth.txt, line 2" in result.first_trouble()


def test_second_modality_counts(tmp_path: Path) -> None:
    root = tmp_path / "lasher"
    for name, thermal in (("boy", 3), ("car", 1)):
        write(root / name / "visible.txt", "1,2,3,4\n" * 3)
        for i in range(3):
            write(root / name / f"visible/v{i}.jpg", JPEG)
        for i in range(thermal):
            write(root / name / f"infrared/i{i}.jpg", JPEG)
    both = CheckPart(CATALOGUE["lasher"], Subset("some", 2))
    result = check_part(both, load_paths({"lasher": root}))
    assert (result.found, result.unreadable) == (1, 1)
    assert "car" in result.first_trouble()


def test_published_size_counts_where_folders_are_listed(lasot: Path) -> None:
    listed = CheckPart(CATALOGUE["lasot"], Subset("some", 3))
    result = check_part(listed, load_paths())
    assert result.is_wrong()
    assert "2 sequences in" in result.first_trouble()


def test_parts_by_name() -> None:
    names = [p.name for p in choose_parts(["vid", "lasot_lmdb"])]
    assert names == ["imagenet:training", "lasot_lmdb:training", "lasot_lmdb:test"]
    chunks = choose_parts(["trackingnet:0-3"])[0]
    assert (chunks.subset.count, chunks.subset.check_options) == (None, {"chunks": [0, 1, 2, 3]})
    assert {p.name for p in check_parts()} >= {"got10k:ltrval", "trackingnet_lmdb:training", "vot_rgbd22:test"}
    whole = ["got10k:training", "got10k:ltrval", "got10k_val:validation", "got10k_test:test"]
    assert [p.name for p in choose_parts(["got10k"])] == whole
    assert [p.name for p in choose_parts(["depthtrack:test", "got10k:val"])] == ["depthtrack_test:test", whole[2]]
    with pytest.raises(UnknownNameError, match="did you mean 'lasot'"):
        choose_parts(["lasott"])
    with pytest.raises(UnknownNameError, match=r"'lasot:val' to check \(parts of lasot: lasot:test, lasot:training\)"):
        choose_parts(["lasot:val"])


def test_command(lasot: Path, main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["lasot:test"]) == 1
    printed = capsys.readouterr().out
    assert "2 / 280" in printed
    assert "expected layout: <class>/<class>-<n>" in printed
    assert "airplane-1/groundtruth.txt" in printed
    for name in load_list("lasot_test"):
        add_lasot(lasot, name, frames=2)
    assert main([]) == 0, "the training part, not asked for, is not there"
    assert main(["lasot"]) == 1
    assert main(["lasot:test", "--partial", "--fast"]) == 0
    assert main(["coco"]) == 1
    capsys.readouterr()
    assert main(["cocoo"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown data set key 'cocoo'; did you mean 'coco'")


def test_benchmarks_names_and_a_test_part_alone(
    tmp_path: Path, lasot: Path, main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("depthtrack/test", "vot2018"):
        write(tmp_path / "data" / folder / "list.txt", "bag\n")
    for name, checked in (("depthtrack", "depthtrack_test:test"), ("vot2018_supervised", "vot2018:test")):
        assert main([name]) == 1
        printed = capsys.readouterr()
        assert checked in printed.out
        assert "training" not in printed.out
        assert ("depthtrack:training: not there, " in printed.err) == (name == "depthtrack")
    assert main(["lasher"]) == 1
    printed = capsys.readouterr()
    assert "lasher:training" in printed.out
    assert "lasher_test:test" in printed.out


def test_vot_lists(tmp_path: Path, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data" / "depthtrack" / "test"
    names = load_list("depthtrack_splits")["test_50"]
    for name in names:
        write(root / name / "groundtruth.txt", "1,2,3,4\nnan,nan,nan,nan\n")
        for i in (1, 2):
            write(root / name / f"color/{i:08d}.jpg", JPEG)
            write(root / name / f"depth/{i:08d}.png", b"")
    write(root / names[0] / "sequence", "mine\n")
    assert main(["--write_vot_lists", "--data_dir", str(tmp_path / "data")]) == 0
    assert (root / "list.txt").read_text().splitlines() == sorted(names)
    assert (root / names[0] / "sequence").read_text() == "mine\n"
    assert f"name={names[1]}\n" in (root / names[1] / "sequence").read_text()
    again = write_vot_list(root, "depthtrack_test")
    assert (again.changed, again.sequence_files, again.lacking, again.problems) == (False, 0, (), ())
    (root / names[3] / "groundtruth.txt").unlink()
    (root / names[4] / "depth/00000002.png").unlink()
    assert main(["--write_vot_lists", "--data_dir", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr().err
    assert f"1 of the 50 test sequences are missing: {names[3]}" in printed
    assert "2 annotation rows, 2 color and 1 depth pictures" in printed
    assert len((root / "list.txt").read_text().splitlines()) == 49
    assert main(["--write_vot_lists", "--data_dir", str(tmp_path / "none")]) == 2


def test_damage_is_not_buried_under_what_a_partial_copy_lacks(
    tmp_path: Path, main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = add_lasot(tmp_path / "lasot", "airplane-10")
    add_lasot(tmp_path / "lasot", "airplane-11")
    (folder / "groundtruth.txt").write_text("1,2,3,4\nno,numbers\n")
    assert main(["lasot:training", "--partial", "--path", f"lasot={tmp_path / 'lasot'}"]) == 1
    printed = capsys.readouterr().out
    assert "1118 sequences are not there, which --partial accepts" in printed
    assert "no such file" not in printed
    assert printed.count("line 2: ") == 2  # in the table and below it
    monkeypatch.setenv("COLUMNS", "80")
    main(["lasot:training", "--partial", "--path", f"lasot={tmp_path / 'lasot'}"])
    assert "lasot:training wrong 1 / 1120 0 - airplane-" in " ".join(capsys.readouterr().out.split())
    assert main(["lasot:test", "--path", f"lasot={tmp_path / 'none'}"]) == 1
    assert "lasot:test not there - - - " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("needed", [False, True])
def test_missing_files_of_visibility_are_told_and_wrong_where_a_benchmark_scores_with_them(
    lasot: Path, needed: bool
) -> None:
    (lasot / "bear/bear-4/out_of_view.txt").unlink()
    result = check_part(part(), load_paths(), needs_labels=needed)
    what = "the benchmark refuses these sequences" if needed else "training takes their targets as visible"
    assert result.problems == [f"1 sequences lack full_occlusion.txt or out_of_view.txt: {what}"]
    assert (result.found, result.is_wrong()) == ((1, True) if needed else (2, False))


def test_the_command_knows_which_benchmark_needs_files_of_visibility(
    lasot: Path, main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    (lasot / "bear/bear-4/out_of_view.txt").unlink()
    main(["lasot:test"])
    assert "1 sequences lack full_occlusion.txt or out_of_view.txt: the benchmark refuses" in capsys.readouterr().out
    add_lasot(lasot, "bear-1")
    (lasot / "bear/bear-1/full_occlusion.txt").unlink()
    main(["lasot:training"])
    assert "1 sequences lack full_occlusion.txt or out_of_view.txt: training takes" in capsys.readouterr().out
