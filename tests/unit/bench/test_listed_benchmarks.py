"""Benchmarks that are listed from the disk: ITB, TC-128, VOT's short-term sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.bench.benchmarks import BenchmarkError, get_benchmark
from tests.unit.bench.test_benchmarks import paths_at, rows, touch


def test_itb_sequences_are_named_by_video_and_by_scene_too_where_two_scenes_share_a_name(tmp_path: Path) -> None:
    for place, separator in (("Cartoon/run", ","), ("Sport/run", " "), ("Sport/ball", "\t")):
        touch(tmp_path / "itb" / place, ["00001.jpg", "00002.jpg", "00010.jpg"])
        (tmp_path / "itb" / place / "groundtruth.txt").write_text(rows(3, first=5, separator=separator))
    found = {s.name: s for s in get_benchmark("itb").sequences(paths_at(tmp_path))}
    assert set(found) == {"Cartoon_run", "Sport_run", "ball"}
    assert found["ball"].frame_path(2).endswith("Sport/ball/00010.jpg")
    assert found["Sport_run"].boxes_xywh[1].tolist() == [6, 2, 10, 8]


def test_tc128_frames_run_from_the_first_to_the_last_picture_that_its_file_names(tmp_path: Path) -> None:
    for name in ("Bike_ce", "Bolt"):
        touch(tmp_path / "tc128" / name / "img", [f"{i:04d}.jpg" for i in range(1, 9)])
        (tmp_path / "tc128" / name / f"{name}_gt.txt").write_text(rows(4))
        (tmp_path / "tc128" / name / f"{name}_frames.txt").write_text("3,6\n")
    (sequence,) = get_benchmark("tc128ce").sequences(paths_at(tmp_path))
    assert (sequence.name, len(sequence), sequence.frame_path(0)[-8:]) == ("Bike_ce", 4, "0003.jpg")
    assert len(get_benchmark("tc128").names(paths_at(tmp_path))) == 2


def test_vot_regions_become_upright_boxes(tmp_path: Path) -> None:
    root = tmp_path / "vot2018"
    for name in ("ants1", "left_out"):
        touch(root / name / "color", ["00000001.jpg", "00000002.jpg", "00000003.jpg"])
        (root / name / "groundtruth.txt").write_text("10,40,30,20,50,30,20,60\n1.5,2,3,4\nm7,8,30,20,5,600\n")
    (root / "list.txt").write_text("ants1\n")
    (sequence,) = get_benchmark("vot18").sequences(paths_at(tmp_path))
    assert sequence.boxes_xywh.tolist() == [[10, 20, 40, 40], [1.5, 2, 3, 4], [7, 8, 30, 20]]
    (root / "ants1/groundtruth.txt").write_text("1,2,3,4\n1,2,3,4,5\n1,2,3,4\n")
    with pytest.raises(BenchmarkError, match="line 2: expected a box, a polygon or a mask"):
        get_benchmark("vot18").sequences(paths_at(tmp_path))
