"""Readers on published annotation files, parsed here in another way: a writer and a reader of one hand only agree.

The files are not part of the repository: `shared/data/annotations` in a folder above it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.bench import Result
from lib.bench.benchmarks import get_benchmark
from lib.bench.metrics import evaluate
from lib.paths import load_paths

ROOT = Path(__file__).resolve().parents[3]
REAL = next((p for up in ROOT.parents if (p := up / "shared/data/annotations").is_dir()), None)
pytestmark = pytest.mark.skipif(REAL is None, reason="no shared/data/annotations in a folder above the repository")


def numbers(*parts: str) -> np.ndarray:
    """A real file as an array, by numpy alone."""
    assert REAL is not None
    text = REAL.joinpath(*parts).read_text().replace(",", " ").replace("\t", " ")
    return np.array([[float(v) for v in line.split()] for line in text.splitlines() if line.strip()])


def names_in(*parts: str) -> list[str]:
    assert REAL is not None
    return sorted(p.stem for p in REAL.joinpath(*parts).iterdir())


def copy(target: Path, *parts: str) -> None:
    assert REAL is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(REAL.joinpath(*parts).read_bytes())


def touch(folder: Path, pattern: str, count: int, first: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / (pattern % (first + i))).touch()


def test_lasot(tmp_path: Path) -> None:
    for name in names_in("lasot", "gt"):
        folder = tmp_path / "lasot" / name.split("-")[0] / name
        copy(folder / "groundtruth.txt", "lasot", "gt", f"{name}.txt")
        absent = numbers("lasot", "absent", f"{name}.txt")[:, 0].astype(int)
        (folder / "full_occlusion.txt").write_text(",".join(map(str, absent)) + "\n")
        (folder / "out_of_view.txt").write_text(",".join("0" * len(absent)) + "\n")
        touch(folder / "img", "%08d.jpg", len(absent))
        (video,) = get_benchmark("lasot").sequences(load_paths(data_dir=tmp_path), [name])
        np.testing.assert_array_equal(video.boxes_xywh, numbers("lasot", "gt", f"{name}.txt"))
        assert video.present is not None
        np.testing.assert_array_equal(video.present, absent == 0)
        assert 0 < absent.sum() < len(absent), "the real labels have both values"
        assert not video.visible[absent == 1].any()


@pytest.mark.parametrize("benchmark", ["lasher", "rgbt210"])
def test_one_ground_truth_for_two_cameras(benchmark: str, tmp_path: Path) -> None:
    key, file = {"lasher": ("lasher_test", "visible.txt"), "rgbt210": ("rgbt210", "init.txt")}[benchmark]
    names = names_in(benchmark, "gt")
    paths = load_paths({key: tmp_path})
    for name in names:
        copy(tmp_path / name / file, benchmark, "gt", f"{name}.txt")
        frames = len(numbers(benchmark, "gt", f"{name}.txt"))
        touch(tmp_path / name / "visible", "v%06d.jpg", frames)
        touch(tmp_path / name / "infrared", "i%06d.jpg", frames, first=7)
    videos = get_benchmark(benchmark).sequences(paths, names)
    for video in videos:
        np.testing.assert_array_equal(video.boxes_xywh, numbers(benchmark, "gt", f"{video.name}.txt"))
        assert video.frame_path(3).endswith("visible/v000004.jpg")
    scores = evaluate(benchmark, [v.sequence_result([Result(v.name, v.boxes_xywh)]) for v in videos])
    assert scores.headline["precision"] == pytest.approx(100)


def test_rgbt234_has_a_ground_truth_for_each_camera(tmp_path: Path) -> None:
    names = names_in("rgbt234", "gt")
    for name in names:
        for part in ("visible", "infrared"):
            copy(tmp_path / name / f"{part}.txt", "rgbt234", "gt", name, f"{part}.txt")
            touch(tmp_path / name / part, "%05d.jpg", len(numbers("rgbt234", "gt", name, f"{part}.txt")))
    videos = get_benchmark("rgbt234").sequences(load_paths({"rgbt234": tmp_path}), names)
    for video in videos:
        np.testing.assert_array_equal(video.boxes_xywh, numbers("rgbt234", "gt", video.name, "visible.txt"))
        assert video.second_boxes_xywh is not None
        np.testing.assert_array_equal(video.second_boxes_xywh, numbers("rgbt234", "gt", video.name, "infrared.txt"))
    assert any((v.boxes_xywh != v.second_boxes_xywh).any() for v in videos), "the real files differ between cameras"
    thermal = [
        v.sequence_result([Result(v.name, v.second_boxes_xywh)]) for v in videos if v.second_boxes_xywh is not None
    ]
    assert evaluate("rgbt234", thermal).headline["precision"] == pytest.approx(100)


def test_gtot_corners(tmp_path: Path) -> None:
    names = names_in("gtot", "gt")
    for name in names:
        for part, file in (("v", "groundTruth_v.txt"), ("i", "groundTruth_i.txt")):
            copy(tmp_path / name / file, "gtot", "gt", name, file)
            touch(tmp_path / name / part, f"%05d{part}.png", len(numbers("gtot", "gt", name, file)))
    for video in get_benchmark("gtot").sequences(load_paths({"gtot": tmp_path}), names):
        for boxes, file in ((video.boxes_xywh, "groundTruth_v.txt"), (video.second_boxes_xywh, "groundTruth_i.txt")):
            assert boxes is not None
            corners = numbers("gtot", "gt", video.name, file).reshape(-1, 2, 2)
            np.testing.assert_array_equal(boxes[:, :2], corners.min(axis=1))
            np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], corners.max(axis=1))


def test_visevent(tmp_path: Path) -> None:
    """The published evaluation files say 1 for absent, the data set's own `absent_label.txt` 1 for present."""
    names = names_in("visevent", "gt")
    root = tmp_path / "visevent/test"
    for name in names:
        copy(root / name / "groundtruth.txt", "visevent", "gt", f"{name}.txt")
        absent = numbers("visevent", "absent", f"{name}.txt")[:, 0].astype(int)
        (root / name / "absent_label.txt").write_text("".join(f"{1 - label}\n" for label in absent))
        for part in ("vis_imgs", "event_imgs"):
            touch(root / name / part, "frame%04d.bmp", len(absent), first=0)
    (root / "testlist.txt").write_text("".join(f"{name}\n" for name in names))
    videos = get_benchmark("visevent").sequences(load_paths(data_dir=tmp_path))
    assert any(video.start > 0 or not video.visible.all() for video in videos), "the real labels have both values"
    for video in videos:
        present = numbers("visevent", "absent", f"{video.name}.txt")[:, 0] == 0
        boxes = numbers("visevent", "gt", f"{video.name}.txt")
        np.testing.assert_array_equal(video.boxes_xywh, boxes)
        np.testing.assert_array_equal(video.present, present)
        usable = present & (boxes[:, 2:] > 0).all(axis=1)
        np.testing.assert_array_equal(video.visible, usable)
        assert video.start == np.flatnonzero(usable)[0]
