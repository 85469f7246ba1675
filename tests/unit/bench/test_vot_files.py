"""Trajectories as the VOT toolkit keeps them: ours are read by it, its own by us, damage is named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from lib.bench import Result, ResultFileError, ResultFolder, read_boxes
from lib.bench.vot import format_values, is_trajectory, read_marks, read_regions, read_values

BOXES = np.array([[1, 2, 30, 40], [1.23456, -2.5, 30.25, 40], [2, 3, 1e3, 5]])


def written(folder: Path) -> ResultFolder:
    results = ResultFolder(folder, "vot")
    results.write(Result("a_seq_00000007", BOXES, np.array([1.0, 0.1, 0.25]), np.array([0.5, 0.01, 0.02])))
    return results


def test_a_run_lies_as_the_toolkit_has_it(tmp_path: Path) -> None:
    results = written(tmp_path)
    assert (tmp_path / "a_seq/a_seq_00000007.txt").read_text().splitlines()[:2] == [
        "1",
        "1.2346,-2.5000,30.2500,40.0000",
    ]
    assert (tmp_path / "a_seq/a_seq_00000007_confidence.value").read_text() == "\n0.1\n0.25\n"
    back = read_boxes(results.boxes_file("a_seq_00000007"))
    np.testing.assert_allclose(back[1:], BOXES[1:], atol=6e-5)
    assert np.isnan(back[0]).all()
    scores = read_values(tmp_path / "a_seq/a_seq_00000007_confidence.value")
    assert np.isnan(scores[0])
    assert scores[1:].tolist() == [0.1, 0.25]
    assert results.seconds("a_seq_00000007").tolist() == [0.5, 0.01, 0.02]
    np.testing.assert_array_equal(read_boxes(tmp_path / "float" / "a_seq_00000007.txt"), BOXES)


def test_the_toolkit_reads_ours_and_we_read_its_binary(tmp_path: Path) -> None:
    pytest.importorskip("vot", reason="the VOT toolkit is not installed (bash install.sh)")
    from vot.region import Polygon, Special
    from vot.region.io import read_trajectory, write_trajectory

    written(tmp_path)
    theirs = read_trajectory(str(tmp_path / "a_seq/a_seq_00000007.txt"))
    assert isinstance(theirs[0], Special)
    assert (theirs[2].x, theirs[2].width) == (2, 1000)
    write_trajectory(str(tmp_path / "x.bin"), [*theirs, Special(0)])
    rows = read_regions(tmp_path / "x.bin")
    np.testing.assert_allclose(rows[1:3], BOXES[1:], atol=6e-5)
    assert np.isnan(rows[[0, 3]]).all()
    polygon = Polygon([(1, 2), (9, 3), (8, 7), (0, 6)])
    write_trajectory(str(tmp_path / "p.bin"), [Special(1), polygon, Special(2), Special(0)])
    assert read_regions(tmp_path / "p.bin", polygons=True)[1].tolist() == [1, 2, 9, 3, 8, 7, 0, 6]
    marks = read_marks(tmp_path / "p.bin")
    assert marks is not None
    assert marks.tolist() == [1, -1, 2, 0]


def test_values_keep_every_digit_and_their_gaps(tmp_path: Path) -> None:
    values = np.array([np.nan, 0.1 + 0.2, np.nan, 1e-9])
    (tmp_path / "v.value").write_text(format_values(values))
    np.testing.assert_array_equal(read_values(tmp_path / "v.value"), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\n1,2,3,4\n1,2,3,4,5\n", "line 3: 5 numbers; expected a mark"),
        (b"1\nm0,0,2,2,1,3\n", "line 2: 'm0,0,2,2,1,3' is neither"),
        (b"1\n1,2,3,1_0\n", "line 2: '1,2,3,1_0' is neither"),
        (b"1.5\n1,2,3,4\n", "line 1: 1 numbers; expected a mark"),
        (b"", "empty"),
        (struct.pack("<hI", 1, 2) + struct.pack("<BI", 0, 1), "cut short"),
        (struct.pack("<hI", 1, 1) + struct.pack("<BH", 3, 0), "frame 0 is a mask"),
        (struct.pack("<hI", 1, 1) + struct.pack("<BH10f", 2, 5, *range(10)), "frame 0 is a polygon of other than four"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(ResultFileError, match=f"x.txt: {message}"):
        read_regions(path)


def test_a_plain_result_file_is_no_trajectory(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1,2,3,4\n")
    assert not is_trajectory(tmp_path / "x.txt")
