"""Result files: formats to the byte, and reading what other trackers write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.bench import FORMATS, Result, ResultFileError, ResultFolder, read_boxes, write_boxes, write_column
from lib.bench.benchmarks import get_benchmark

BOXES = np.array([[10.75, -3.9, 40.5, 20.25], [11.999, 4.001, 1e-3, 100000.5]])


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if not form.toolkit])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    write_boxes(tmp_path / "a" / "x.txt", BOXES, name)
    wanted = np.trunc(BOXES) if FORMATS[name].whole else BOXES
    np.testing.assert_allclose(read_boxes(tmp_path / "a" / "x.txt"), wanted, atol=0.0051)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.txt"]


def test_formats_are_byte_exact(tmp_path: Path) -> None:
    lines = {
        "int_tab": "10\t-3\t40\t20",
        "float_comma": "10.75000000000000,-3.90000000000000,40.50000000000000,20.25000000000000",
        "float_space": " ".join(f"{v:.18e}" for v in BOXES[0]),
        "got10k": "10.750,-3.900,40.500,20.250",
        "trackingnet": "10.75,-3.90,40.50,20.25",
    }
    for name, line in lines.items():
        write_boxes(tmp_path / "x.txt", BOXES, name)
        assert (tmp_path / "x.txt").read_bytes().split(b"\n")[0].decode() == line


@pytest.mark.parametrize(
    "text", ["1,2,3,4\n5,6,7,8\n", "1\t2\t3\t4\r\n5\t6\t7\t8", "1 2  3 4\n5 6 7 8\n\n", "1, 2, 3, 4\n5,6, 7,8"]
)
def test_any_delimiter_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.txt").write_bytes(text.encode())
    np.testing.assert_array_equal(read_boxes(tmp_path / "x.txt"), [[1, 2, 3, 4], [5, 6, 7, 8]])


def test_corners_become_boxes(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("10 20 40 20 40 60 10 60\n")
    np.testing.assert_array_equal(read_boxes(tmp_path / "x.txt"), [[10, 20, 30, 40]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1,2,3,4\n1,2,3\n", "line 2 has 3 numbers"),
        ("1,2,3,4\n1,2,oops,4\n", "line 2: 'oops' is not a number"),
        ("1,2,3\n", "3 numbers a line"),
        ("1,2,3,4\n1,,2,3,4\n", "line 2: an empty field"),
        ("1,5;2,5;3,5;4,5\n", "line 1: four numbers with decimal commas, or eight"),
        ("1,2,3,4,5,6,7,8\n1,5\t2,5\t3,5\t4,5\n", "line 2: four numbers with decimal commas, or eight"),
        ("1 2 3 1_0\n", "line 1: '1_0' is not a number"),
        ("1,2,3,4\n\n1,2,3,4\n", "line 2: an empty line"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "seq.txt").write_text(text)
    with pytest.raises(ResultFileError, match=rf"seq\.txt.*{message}"):
        read_boxes(tmp_path / "seq.txt")


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finite box"):
        write_boxes(tmp_path / "x.txt", [[1, 2, 3, np.nan]], "int_tab")
    with pytest.raises(ValueError, match="did you mean 'int_tab'"):
        write_boxes(tmp_path / "x.txt", BOXES, "int_tabs")
    with pytest.raises(TypeError):
        write_column(tmp_path / "x.txt", [0.1, "a"])  # type: ignore[list-item]
    assert not list(tmp_path.iterdir())


def test_names_of_the_published_tester_of_gdstrack_are_an_option(tmp_path: Path) -> None:
    benchmark = get_benchmark("gtot").with_format("float_comma3_test")
    folder = ResultFolder(tmp_path, benchmark.result_format)
    folder.write(Result("car", BOXES, np.ones(2), np.ones(2)))
    assert (tmp_path / "test_car.txt").read_text().startswith("10.750,-3.900,40.500,20.250\n")
    assert not (tmp_path / "car.txt").exists()
    np.testing.assert_allclose(read_boxes(folder.boxes_file("car")), BOXES, atol=1e-3)
    with pytest.raises(ValueError, match="--result_format vot: GTOT needs one like float_space"):
        get_benchmark("gtot").with_format("vot")
