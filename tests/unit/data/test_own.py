"""Own folders of videos and frames: where sequences and boxes are found, formats, names, partial annotation."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import AnnotationError, check_part, choose_parts
from lib.data.datasets import OwnDataset, build_dataset
from lib.data.store import DirectoryStore
from lib.paths import load_paths
from lib.registry import UnknownNameError

BOXES = np.array([[10, 20, 30, 40], [11, 20, 30, 40], [12, 21, 30, 41]], dtype=float)


def shades(count: int) -> list[np.ndarray]:
    """Pictures that differ in their brightness."""
    return [np.full((96, 128, 3), 20 + 40 * i, np.uint8) for i in range(count)]


def write_frames(folder: Path, count: int = 3, pattern: str = "{:04d}.png", first: int = 0) -> None:
    folder.mkdir(parents=True)
    for i, picture in enumerate(shades(count)):
        cv2.imwrite(str(folder / pattern.format(first + i)), picture)


def write_video(path: Path, count: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (128, 96))
    for picture in shades(count):
        writer.write(picture)
    writer.release()


def text(rows: np.ndarray, separator: str = ",") -> str:
    return "".join(separator.join(f"{v:g}" for v in row) + "\n" for row in rows)


def opened(folder: Path):
    return build_dataset(f"FOLDER:{folder}", load_paths())


LOW, HIGH = BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]
CORNERS = np.stack([LOW[:, 0], LOW[:, 1], HIGH[:, 0], LOW[:, 1], HIGH[:, 0], HIGH[:, 1], LOW[:, 0], HIGH[:, 1]], axis=1)


@pytest.mark.parametrize("separator", [",", " ", "\t", ";", ", "])
@pytest.mark.parametrize("rows", [BOXES, CORNERS], ids=["box", "corners"])
@pytest.mark.parametrize(
    "place", ["seq/groundtruth.txt", "seq/groundtruth_rect.txt", "seq/GroundTruth.txt", "seq/seq.txt", "seq.txt"]
)
def test_box_files_of_the_usual_names_and_formats(tmp_path: Path, separator: str, rows: np.ndarray, place: str) -> None:
    write_frames(tmp_path / "seq")
    (tmp_path / place).write_text(text(rows, separator))
    video = opened(tmp_path).by_name("seq")
    np.testing.assert_allclose(video.boxes_xywh, BOXES)
    assert [int(video.read_frame(i).rgb[0, 0, 0]) for i in range(3)] == [20, 60, 100]


@pytest.mark.parametrize("pictures", ["img", "Frames", "color"])
def test_pictures_in_a_folder_of_the_sequence(tmp_path: Path, pictures: str) -> None:
    write_frames(tmp_path / "deep" / "er" / "seq" / pictures)
    (tmp_path / "deep" / "er" / "seq" / "groundtruth.txt").write_text(text(BOXES))
    assert len(opened(tmp_path).by_name("seq")) == 3


def test_videos_are_unpacked_once_and_again_when_they_change(tmp_path: Path) -> None:
    write_video(tmp_path / "my clip.avi")
    (tmp_path / "my clip.txt").write_text(text(BOXES))
    dataset = opened(tmp_path)
    video = dataset.by_name("my clip")
    assert [abs(int(video.read_frame(i).rgb[50, 50, 0]) - 20 - 40 * i) < 6 for i in (2, 0, 1)] == [True] * 3
    kept = tmp_path / ".frames" / "my clip.avi" / "00000001.jpg"
    stamp = kept.stat().st_mtime_ns
    assert opened(tmp_path).names == ["my clip"]  # what was unpacked is no sequence of its own
    assert len(opened(tmp_path)[0]) == 3
    assert kept.stat().st_mtime_ns == stamp
    write_video(tmp_path / "my clip.avi", 5)
    (tmp_path / "my clip.txt").write_text(text(BOXES[[0, 1, 2, 2, 2]]))
    os.utime(tmp_path / "my clip.avi", (time.time() + 5, time.time() + 5))
    assert len(opened(tmp_path)[0]) == 5


def test_one_video_alone_in_its_folder_takes_groundtruth_txt(tmp_path: Path) -> None:
    write_video(tmp_path / "cat" / "IMG_0001.avi")
    (tmp_path / "cat" / "groundtruth.txt").write_text(text(BOXES))
    assert opened(tmp_path).names == ["IMG_0001"]


def test_a_sequence_itself_and_equal_names(tmp_path: Path) -> None:
    for run in ("a/run", "b/run", "b/walk"):
        write_frames(tmp_path / run)
        (tmp_path / run / "groundtruth.txt").write_text(text(BOXES))
    assert opened(tmp_path).names == ["a_run", "b_run", "walk"]
    assert opened(tmp_path / "a" / "run").names == ["run"]
    alone = opened(tmp_path / "a" / "run")[0]
    assert [int(alone.read_frame(i).rgb[0, 0, 0]) for i in range(3)] == [20, 60, 100]


def test_first_box_only_and_frames_without_the_target(tmp_path: Path) -> None:
    write_frames(tmp_path / "first", 5)
    (tmp_path / "first" / "init.txt").write_text("1 2 3 4")
    write_frames(tmp_path / "hidden", 4)
    (tmp_path / "hidden" / "groundtruth.txt").write_text("1,2,3,4\nnan,nan,nan,nan\n0,0,0,0\n2,2,3,4\n")
    dataset = opened(tmp_path)
    first, hidden = dataset.by_name("first"), dataset.by_name("hidden")
    assert len(first) == 5
    assert first.valid.tolist() == [True] + 4 * [False]
    assert np.isnan(first.boxes_xywh[1:]).all()
    assert hidden.valid.tolist() == [True, False, False, True]
    assert np.isfinite(hidden.boxes_xywh).all()


def test_more_rows_than_pictures_is_an_error_of_both(tmp_path: Path) -> None:
    write_frames(tmp_path / "seq", 1)
    (tmp_path / "seq" / "groundtruth.txt").write_text(text(BOXES))
    with pytest.raises(AnnotationError, match=r"1 pictures.*3 annotation rows"):
        opened(tmp_path)[0]


@pytest.mark.parametrize(
    ("pictures", "message"), [(2, "2 pictures .*, 3 annotation rows"), (4, "3 rows for 4 pictures")]
)
def test_one_row_or_picture_too_many_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pictures: int, message: str
) -> None:
    write_frames(tmp_path / "seq", pictures)
    (tmp_path / "seq" / "groundtruth.txt").write_text(text(BOXES))
    assert len(opened(tmp_path)[0]) == min(3, pictures)
    assert re.search(message, caplog.text)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,2,3,4\n1,2,x,4\n", r"groundtruth.txt, line 2: 'x' is not a number"),
        ("1,2,3,4\n1,2,inf,4\n", r"groundtruth.txt, line 2: a coordinate is infinite"),
        (
            "1,0,5,5,9,9\n2,0,5,5,9,9\n",
            r"groundtruth.txt: rows begin with the numbers of frames \(1, 2, \.\.\.\).* --mot",
        ),
        ("1,2,3,4\n1,2,-3,4\n", r"groundtruth.txt, line 2: a size is negative: \[1.0, 2.0, -3.0, 4.0\]"),
        (
            "x,y,w\n1,2,3\n",
            r"groundtruth.txt: line 1 is a heading \('x,y,w'\) without four columns of boxes; expected x",
        ),
        (
            "filename,file_size,region_count,region_shape_attributes\n",
            r"is a heading .* VGG Image Annotator's: tracking/annotate.py --via",
        ),
        ("x,y,w,h\n", r"groundtruth.txt: no annotation row"),
        ("x,y,w,h\n1,2,3,4\n1,2,3\n", r"groundtruth.txt, line 3: 3 columns, the heading has 4"),
        ("x,y,w,h\n1,2,3,4\n1,2,x,4\n", r"groundtruth.txt, line 3: 'x' is not a number"),
        ("x1,y1,x2,y2\n1,2,inf,4\n", r"groundtruth.txt, line 2: a coordinate is infinite"),
        ("x,y,w,h\n1,2,3,4\n1,2,-3,4\n", r"groundtruth.txt, line 3: a size is negative"),
        ("class,cx,cy,w,h\n0,.5,.4,.1,.2\n0,.5,.4,.1,.2\n", r"all numbers lie between 0 and 1 \(YOLO"),
        ("frame,id,x,y,w,h\n0,1,1,2,3,4\n1,2,1,2,3,4\n", r"boxes of 2 targets \(id 1, 2\); write a file for each"),
        ("frame,x,y,w,h\n1,1,2,3,4\n1,1,2,3,4\n", r"groundtruth.txt, line 3: frame 1 has two rows"),
        ("frame,x,y,w,h\n0,1,2,3,4\n9,1,2,3,4\n", r"groundtruth.txt, line 3: frame 9 has no picture among 5"),
        ("1,9,9,30,30\n7,9,9,30,30\n", r"groundtruth.txt, line 2: frame 7 has no picture among 5"),
        ("image,x,y,w,h\nimg/0000.png,1,2,3,4\n0009.png,1,2,3,4\n", r"line 3: frame 0009.png has no picture"),
        ("0 0.5 0.4 0.1 0.2\n0 0.5 0.4 0.1 0.2\n", r"groundtruth.txt: all numbers lie between 0 and 1"),
        (".5 .4 .1 .2\n0 0 0 0\n.5 .4 .1 .2\n", r"groundtruth.txt: all numbers lie between 0 and 1"),
        ("1,9,9,30,30\n1,9,9,30,30\n", r"groundtruth.txt: rows begin with a number of a frame or class \(1\)"),
        (
            "1,1,9,8,30,30,1,-1,-1,-1\n3,1,9,8,30,30,1,-1,-1,-1\n",
            r"groundtruth.txt: rows begin .* \(1, 3, \.\.\.\), as MOT",
        ),
        ("1,7,9,8,30,30,1,1\n2,7,9,8,30,30,1,1\n3,7,9,8,30,30,0,1\n", r"groundtruth.txt: rows begin .* as MOT's"),
        ("1,1,9,8,30,30\n3,1,9,8,30,30\n1,2,9,8,30,30\n2,2,9,8,30,30\n", r"groundtruth.txt: rows begin .* as MOT's"),
        ("60 50 99 80\n61 50 99 80\n62 50 99 80\n", r"look like two corners x1, y1, x2, y2 .* pictures of 128 x 96"),
    ],
)
def test_a_box_that_is_none_is_named_by_its_line(tmp_path: Path, rows: str, message: str) -> None:
    write_frames(tmp_path / "seq", 5)
    (tmp_path / "seq" / "groundtruth.txt").write_text(rows)
    with pytest.raises(AnnotationError, match=message):
        opened(tmp_path)[0]


TABLES = {
    "x,y,w,h": "x,y,w,h\n10,20,30,40\n11,20,30,40\n12,21,30,41\n",
    "Excel": "\ufeffx;y;w;h\r\n10,0;20,0;30,0;40,0\r\n11;20;30;40\r\n12;21;30;41\r\n",
    "pandas": ",bbox_x,bbox_y,bbox_w,bbox_h\n0,10.0,20,30,40\n1,11,20,30,40\n2,12,21,30,41\n",
    "numpy": "# left top width height\n1.0e+01 20 30 40\n11 20  30 40\n12 21 30 41\n",
    "corners": '"Frame","X_min","Y_min","X_max","Y_max","score"\n2,12,21,42,62,1\n0,10,20,40,60,.5\n1,11,20,41,60,.9\n',
    "centres": "x_center\ty_center\twidth\theight\n25\t40\t30\t40\n26\t40\t30\t40\n27\t41.5\t30\t41\n",
    "pictures": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    "img/0001.png,128,96,cat,11,20,41,60\nimg\\0000.jpg,128,96,cat,10,20,40,60\n0002,128,96,cat,12,21,42,62\n",
    "frame numbers": "0,10,20,30,40\n1,11,20,30,40\n2,12,21,30,41\n",
    "frame numbers from 1": "1 10 20 30 40\n2 11 20 30 40\n3 12 21 30 41\n",
}


@pytest.mark.parametrize("place", ["seq/groundtruth.csv", "seq.csv", "clip.csv", "clip.txt"])
@pytest.mark.parametrize("name", TABLES)
def test_tables_whose_columns_have_names_or_frame_numbers_are_read(tmp_path: Path, name: str, place: str) -> None:
    if place.startswith("clip"):
        write_video(tmp_path / "clip.avi")
        if name == "pictures":
            pytest.skip("frames of videos have no names")
    else:
        write_frames(tmp_path / "seq")
    (tmp_path / place).write_text(TABLES[name], encoding="utf-8")
    video = opened(tmp_path)[0]
    np.testing.assert_allclose(video.boxes_xywh, BOXES)
    assert [abs(int(video.read_frame(i).rgb[50, 50, 0]) - 20 - 40 * i) < 6 for i in range(3)] == [True] * 3


def test_frames_between_rows_have_no_annotation_and_empty_boxes_are_unseen(tmp_path: Path) -> None:
    write_frames(tmp_path / "seq", 6, first=3)
    (tmp_path / "seq.csv").write_text("frame,x,y,w,h\n4,1,2,3,4\n5,,,,\n7,2,2,3,4\n")
    video = opened(tmp_path)[0]
    assert np.isnan(video.boxes_xywh[:, 0]).tolist() == [False, False, True, False, True]
    assert video.valid.tolist() == [True, False, False, True, False]
    assert [int(video.read_frame(i).rgb[0, 0, 0]) for i in (0, 3)] == [60, 180]


def test_frame_numbers_of_videos_tell_where_they_begin(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 4)
    for rows, lefts in (("0,1,2,3,4\n2,5,2,3,4\n", [1, np.nan, 5, np.nan]), ("2,1,2,3,4\n4,5,2,3,4\n", [1, np.nan, 5])):
        (tmp_path / "clip.txt").write_text(rows)
        np.testing.assert_array_equal(opened(tmp_path)[0].boxes_xywh[:, 0], lefts)
    (tmp_path / "clip.txt").write_text("1,1,2,3,4\n3,5,2,3,4\n")
    with pytest.raises(
        AnnotationError, match=r"numbered 1 to 3 of 4, counted from 0 or from 1; a row for frame 0 or 4,"
    ):
        opened(tmp_path)[0]


def test_a_heading_settles_what_looks_like_corners(tmp_path: Path) -> None:
    write_frames(tmp_path / "seq")
    (tmp_path / "seq.txt").write_text("x y w h\n60 50 99 80\n61 50 99 80\n62 50 99 80\n")
    assert opened(tmp_path)[0].boxes_xywh[0].tolist() == [60, 50, 99, 80]


def test_utf_16_is_named(tmp_path: Path) -> None:
    write_frames(tmp_path / "seq")
    (tmp_path / "seq.csv").write_text(TABLES["x,y,w,h"], encoding="utf-16")
    with pytest.raises(AnnotationError, match=r"seq.csv: not a text file of UTF-8 .*; save it as UTF-8, not UTF-16"):
        opened(tmp_path)[0]


def test_corners_near_the_upper_left_are_known_by_their_movement(tmp_path: Path) -> None:
    write_frames(tmp_path / "seq", 6)
    lefts = np.arange(6.0)[:, None] * 5
    (tmp_path / "seq" / "groundtruth.txt").write_text(text(np.hstack([lefts + 2, lefts, lefts + 22, lefts + 18])))
    with pytest.raises(AnnotationError, match="look like two corners"):
        opened(tmp_path)[0]


@pytest.mark.parametrize(
    "rows",
    [
        np.array([[0, 30 + i, 50, 30 + i, 50, 70, 0, 70] for i in range(6)]),  # whole pixels at the left border
        np.array([[1 + i, 9, 31 + i, 9, 31 + i, 39, 1 + i, 39] for i in range(6)]),
        np.array([[60, 50, 99, 50, 99, 80, 60, 80]] * 6),
        np.array([[10 - i, 10 - i, 40 + 2 * i, 40 + 2 * i] for i in range(6)]),  # a target that comes near
        np.array([[5, 6, 100, 80]] * 6),
        np.array([[20 + i, 5, 80, 70] for i in range(6)]),
    ],
)
def test_boxes_that_resemble_other_forms_are_read(tmp_path: Path, rows: np.ndarray) -> None:
    write_frames(tmp_path / "seq", 6)
    (tmp_path / "seq" / "groundtruth.txt").write_text(text(rows))
    points = rows.reshape(6, -1, 2)
    low, high = points.min(axis=1), points.max(axis=1)
    expected = rows if rows.shape[1] == 4 else np.hstack([low, high - low])
    np.testing.assert_array_equal(opened(tmp_path)[0].boxes_xywh, expected)


def test_a_folder_of_pictures_may_have_the_name_of_its_video(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip.mp4")
    (tmp_path / "clip.txt").write_text(text(BOXES))
    np.testing.assert_array_equal(opened(tmp_path).by_name("clip").boxes_xywh, BOXES)


def test_two_pictures_of_one_number_and_damaged_videos_are_errors_of_their_sequence(tmp_path: Path) -> None:
    write_frames(tmp_path / "seq")
    write_frames(tmp_path / "other")
    shutil.copy(tmp_path / "seq" / "0001.png", tmp_path / "seq" / "1.jpg")
    (tmp_path / "run.mp4").write_bytes(b"no video")
    for name in ("seq", "other", "run"):
        (tmp_path / f"{name}.txt").write_text("1 2 3 4\n")
    dataset = opened(tmp_path)
    with pytest.raises(
        AnnotationError, match=r"seq: (1.jpg and 0001.png|0001.png and 1.jpg) are pictures of one number"
    ):
        dataset.by_name("seq")
    with pytest.raises(AnnotationError, match=r"run.mp4: OpenCV cannot read this as a video"):
        dataset.by_name("run")
    assert len(dataset.by_name("other")) == 3


def test_sequences_without_boxes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_frames(tmp_path / "good")
    (tmp_path / "good" / "groundtruth.txt").write_text(text(BOXES))
    write_frames(tmp_path / "bare")
    with caplog.at_level(logging.WARNING):
        assert opened(tmp_path).names == ["good"]
    assert "bare" in caplog.text
    assert "groundtruth_rect.txt" in caplog.text
    (tmp_path / "bare" / "labels.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"box file \(groundtruth.txt, .*, or .csv\).*; there: labels.json; track"
    ):
        opened(tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        opened(tmp_path / "gone")


@pytest.mark.parametrize(
    ("media", "first", "second"),
    [
        ("a.avi", "a.txt", "a.csv"),
        ("a.avi", "groundtruth.txt", "a.txt"),
        ("a/img", "a/groundtruth.txt", "a/groundtruth.csv"),
        ("a/img", "a/a.txt", "a.txt"),
        ("a/img", "a/gt.csv", "a/init.txt"),
    ],
)
def test_a_second_box_file_is_named(
    tmp_path: Path, media: str, first: str, second: str, caplog: pytest.LogCaptureFixture
) -> None:
    (write_video if media.endswith("avi") else write_frames)(tmp_path / media)
    (tmp_path / second).write_text(text(BOXES + 1))
    (tmp_path / first).write_text(text(BOXES))
    with caplog.at_level(logging.WARNING):
        dataset = opened(tmp_path)
    np.testing.assert_array_equal(dataset.by_name("a").boxes_xywh, BOXES)
    assert f"1 of 1 sequences have several box files, of which one is read: {first}, not {second}" in caplog.text


@pytest.mark.parametrize("find", [lambda name: build_dataset(name, load_paths()), lambda name: choose_parts([name])])
def test_a_folder_in_place_of_a_name_is_recognised(tmp_path: Path, find: Callable[[str], object]) -> None:
    with pytest.raises(UnknownNameError, match="; for a folder of your own write FOLDER:/"):
        find(str(tmp_path))


def test_flag_files_are_used_where_they_are(tmp_path: Path) -> None:
    write_frames(tmp_path / "cat" / "cat-1" / "img")
    (tmp_path / "cat" / "cat-1" / "groundtruth.txt").write_text(text(BOXES))
    (tmp_path / "cat" / "cat-1" / "out_of_view.txt").write_text("0,1,0")
    assert opened(tmp_path).by_name("cat-1").visible.tolist() == [True, False, True]
    (tmp_path / "cat" / "cat-1" / "groundtruth.txt").write_text("1,10,20,30,40\n2,11,20,30,40\n")
    assert opened(tmp_path).by_name("cat-1").visible.tolist() == [False, True]


def test_the_data_check_takes_an_own_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_frames(tmp_path / "good")
    (tmp_path / "good" / "groundtruth.txt").write_text(text(BOXES))
    write_frames(tmp_path / "bare")
    (part,) = choose_parts([f"FOLDER:{tmp_path}"])
    with caplog.at_level(logging.WARNING):
        result = check_part(part, load_paths(), "full")
    assert (result.found, result.pictures, result.problems) == (1, 3, [])
    assert "1 of 2 sequences have no box file" in caplog.text


@pytest.mark.parametrize("videos", [False, True], ids=["folders", "videos"])
def test_sequences_are_found_without_a_look_at_all_names_for_each(tmp_path: Path, videos: bool) -> None:
    count = 400
    for i in range(count):
        write_frames(tmp_path / f"v{i}" / "img", 0) if not videos else (tmp_path / f"v{i}.mp4").touch()
        (tmp_path / f"v{i}.txt").write_text(text(BOXES))
    compared = 0

    class Name(str):
        def lower(self) -> str:
            nonlocal compared
            compared += 1
            return super().lower()

    store = DirectoryStore(tmp_path)
    listing = store.listdir
    store.listdir = lambda prefix="": [Name(name) for name in listing(prefix)]  # type: ignore[method-assign]
    dataset = OwnDataset(store, None, "own")
    assert len(dataset) == count
    assert compared < 20 * 2 * count
