"""Boxes for own data: typed marks, propagation, folders, labelme and CVAT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lib.bench import parse_marks, propagate, read_cvat, read_labelme, write_sequences
from lib.data import AnnotationError, Frame, open_source
from lib.data.datasets import build_dataset
from lib.paths import load_paths


class Drift:
    """A stand-in for `TrackerSession`: each frame the box is one pixel further right."""

    def init(self, frame: Frame, box: Any) -> None:
        self.box = np.array(box, dtype=float)

    def update(self, frame: Frame) -> tuple[Any, float]:
        self.box = np.add(self.box, (1, 0, 0, 0))
        return tuple(self.box), 1.0


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"frame{i}.png"), np.full((60, 80, 3), 10 * i, np.uint8))
    return folder


def test_marks_start_end_and_correct_the_propagation(tmp_path: Path) -> None:
    source = open_source(str(pictures(tmp_path / "clip", 8)))
    marks = parse_marks(["10,20,30,15", "3:none", "5:40,20,30,15"])
    boxes = propagate(Drift(), source, marks)  # type: ignore[arg-type]
    lefts = [None if box is None else box[0] for box in boxes.values()]
    assert lefts == [10, 11, 12, None, None, 40, 41, 42]


@pytest.mark.parametrize("texts", [["1,2,3"], ["a:1,2,3,4"], ["5:1,2,3,4"], ["0:none"], ["1,2,3,4", "-2:1,2,3,4"]])
def test_marks_that_cannot_be_used(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="--init"):
        parse_marks(texts)


def test_a_mark_behind_the_end_is_an_error(tmp_path: Path) -> None:
    source = open_source(str(pictures(tmp_path / "clip", 4)))
    with pytest.raises(ValueError, match=r"4 frames .* no frame 9"):
        propagate(Drift(), source, parse_marks(["1,2,30,4", "9:1,2,30,4"]))  # type: ignore[arg-type]


def test_sequences_go_from_the_first_box_to_the_last(tmp_path: Path) -> None:
    source = open_source(str(pictures(tmp_path / "clip", 6)))
    targets = {"a": {1: (1.0, 2.0, 30.0, 20.0), 2: None, 4: (2.0, 2.0, 30.0, 20.0)}, "b": {5: (3.0, 3.0, 5.0, 5.0)}}
    write_sequences(tmp_path / "mine", source, targets)
    dataset = build_dataset(f"FOLDER:{tmp_path / 'mine'}", load_paths())
    a = dataset.by_name("a")  # type: ignore[attr-defined]
    assert a.valid.tolist() == [True, False, False, True]
    assert [int(a.read_frame(i).rgb[0, 0, 0]) for i in range(4)] == [10, 20, 30, 40]
    assert len(dataset.by_name("b")) == 1  # type: ignore[attr-defined]
    with pytest.raises(FileExistsError, match="is there already"):
        write_sequences(tmp_path / "mine", source, targets)
    with pytest.raises(ValueError, match=r"no name|not a name"):
        write_sequences(tmp_path / "mine", source, {"../x": targets["b"]})


def labelme(folder: Path, name: str, shapes: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"..\\img\\{name}.png"}
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_labelme_shapes_become_boxes(tmp_path: Path) -> None:
    car = {"label": "car", "points": [[30, 40], [10, 20]], "group_id": None, "shape_type": "rectangle"}
    ball = {"label": "ball", "points": [[20, 20], [23, 24]], "group_id": 2, "shape_type": "circle"}
    hull = {"label": "car", "points": [[1, 2], [5, 4], [3, 9]], "shape_type": "polygon"}
    labelme(tmp_path, "frame0", [car, ball])
    labelme(tmp_path, "frame1", [hull])
    assert read_labelme(tmp_path) == {
        "car": {"frame0.png": (10, 20, 20, 20), "frame1.png": (1, 2, 4, 7)},
        "ball_2": {"frame0.png": (15, 15, 10, 10)},
    }
    labelme(tmp_path, "frame2", [car, hull])
    with pytest.raises(AnnotationError, match=r"frame2\.json: two shapes of 'car'"):
        read_labelme(tmp_path)
    (tmp_path / "frame2.json").write_text('{"shapes": 3}')
    with pytest.raises(AnnotationError, match=r"frame2\.json: not a labelme file"):
        read_labelme(tmp_path)


TRACKS = """<?xml version="1.0"?><annotations><version>1.1</version>
<track id="0" label="car">
<box frame="0" outside="0" occluded="0" keyframe="1" xtl="10" ytl="20" xbr="30" ybr="40"/>
<box frame="4" outside="0" occluded="0" keyframe="1" xtl="14" ytl="20" xbr="34" ybr="48"/>
<box frame="5" outside="1" occluded="0" keyframe="1" xtl="14" ytl="20" xbr="34" ybr="48"/>
</track>
<track id="1" label="bar"><box frame="2" outside="0" xtl="0" ytl="0" xbr="20" ybr="10" rotation="90"/></track>
</annotations>"""
IMAGES = """<annotations><image id="0" name="img/frame0.png" width="80" height="60">
<polygon label="cat" points="1.0,2.0;5,4;3,9"/></image><image id="1" name="img/frame1.png"/></annotations>"""


def test_cvat_tracks_are_interpolated_and_end(tmp_path: Path) -> None:
    file = tmp_path / "annotations.xml"
    file.write_text(TRACKS)
    found = read_cvat(file)
    assert found["car_0"][2] == (12, 20, 20, 24)
    assert list(found["car_0"]) == [0, 1, 2, 3, 4, 5]
    assert found["car_0"][5] is None
    np.testing.assert_allclose(found["bar_1"][2], (5, -5, 10, 20))
    file.write_text(IMAGES)
    assert read_cvat(file) == {"cat": {"frame0.png": (1, 2, 4, 7)}}
    for text in ("<annotations/>", "no xml", TRACKS.replace('xtl="14"', "")):
        file.write_text(text)
        with pytest.raises(AnnotationError, match=r"annotations\.xml"):
            read_cvat(file)
