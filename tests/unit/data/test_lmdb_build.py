"""LMDB copies: the keys readers ask for, resume after a kill, broken pictures."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import cv2
import lmdb
import numpy as np
import pytest

from lib.data import (
    BuildError,
    PlanError,
    build_lmdb,
    finished_build,
    lmdb_build,
    partial_folder,
    plan_lmdb,
    write_sequence_list,
)
from lib.data.datasets import build_dataset
from lib.paths import load_paths
from tests.support.commands import run_and_kill, run_python

ROOT = Path(__file__).resolve().parents[3]
JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))[1].tobytes()


Main = Callable[[list[str]], int]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Main:
    """The command, in this process."""
    monkeypatch.syspath_prepend(ROOT / "tracking")
    return cast(Main, importlib.import_module("build_lmdb").main)


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def lasot_tree(root: Path, names: tuple[str, ...] = ("airplane-10", "bear-1"), frames: int = 3) -> Path:
    files: dict[str, str | bytes] = {"airplane/.DS_Store": "x", "airplane/airplane-10/raw.aedat4": b"x"}
    for name in names:
        place = f"{name.split('-')[0]}/{name}"
        files[f"{place}/groundtruth.txt"] = "1,2,10,10\n" * frames
        files[f"{place}/full_occlusion.txt"] = ",".join("0" * frames)
        files[f"{place}/out_of_view.txt"] = ",".join("0" * frames)
        files |= {f"{place}/img/{i + 1:08d}.jpg": JPEG for i in range(frames)}
    return write(root, files)


def stored(target: Path) -> dict[str, bytes]:
    with lmdb.open(str(target), readonly=True, lock=False) as env, env.begin() as txn:
        return {key.decode(): bytes(value) for key, value in txn.cursor()}


def test_lasot_keys_and_contents(tmp_path: Path) -> None:
    source, target = lasot_tree(tmp_path / "lasot"), tmp_path / "lasot_lmdb"
    [plan] = plan_lmdb("lasot", source, target)
    report = build_lmdb(plan)
    assert (report.state, report.files, report.written, report.already) == ("complete", 12, 12, 0)
    content = stored(target)
    assert len(content) == 12
    assert content["airplane/airplane-10/img/00000001.jpg"] == JPEG
    assert content["bear/bear-1/groundtruth.txt"] == (source / "bear/bear-1/groundtruth.txt").read_bytes()
    assert not partial_folder(target).exists()
    assert build_lmdb(plan).state == "was complete"
    sequence = build_dataset("LASOT", load_paths({"lasot_lmdb": target}), lmdb=True).by_name("airplane-10")  # type: ignore[attr-defined]
    assert sequence.read_frame(2).rgb.shape == (24, 32, 3)


@pytest.mark.parametrize("given", ["", "train"])
def test_got10k_keys_start_with_train(tmp_path: Path, given: str) -> None:
    name = "GOT-10k_Train_000001"
    files: dict[str, str | bytes] = {"train/list.txt": name + "\n", f"train/{name}/groundtruth.txt": "1,2,3,4\n"}
    files |= {f"train/{name}/{f}": "0\n" for f in ("absence.label", "cover.label", "meta_info.ini")}
    source = write(tmp_path / "got10k", {**files, f"train/{name}/00000001.jpg": JPEG})
    [plan] = plan_lmdb("got10k", source / given, tmp_path / "lmdb")
    build_lmdb(plan)
    assert set(stored(tmp_path / "lmdb")) == {*files, f"train/{name}/00000001.jpg"}


def test_trackingnet_is_one_environment_per_chunk(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for chunk, video in ((0, "b-1"), (0, "a_0"), (3, "c")):
        files[f"TRAIN_{chunk}/anno/{video}.txt"] = "1,2,3,4\n"
        files[f"TRAIN_{chunk}/frames/{video}/0.jpg"] = JPEG
    source, target = write(tmp_path / "tn", files), tmp_path / "tn_lmdb"
    for plan in plan_lmdb("trackingnet", source, target):
        build_lmdb(plan)
    assert set(stored(target / "TRAIN_0_lmdb")) == {
        "anno/a_0.txt", "anno/b-1.txt", "frames/a_0/0.jpg", "frames/b-1/0.jpg"
    }  # fmt: skip
    assert write_sequence_list(target) == 3
    assert json.loads((target / "seq_list.json").read_text()) == [[0, "a_0"], [0, "b-1"], [3, "c"]]
    dataset = build_dataset("TRACKINGNET:0,3", load_paths({"trackingnet_lmdb": target}), lmdb=True)
    assert [s.name for s in (dataset[i] for i in range(3))] == ["a_0", "b-1", "c"]
    with pytest.raises(PlanError, match="TRAIN_5/anno is missing"):
        plan_lmdb("trackingnet", source, target, [5])


def test_trackingnet_chunks_may_be_empty(tmp_path: Path) -> None:
    """As in small synthetic trees."""
    files: dict[str, str | bytes] = {"TRAIN_4/anno/v.txt": "1,2,3,4\n", "TRAIN_4/frames/v/0.jpg": JPEG}
    source, target = write(tmp_path / "tn", files), tmp_path / "lmdb"
    for chunk in range(12):
        for part in ("anno", "frames"):
            (source / f"TRAIN_{chunk}/{part}").mkdir(parents=True, exist_ok=True)
    for plan in plan_lmdb("trackingnet", source, target):
        build_lmdb(plan)
    write_sequence_list(target)
    folders = build_dataset("TRACKINGNET", load_paths({"trackingnet": source}))
    copy = build_dataset("TRACKINGNET", load_paths({"trackingnet_lmdb": target}), lmdb=True)
    assert [dataset[i].name for dataset in (folders, copy) for i in range(len(dataset))] == ["v", "v"]


def test_coco_and_vid_take_what_readers_need(tmp_path: Path) -> None:
    coco = write(
        tmp_path / "coco",
        {
            "annotations/instances_train2017.json": "{}",
            "annotations/captions_train2017.json": "{}",
            "images/train2017/1.jpg": JPEG,
            "images/val2017/2.jpg": JPEG,
        },
    )
    build_lmdb(plan_lmdb("coco", coco, tmp_path / "coco_lmdb")[0])
    assert set(stored(tmp_path / "coco_lmdb")) == {"annotations/instances_train2017.json", "images/train2017/1.jpg"}
    video = "VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"
    size = "<size><width>32</width><height>24</height></size>"
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox>"
    thing = f"<object><trackid>0</trackid><name>n1</name>{box}<occluded>0</occluded></object>"
    vid = write(
        tmp_path / "vid",
        {
            f"Annotations/{video}/000000.xml": f"<annotation>{size}{thing}</annotation>",
            f"Data/{video}/000000.JPEG": JPEG,
        },
    )
    build_lmdb(plan_lmdb("vid", vid, tmp_path / "vid_lmdb")[0])
    content = stored(tmp_path / "vid_lmdb")
    assert set(content) == {"cache.json", f"Data/{video}/000000.JPEG"}
    assert json.loads(content["cache.json"])[0]["anno"] == [[1, 2, 10, 10]]


def test_rgbt_keys_are_relative_paths(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "boy/visible/v1.jpg": JPEG,
        "boy/infrared/i1.jpg": JPEG,
        "boy/visible.txt": "1,2,3,4",
    }
    build_lmdb(plan_lmdb("lasher", write(tmp_path / "lasher", files), tmp_path / "lmdb")[0])
    assert set(stored(tmp_path / "lmdb")) == set(files)


def test_a_large_copy_takes_the_room_of_its_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    big = cv2.imencode(".png", noise)[1].tobytes()
    source = write(tmp_path / "set", {f"s/{i:03d}.png": big for i in range(10)})
    assert build_lmdb(plan_lmdb("lasher", source, tmp_path / "lmdb")[0]).state == "complete"
    assert set(stored(tmp_path / "lmdb").values()) == {big}
    assert 10 * len(big) < (tmp_path / "lmdb" / "data.mdb").stat().st_size < 11 * len(big)


@pytest.mark.slow
def test_sigkill_and_resume(tmp_path: Path) -> None:
    """Killed in the middle: what was stored is not written again, and the copy is the one an unbroken run makes."""
    source, target = lasot_tree(tmp_path / "lasot", ("bear-1", "bear-2"), frames=100), tmp_path / "lasot_lmdb"
    program, batches = tmp_path / "program.py", tmp_path / "batches"
    program.write_text(
        "import sys, time; from pathlib import Path; from lib.data import lmdb_build as b; b.BATCH_FILES = 10\n"
        "[plan] = b.plan_lmdb('lasot', Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "b.build_lmdb(plan, progress=lambda n: (open(sys.argv[3], 'a').write('.'), time.sleep(0.1)))\n"
    )
    run_and_kill([program, source, target, batches], lambda: batches.exists() and batches.stat().st_size >= 4)
    assert not target.exists()
    assert finished_build(plan_lmdb("lasot", source, target)[0]) is None
    first = run_python(["tracking/build_lmdb.py", "--dataset=lasot", f"--source={source}", f"--target={target}"])
    assert first.returncode == 0, first.stderr
    assert "going on with an interrupted build" in first.stdout
    written = int(first.stdout.split("complete: 206 files, ")[1].split(" written")[0])
    assert 206 - 60 <= written <= 206 - 40
    again = build_lmdb(plan_lmdb("lasot", source, tmp_path / "whole")[0])
    assert again.written == 206
    assert stored(target) == stored(tmp_path / "whole")
    started = time.monotonic()
    assert build_lmdb(plan_lmdb("lasot", source, target)[0]).state == "was complete"
    assert time.monotonic() - started < 1


def test_broken_pictures_are_listed_and_can_be_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main: Main
) -> None:
    source, target = lasot_tree(tmp_path / "lasot"), tmp_path / "lasot_lmdb"
    cut, page = source / "bear/bear-1/img/00000002.jpg", source / "bear/bear-1/img/00000003.jpg"
    cut.write_bytes(JPEG[:-40])
    page.write_bytes(b"<html>404</html>")
    command = ["--dataset", "lasot", "--source", str(source), "--target", str(target)]
    assert main(command) == 1
    assert "2 broken files" in capsys.readouterr().err
    listed = (tmp_path / "lasot_lmdb.broken.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [str(cut), str(page)]
    assert "cut short" in listed[0]
    assert not target.exists()
    page.write_bytes(JPEG)
    assert main([*command, "--allow_broken"]) == 0
    assert "2 written" in capsys.readouterr().out
    assert len((tmp_path / "lasot_lmdb.broken.txt").read_text().splitlines()) == 1
    assert stored(target)["bear/bear-1/img/00000002.jpg"] == JPEG[:-40]
    assert stored(target)["bear/bear-1/img/00000003.jpg"] == JPEG
    assert main(command) == 0
    assert "complete (12 files)" in capsys.readouterr().out


def test_broken_picture_of_a_killed_run_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = lasot_tree(tmp_path / "lasot"), tmp_path / "lasot_lmdb"
    cut = source / "bear/bear-1/img/00000002.jpg"
    cut.write_bytes(JPEG[:-40])
    [plan] = plan_lmdb("lasot", source, target)

    def stop(files: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_lmdb(plan, allow_broken=True, progress=stop)
    assert [row.path for row in build_lmdb(plan).broken] == [str(cut)]
    cut.write_bytes(JPEG)
    report = build_lmdb(plan)
    assert (report.state, report.broken) == ("complete", [])
    assert stored(target)["bear/bear-1/img/00000002.jpg"] == JPEG


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], main: Main) -> None:
    with pytest.raises(PlanError, match="is not a folder; expected layout: <class>"):
        plan_lmdb("lasot", tmp_path / "none", tmp_path / "x")
    (tmp_path / "empty").mkdir()
    for key in ("lasot", "got10k", "trackingnet", "coco", "vid", "lasher"):
        with pytest.raises(PlanError, match="expected layout"):
            plan_lmdb(key, tmp_path / "empty", tmp_path / "x")
    source = lasot_tree(tmp_path / "lasot")
    foreign = tmp_path / "foreign"
    with lmdb.open(str(foreign)):
        pass
    with pytest.raises(BuildError, match="did not make"):
        build_lmdb(plan_lmdb("lasot", source, foreign)[0])
    assert main(["--dataset", "lasott", "--source", str(source), "--target", str(foreign)]) == 2
    assert capsys.readouterr().err.startswith("error: unknown data set key 'lasott'; did you mean 'lasot'")


def test_what_is_at_the_target_is_looked_at_first_and_copies_of_two_folders_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main: Main
) -> None:
    one, two = lasot_tree(tmp_path / "one"), lasot_tree(tmp_path / "two", ("bear-2",))
    (tmp_path / "file").write_text("")
    for target, said in (("file", "is a file; --target"), ("one", "holds other files than an LMDB copy")):
        assert main(["--dataset", "lasot", "--source", str(two), "--target", str(tmp_path / target)]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / f"{target}.partial").exists()
    (tmp_path / "new").mkdir()
    (one / "bear/bear-1/img/00000002.jpg").write_bytes(JPEG[:-20])
    new = ["--dataset", "lasot", "--target", str(tmp_path / "new"), "--source"]
    assert main([*new, str(one)]) == 1
    assert main([*new, str(two)]) == 2
    assert f"new.partial is a copy of {one}, not of {two}" in capsys.readouterr().err
    assert main([*new, str(one), "--allow_broken"]) == 0
    assert main([*new, str(two)]) == 2
    assert f"new is a copy of {one}, not of {two}" in capsys.readouterr().err


def test_link_in_a_circle_ends(tmp_path: Path) -> None:
    source = lasot_tree(tmp_path / "lasot")
    (source / "bear/bear-1/again").symlink_to(source)
    [plan] = plan_lmdb("lasot", source, tmp_path / "x")
    assert lmdb_build.count_files(plan) == 12
