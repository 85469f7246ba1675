"""Boxes for own data: typed marks, propagation, folders, files of other programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lib.bench import (
    parse_marks,
    propagate,
    read_coco,
    read_cvat,
    read_label_studio,
    read_labelme,
    read_mot,
    read_via,
    read_yolo,
    write_cvat,
    write_labelme,
    write_sequences,
)
from lib.data import AnnotationError, Frame, open_source
from lib.data.datasets import build_dataset
from lib.paths import load_paths
from lib.viz import VideoWriter
from tests.support.commands import import_command


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


@pytest.mark.parametrize(
    "texts",
    [
        ["1,2,3"],
        ["a:1,2,3,4"],
        ["5:1,2,3,4"],
        ["0:none"],
        ["1,2,3,4", "-2:1,2,3,4"],
        ["1,2,3,4", "2:none", "2:9,2,3,4"],
    ],
)
def test_marks_that_cannot_be_used(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="--init"):
        parse_marks(texts)


def test_what_would_be_lost_at_the_end_is_refused_before_the_tracking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with VideoWriter(tmp_path / "clip.mp4") as video:
        video.write(np.zeros((60, 80, 3), np.uint8))
    before = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "mine/there").mkdir(parents=True)
    given = [str(tmp_path / "clip.mp4"), "--init", "10,20,30,15", "--checkpoint", "read later"]
    for command, options, message in (
        ("annotate", "--video={}/clip.mp4", "would replace"),
        ("annotate", "--video={}/clip.avi", "would replace"),
        ("demo", "--output={}/clip.mp4", "would replace"),
        ("demo", "--boxes={}/clip.mp4", "--boxes {}/clip.mp4 would replace"),
        ("annotate", "--output={}/clip.mp4", "clip.mp4: a file stands where a folder is needed"),
        ("annotate", "--output={}/mine --name=there", "is there already"),
        ("annotate", "--output={}/mine --name=../x", "'../x' is not a name"),
    ):
        assert import_command(command).main([*given, *options.format(tmp_path).split()]) == 2
        assert message.format(tmp_path) in capsys.readouterr().err
    assert (tmp_path / "clip.mp4").read_bytes() == before


def test_targets_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = pictures(tmp_path / "clip", 2)
    kinds = [{"id": 1, "name": "a/b"}, {"id": 2, "name": "a_b"}]
    boxes = [{"image_id": 1, "category_id": i, "bbox": [1, 2, 3, 4]} for i in (1, 2)]
    content = {"images": [{"id": 1, "file_name": "frame0.png"}], "categories": kinds, "annotations": boxes}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    given = ["--coco", str(tmp_path / "coco.json"), "--output", str(tmp_path / "mine")]
    assert import_command("annotate").main([str(clip), *given]) == 2
    assert "coco.json: two targets would be called clip_a_b; name one otherwise" in capsys.readouterr().err


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
    for wrong in ((1.0, 2.0, -3.0, 4.0), (1.0, float("inf"), 3.0, 4.0)):
        with pytest.raises(ValueError, match=r"c, frame 3 \(from 0\): .* is not a box x, y, w, h"):
            write_sequences(tmp_path / "mine", source, {"c": {3: wrong}})
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
    (tmp_path / "._frame0.json").write_bytes(b"\0\5")
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


def test_coco_boxes_are_told_apart_by_category_and_track(tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    pictures = [{"id": 4, "file_name": "img/frame0.png"}, {"id": 9, "file_name": "frame1.png"}]
    boxes = [(4, {}, [1, 2, 3, 4]), (9, {}, [2, 2, 3, 4]), (9, {"attributes": {"track_id": 7}}, [5, 6, 7, 8])]
    entries = [{"image_id": image, "category_id": 1, "bbox": box} | more for image, more, box in boxes]
    content = {"images": pictures, "annotations": entries, "categories": [{"id": 1, "name": "car"}]}
    file.write_text(json.dumps(content))
    assert read_coco(file) == {
        "car": {"frame0.png": (1, 2, 3, 4), "frame1.png": (2, 2, 3, 4)},
        "car_7": {"frame1.png": (5, 6, 7, 8)},
    }
    file.write_text(json.dumps(content | {"annotations": [*entries, entries[0]]}))
    with pytest.raises(AnnotationError, match=r"boxes.json, frame0.png: two shapes of 'car'"):
        read_coco(file)
    file.write_text("[]")
    with pytest.raises(AnnotationError, match=r"boxes.json: not a COCO annotation file"):
        read_coco(file)


def test_mot_rows_are_tracks_and_frame_1_is_the_first(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_text("1,2,10,20,30,40,1,1,1\n3,2,11,20,30,40,1,1,0.5\n3,5,1,2,3,4,1,1,1\n")
    assert read_mot(file) == {"2": {0: (10, 20, 30, 40), 2: (11, 20, 30, 40)}, "5": {2: (1, 2, 3, 4)}}
    for row in ("0,1,1,2,3,4,1", "1,-1,1,2,3,4,1", "10,20,30,40", "1.5,1,1,2,3,4"):
        file.write_text(f"1,2,10,20,30,40,1\n{row}\n")
        with pytest.raises(AnnotationError, match=r"gt.txt, line 2: expected frame \(from 1\), target"):
            read_mot(file)


def test_yolo_shares_become_pixels(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "._frame0.txt").write_bytes(b"\0\5")
    (tmp_path / "frame0.txt").write_text("0 0.5 0.5 0.25 0.5\n3 0.25 0.25 0.5 0.5\n")
    (tmp_path / "frame1.txt").write_text("")
    assert read_yolo(tmp_path, (60, 80)) == {"0": {"frame0": (30, 15, 20, 30)}, "3": {"frame0": (0, 0, 40, 30)}}
    (tmp_path / "frame1.txt").write_text("0 30 15 20 30\n")
    with pytest.raises(AnnotationError, match=r"frame1.txt, line 1: expected class, centre x, .* shares"):
        read_yolo(tmp_path, (60, 80))


def test_boxes_for_cvat_and_labelme_are_read_back(tmp_path: Path) -> None:
    boxes = {0: (1.25, 2.0, 30.0, 4.5), 1: None, 2: None, 3: (2.0, 2.0, 3.0, 4.0)}
    write_cvat(tmp_path / "boxes.xml", "cat & dog", boxes)
    assert read_cvat(tmp_path / "boxes.xml") == {"cat & dog_0": boxes}
    clip = pictures(tmp_path / "clip", 4)
    files = [clip / f"frame{i}.png" for i in range(4)]
    write_labelme(tmp_path / "json", "cat", boxes, files, (60, 80))
    assert read_labelme(tmp_path / "json") == {"cat": {f"frame{i}.png": boxes[i] for i in (0, 3)}}
    content = json.loads((tmp_path / "json" / "frame1.json").read_text())
    assert (tmp_path / "json" / content["imagePath"]).resolve() == files[1].resolve()
    assert (content["shapes"], content["imageHeight"], content["imageWidth"]) == ([], 60, 80)


def test_via_shapes_are_told_apart_by_their_attributes(tmp_path: Path) -> None:
    rect = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}
    ring = {"name": "ellipse", "cx": 10, "cy": 12, "rx": 3, "ry": 2}
    hull = {"name": "polygon", "all_points_x": [1, 5, 3], "all_points_y": [2, 4, 9]}
    shapes = [
        ("img/a.png", rect, {"kind": "car", "id": "7"}),
        ("img/a.png", ring, {"kind": {"ball": True, "x": False}}),
    ]
    shapes.append(("b.png", hull, {}))
    found = {"car_7": {"a.png": (1, 2, 3, 4)}, "ball": {"a.png": (7, 10, 6, 4)}, "target": {"b.png": (1, 2, 4, 7)}}
    entries: dict[str, Any] = {}
    for name, shape, attributes in shapes:
        entry = entries.setdefault(f"{name}123", {"filename": name, "size": 123, "regions": []})
        entry["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    file = tmp_path / "via.json"
    for content in (entries, {"_via_settings": {}, "_via_img_metadata": entries}):
        file.write_text(json.dumps(content))
        assert read_via(file) == found
    heading = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    with (tmp_path / "via.csv").open("w", newline="") as stream:
        stream.write(f"{heading}\n")
        rows = [(name, 123, "{}", 2, 0, json.dumps(shape), json.dumps(kinds)) for name, shape, kinds in shapes]
        csv.writer(stream).writerows([*rows, ("c.png", 1, "{}", 0, 0, "{}", "{}")])
    assert read_via(tmp_path / "via.csv") == found
    file.write_text(json.dumps({"project": {}, "metadata": {"1_a": {"z": [0.5], "xy": [2, 1, 2, 3, 4]}}}))
    with pytest.raises(AnnotationError, match=r"via.json: not a file of VGG Image Annotator 1 or 2"):
        read_via(file)


def test_label_studio_keyframes_are_interpolated_until_one_is_switched_off(tmp_path: Path) -> None:
    keys = [(1, 10, True, 0), (3, 20, False, 0), (6, 50, True, 90)]
    sequence = [
        {"frame": f, "x": x, "y": 50, "width": 25, "height": 10, "enabled": on, "rotation": turn}
        for f, x, on, turn in keys
    ]
    region = {"framesCount": 9, "duration": 0.3, "sequence": sequence, "labels": ["car"]}
    result = [{"value": region, "type": "videorectangle", "id": "x"}, {"value": {"choices": ["a"]}, "type": "choices"}]
    task = {"id": 1, "annotations": [{"id": 3, "result": result}], "data": {"video": "a.mp4"}}
    file = tmp_path / "export.json"
    for content in ([task], [{"id": 1, "video": "a.mp4", "box": [region]}]):
        file.write_text(json.dumps(content))
        (boxes,) = read_label_studio(file, (60, 80)).values()
        assert {k: v for k, v in boxes.items() if k != 5} == {
            0: (8, 30, 20, 6),
            1: (12, 30, 20, 6),
            2: (16, 30, 20, 6),
            3: None,
            4: None,
        }
        np.testing.assert_allclose(boxes[5], (34, 30, 6, 20))
    for content, message in (
        ([task, task], "2 videos with 2 annotations; export one of one video"),
        ([{"annotations": [{"result": []}]}], "no boxes of a video"),
        ([3], "not Label Studio's JSON"),
        (
            [{"box": [region | {"sequence": [sequence[0], sequence[2] | {"frame": 10**10}]}]}],
            "two shapes are 9999999999 frames",
        ),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(AnnotationError, match=rf"export.json: {message}"):
            read_label_studio(file, (60, 80))


def test_an_ended_command_leaves_no_half_sequence(tmp_path: Path) -> None:
    clip = pictures(tmp_path / "clip", 4)
    source = open_source(str(clip))
    grabs = iter(source)

    def ended() -> Any:
        yield next(grabs)
        raise KeyboardInterrupt

    source._grabs = ended()
    targets = {"a": {0: (1.0, 2.0, 30.0, 20.0), 3: (2.0, 2.0, 30.0, 20.0)}}
    with pytest.raises(KeyboardInterrupt):
        write_sequences(tmp_path / "mine", source, targets)
    assert list((tmp_path / "mine").iterdir()) == []
    assert write_sequences(tmp_path / "mine", open_source(str(clip)), targets) == [tmp_path / "mine" / "a"]
