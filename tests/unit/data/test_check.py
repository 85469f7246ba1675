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

from lib.data import Finding, Part, build, check_part, choose, open_store, plan_build, training_parts, write_vot_list
from lib.data.datasets import LasherDataset, LasotDataset
from lib.data.lists import load_list
from lib.layouts import UnknownKeyError
from lib.paths import Paths, load_paths

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


def part(expected: int | None = 2, key: str = "lasot") -> Part:
    return Part(key, "some", lambda path: LasotDataset(open_store(path), ["bear-2", "bear-4"]), expected)


def look(paths: Paths, depth: str = "normal") -> Finding:
    return check_part(part(), paths, depth)  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", ["fast", "normal", "full"])
def test_whole_set_passes(lasot: Path, depth: str) -> None:
    finding = look(load_paths(), depth)
    assert (finding.found, finding.expected, finding.problems, finding.is_wrong()) == (2, 2, [], False)
    assert finding.pictures == (8 if depth == "full" else 0)


def test_lmdb_copy_passes_too(lasot: Path, tmp_path: Path) -> None:
    build(plan_build("lasot", lasot, tmp_path / "data" / "lasot_lmdb")[0])
    finding = check_part(part(key="lasot_lmdb"), load_paths(), "full")
    assert (finding.found, finding.pictures, finding.is_wrong()) == (2, 8, False)


def test_folder_that_is_not_there(lasot: Path) -> None:
    finding = check_part(part(), load_paths({"lasot": "/nowhere"}))
    assert not finding.there
    assert finding.is_wrong()
    assert finding.first_trouble() == "/nowhere is not there"


@pytest.mark.parametrize("depth", ["fast", "normal"])
def test_missing_annotation_file_is_named(lasot: Path, depth: str) -> None:
    (lasot / "bear/bear-4/groundtruth.txt").unlink()
    finding = look(load_paths(), depth)
    assert (finding.found, finding.unreadable, finding.missing) == (1, 1, 0)
    assert finding.is_wrong(partial=True)
    assert str(lasot / "bear/bear-4/groundtruth.txt") in finding.first_trouble()


def test_missing_sequence_is_no_fault_of_a_partial_copy(lasot: Path) -> None:
    shutil.rmtree(lasot / "bear/bear-4")
    finding = look(load_paths())
    assert (finding.found, finding.missing, finding.unreadable) == (1, 1, 0)
    assert finding.is_wrong()
    assert not finding.is_wrong(partial=True)
    shutil.rmtree(lasot / "bear/bear-2/img")
    assert look(load_paths()).is_wrong(partial=True)


def test_missing_picture_within_a_sequence_is_named(lasot: Path) -> None:
    hole = lasot / "bear/bear-2/img/00000002.jpg"
    hole.unlink()
    finding = look(load_paths())
    assert (finding.found, finding.unreadable) == (1, 1)
    assert f"{hole} is missing" in "\n".join(finding.problems)
    assert finding.is_wrong()


def test_pictures_against_rows(lasot: Path) -> None:
    write(lasot / "bear/bear-2/img/00000005.jpg", JPEG)
    (lasot / "bear/bear-4/img/00000004.jpg").unlink()
    finding = look(load_paths())
    assert (finding.mismatched, finding.found, finding.is_wrong()) == (2, 2, False)
    (lasot / "bear/bear-4/img/00000003.jpg").unlink()
    finding = look(load_paths())
    assert (finding.mismatched, finding.found, finding.is_wrong()) == (2, 1, True)
    assert any("2 pictures in" in line and "4 annotation rows" in line for line in finding.problems)


def test_broken_pictures_need_full(lasot: Path) -> None:
    cut = lasot / "bear/bear-2/img/00000002.jpg"
    cut.write_bytes(JPEG[:-30])
    write(lasot / "bear/bear-4/img/00000003.jpg", b"")
    assert look(load_paths()).broken == 0
    finding = look(load_paths(), "full")
    assert (finding.broken, finding.pictures) == (2, 8)
    assert str(cut) in finding.problems[0]
    assert "is empty" in finding.problems[1]
    assert finding.is_wrong()


def test_damaged_annotation_names_file_and_line(lasot: Path) -> None:
    write(lasot / "bear/bear-2/groundtruth.txt", "1,2,3,4\n1,2,x,4\n1,2,3,4\n1,2,3,4\n")
    finding = look(load_paths(), "fast")
    assert finding.unreadable == 1
    assert "groundtruth.txt, line 2" in finding.first_trouble()


def test_second_modality_counts(tmp_path: Path) -> None:
    root = tmp_path / "lasher"
    for name, thermal in (("boy", 3), ("car", 1)):
        write(root / name / "visible.txt", "1,2,3,4\n" * 3)
        for i in range(3):
            write(root / name / f"visible/v{i}.jpg", JPEG)
        for i in range(thermal):
            write(root / name / f"infrared/i{i}.jpg", JPEG)
    both = Part("lasher", "some", lambda path: LasherDataset(open_store(path)), 2, ("visible.txt",))
    finding = check_part(both, load_paths({"lasher": root}))
    assert (finding.found, finding.unreadable) == (1, 1)
    assert "car" in finding.first_trouble()


def test_published_size_counts_where_folders_are_listed(lasot: Path) -> None:
    listed = Part("lasot", "some", lambda path: LasotDataset(open_store(path)), 3)
    finding = check_part(listed, load_paths())
    assert finding.is_wrong()
    assert "2 sequences in" in finding.first_trouble()


def test_choose() -> None:
    parts = training_parts()
    assert [p.name for p in choose(parts, ["vid", "lasot_lmdb"])] == ["imagenet:training", "lasot_lmdb:training"]
    assert choose(parts, ["trackingnet:0-3"])[0].expected is None
    with pytest.raises(UnknownKeyError, match="did you mean 'lasot'"):
        choose(parts, ["lasott"])
    with pytest.raises(UnknownKeyError, match=r"'lasot:val' \(parts of lasot: lasot:training\)"):
        choose(parts, ["lasot:val"])


def test_command(lasot: Path, main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["lasot:test"]) == 1
    told = capsys.readouterr().out
    assert "2 / 280" in told
    assert "layout wanted: <class>/<class>-<n>" in told
    assert "airplane-1/groundtruth.txt" in told
    for name in load_list("lasot_test"):
        add_lasot(lasot, name, frames=2)
    assert main([]) == 0, "the training part, not asked for, is not there"
    assert main(["lasot"]) == 1
    assert main(["lasot:test", "--partial", "--fast"]) == 0
    assert main(["coco"]) == 1
    capsys.readouterr()
    assert main(["cocoo"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown data set key 'cocoo'; did you mean 'coco'")


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
    told = capsys.readouterr().err
    assert f"1 of the 50 test sequences are missing: {names[3]}" in told
    assert "2 annotation rows, 2 color and 1 depth pictures" in told
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
    told = capsys.readouterr().out
    assert "1118 sequences are not there, which --partial allows" in told
    assert "no such file" not in told
    assert told.count("line 2: ") == 2  # in the table and below it
    monkeypatch.setenv("COLUMNS", "80")
    main(["lasot:training", "--partial", "--path", f"lasot={tmp_path / 'lasot'}"])
    assert "lasot:training   wrong     1 / 1120         0        -  airplane-" in capsys.readouterr().out
