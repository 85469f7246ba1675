"""Ground truth from text files alone."""

from __future__ import annotations

from pathlib import Path

from lib.bench import read_truth


def test_gtot_corners_may_come_in_any_order(tmp_path: Path) -> None:
    folder = tmp_path / "BlackCar"
    folder.mkdir()
    (folder / "groundTruth_v.txt").write_text("10 20 40 60\n40 60 10 20\n")
    (folder / "groundTruth_i.txt").write_text("12 60 42 20\n12 20 42 60\n")
    (tmp_path / "._BlackCar.txt").write_bytes(b"\0\5")
    (sequence,) = read_truth(tmp_path)
    assert sequence.second_boxes_xywh is not None
    assert sequence.boxes_xywh.tolist() == [[10, 20, 30, 40]] * 2
    assert sequence.second_boxes_xywh.tolist() == [[12, 20, 30, 40]] * 2
