"""Synthetic benchmarks on disk: every layout comes back through its reader, and an interrupted run is taken up."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from lib.data import Dataset, Modality, datasets, open_store
from synthetic import WRITERS, Job, WorldConfig, dataset_of, usual_place, write_benchmark
from tests.support import layouts as _registered  # noqa: F401
from tests.support.commands import import_command, run_and_kill

CONFIG = WorldConfig(width=96, height=72, length=24)
ROOT = Path(__file__).resolve().parents[3]

READERS = {
    "synthetic": lambda root: datasets.LasotDataset(open_store(root)),
    "lasot": lambda root: datasets.LasotDataset(open_store(root)),
    "got10k": lambda root: datasets.Got10kDataset(open_store(root)),
    "trackingnet": lambda root: datasets.TrackingNetDataset(root, chunks=[0, 1]),
    "coco": lambda root: datasets.CocoDataset(open_store(root), min_side=0),
    "vid": lambda root: datasets.ImagenetVidDataset(open_store(root)),
    "youtube_vos": lambda root: datasets.YoutubeVosDataset(open_store(root), min_area=0),
    "tnl2k": lambda root: datasets.Tnl2kDataset(open_store(root)),
    "vasttrack": lambda root: datasets.VastTrackDataset(open_store(root)),
    "lasher": lambda root: datasets.LasherDataset(open_store(root)),
    "rgbt234": lambda root: datasets.LasherDataset(open_store(root)),
    "rgbt210": lambda root: datasets.LasherDataset(open_store(root)),
    "gtot": lambda root: _gtot(root),
    "depthtrack": lambda root: datasets.DepthTrackDataset(open_store(root), min_side=0),
    "vot_rgbd22": lambda root: datasets.DepthTrackDataset(open_store(root), min_side=0),
    "visevent": lambda root: datasets.VisEventDataset(open_store(root), min_side=0),
}


JPEG_AUX = ("lasher", "rgbt234", "rgbt210")


def _gtot(root: Path) -> datasets.GtotDataset:
    dataset = datasets.GtotDataset(open_store(root))
    dataset.names = [name for name in dataset.names if (root / name).is_dir()]
    return dataset


def _files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("layout", "split", "place"),
    [
        ("lasher", "train", "lasher/trainingset"),
        ("lasher", "val", "lasher/trainingset"),
        ("lasher", "test", "lasher/testingset"),
        ("got10k", "val", "got10k/val"),
        ("lasot", "test", "lasot"),
        ("vid", "train", "vid"),
        ("synthetic", "test", "synthetic/test"),
    ],
)
def test_usual_places_are_those_that_readers_look_at(layout: str, split: str, place: str) -> None:
    assert usual_place(layout, split, Path("data")) == Path("data", place)


def test_every_layout_has_a_reader() -> None:
    assert set(WRITERS) == set(READERS)


@pytest.mark.parametrize("layout", [name for name in READERS if name not in ("coco", "youtube_vos", "vid")])
def test_layout_comes_back_through_its_reader(layout: str, tmp_path: Path) -> None:
    config = WorldConfig(96, 72, 12, attributes=("OV", "FOC"))
    job = Job(layout, tmp_path, 2, seed=4, split=WRITERS[layout].splits[0], config=config)
    names = write_benchmark(job)
    source, read = dataset_of(job), READERS[layout](tmp_path)
    assert len(read) == 2
    lossless = layout in ("visevent", "gtot")
    for number, name in enumerate(names):
        found = _by_name(read, name)
        truth = source.cameras(number).world.truth
        here = ~truth.absent
        assert len(found) == 12
        assert np.abs(found.boxes_xywh[here] - truth.boxes_xywh[here]).max() <= 1.0
        assert (found.valid == here).all()
        assert (found.visible == here).all()
        for t in (0, 11):
            frame, made = found.read_frame(t), source[number].read_frame(t)
            assert np.abs(frame.rgb.astype(int) - made.rgb).mean() <= (0 if lossless else 6)
            assert (frame.aux is None) == (found.modality is Modality.RGB)
            if frame.aux is not None and made.aux is not None:
                assert np.abs(frame.aux.astype(int) - made.aux).mean() <= (4 if layout in JPEG_AUX else 0)
    tags = json.loads((tmp_path / "attributes.json").read_text())
    assert set(tags) == set(names)
    assert json.loads((tmp_path / "synthetic.json").read_text())[job.split]["seed"] == 4


def _by_name(dataset: Dataset, name: str) -> object:
    return next(s for s in (dataset[k] for k in range(len(dataset))) if s.name == name)


def test_coco_comes_back(tmp_path: Path) -> None:
    job = Job("coco", tmp_path, 3, config=WorldConfig(96, 72, 1))
    write_benchmark(job)
    read, source = READERS["coco"](tmp_path), dataset_of(job)
    assert len(read) >= 3
    boxes = np.concatenate([read[k].boxes_xywh for k in range(len(read))])
    for number in range(3):
        assert np.abs(boxes - source[number].boxes_xywh[0]).max(1).min() < 0.02
    assert read[0].read_frame(0).rgb.shape == (72, 96, 3)


def test_youtube_vos_comes_back_with_the_visible_pixels(tmp_path: Path) -> None:
    job = Job("youtube_vos", tmp_path, 2, seed=4, config=WorldConfig(96, 72, 24, attributes=("FOC",)))
    names = write_benchmark(job)
    read, source = READERS["youtube_vos"](tmp_path), dataset_of(job)
    assert [video.name for video in read] == [f"{name}_1" for name in names]
    for number, video in enumerate(read):
        made = source[number]
        assert len(video) == 5
        for i, mask in enumerate(video.masks(range(5))):
            assert np.array_equal(mask, made.read_mask(5 * i))
            x, y, w, h = video.boxes_xywh[i].astype(int)
            assert mask[y : y + h, x : x + w].sum() == mask.sum()
            frame = made.read_frame(5 * i).rgb.astype(int)
            assert np.abs(video.read_frame(i).rgb.astype(int) - frame).mean() <= 6


def test_vid_comes_back_as_a_tracklet_until_the_target_is_absent(tmp_path: Path) -> None:
    job = Job("vid", tmp_path, 2, seed=1, config=WorldConfig(96, 72, 24, attributes=("OV",)))
    write_benchmark(job)
    read, source = READERS["vid"](tmp_path), dataset_of(job)
    for number in range(2):
        truth = source.cameras(number).world.truth
        first_absent = int(np.argmax(truth.absent)) if truth.absent.any() else 24
        assert len(read[number]) == first_absent
        assert np.abs(read[number].boxes_xywh - truth.boxes_xywh[:first_absent]).max() <= 1.0


def test_test_parts_hold_back_what_their_data_set_holds_back(tmp_path: Path) -> None:
    for layout in ("got10k", "trackingnet"):
        root = tmp_path / layout
        write_benchmark(Job(layout, root, 1, split="test", config=WorldConfig(64, 64, 3)))
        kept = [p for p in root.rglob("*.txt") if p.name == "groundtruth.txt" or p.parent.name == "anno"]
        text = kept[0].read_text()
        assert text.endswith("\n")
        assert len(text.splitlines()) == 1
    assert not list((tmp_path / "got10k").rglob("*.label"))


def test_parts_of_one_seed_share_no_world(tmp_path: Path) -> None:
    train, test = (dataset_of(Job("synthetic", tmp_path, 50, seed=7, split=s)) for s in ("train", "test"))
    seeds = [{d.world_seed(k) for k in range(50)} for d in (train, test)]
    assert not seeds[0] & seeds[1]


def test_given_names_and_their_number(tmp_path: Path) -> None:
    names = ("bear-1", "bear-2")
    job = Job("lasot", tmp_path, 2, config=WorldConfig(64, 64, 2), names=names)
    assert write_benchmark(job) == list(names)
    assert (tmp_path / "bear/bear-2/img/00000002.jpg").is_file()
    with pytest.raises(ValueError, match="3 sequences need as many different names; 2 were given"):
        write_benchmark(Job("lasot", tmp_path / "other", 3, config=WorldConfig(64, 64, 2), names=names))


def test_a_folder_is_not_mixed_with_another_seed(tmp_path: Path) -> None:
    write_benchmark(Job("synthetic", tmp_path, 1, seed=1, config=WorldConfig(64, 64, 2)))
    with pytest.raises(ValueError, match=r"already holds a train part made with seed = 1, not 2"):
        write_benchmark(Job("synthetic", tmp_path, 1, seed=2, config=WorldConfig(64, 64, 2)))
    with pytest.raises(ValueError, match=r"part made with length = 2, not 3; choose"):
        write_benchmark(Job("synthetic", tmp_path, 1, seed=1, config=WorldConfig(64, 64, 3)))
    more = write_benchmark(Job("synthetic", tmp_path, 3, seed=1, config=WorldConfig(64, 64, 2)))
    assert len(more) == 3


@pytest.mark.slow
def test_killed_run_is_taken_up_and_ends_the_same(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    size = ("--sequences", 6, "--frames", 24, "--width", 96, "--height", 72)
    command = ["tracking/make_synthetic_data.py", *size, "--workers", 1, "--output", killed]
    run_and_kill(command, lambda: list(killed.glob("*/*-*/groundtruth.txt")))
    done = {p: p.stat().st_mtime_ns for p in killed.glob("*/[!.]*-*/groundtruth.txt")}
    job = Job("synthetic", killed, 6, config=CONFIG)
    fresh: list[int] = []
    write_benchmark(job, progress=lambda _, written: fresh.append(written))
    write_benchmark(Job("synthetic", whole, 6, config=CONFIG))
    assert fresh[-1] == 6 - len(done)
    assert all(p.stat().st_mtime_ns == then for p, then in done.items())
    kept = [f for f in _files(killed) if "/." not in f]
    assert kept == _files(whole)
    assert not filecmp.cmpfiles(killed, whole, kept, shallow=False)[1]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    job = Job("synthetic", tmp_path / "one", 3, config=WorldConfig(64, 64, 3))
    write_benchmark(job)
    before = set(active_children())
    write_benchmark(Job("synthetic", tmp_path / "two", 3, config=WorldConfig(64, 64, 3)), workers=2)
    assert set(active_children()) <= before  # one that is left behind may keep a caller that was forked from its end
    names = _files(tmp_path / "one")
    assert names == _files(tmp_path / "two")
    assert not filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", names, shallow=False)[1]


def test_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = import_command("make_synthetic_data")
    assert command.main(["--layout", "lasott", "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'lasot'" in error
    assert "Traceback" not in error


RENDERING = """
import sys
from pathlib import Path
from synthetic import Job, WorldConfig, write_benchmark

if __name__ == "__main__":
    config = WorldConfig(width=64, height=64, length=4)
    write_benchmark(Job("synthetic", Path(sys.argv[1]), 200, config=config), workers=2)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_no_process_outlives_a_killed_one(tmp_path: Path) -> None:
    program, made = tmp_path / "render.py", tmp_path / "made"
    program.write_text(RENDERING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(program), str(made)], env=environment)
    deadline = time.monotonic() + 240
    while not list(made.glob("*/*/groundtruth.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    while any(runs(Path(f"/proc/{child}/stat")) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
