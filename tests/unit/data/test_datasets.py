"""Readers: layouts, rules, tolerance, pairing, splits, and the names that YAML files use."""

from __future__ import annotations

import json
import logging
import pickle
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lib.data import AnnotationError, DecodeError, Modality, depth_to_picture, open_store
from lib.data.datasets import (
    CocoDataset,
    DepthTrackDataset,
    Got10kDataset,
    ImagenetVidDataset,
    LasherDataset,
    LasotDataset,
    Tc128Dataset,
    Tnl2kDataset,
    TrackingNetDataset,
    VastTrackDataset,
    VisEventDataset,
    VotDataset,
    build_dataset,
    parse_chunks,
)
from lib.data.lists import load_list
from lib.registry import UnknownNameError
from tests.unit.data.trees import WRITERS, Tree, as_folder, as_lmdb, as_zip, picture, pixels_of

BOXES = "1,2,30,40\n2,3,30,40\n0,0,0,0\n3,4,30,40\n"


class Folders:
    """A stand-in for `lib.paths.Paths`."""

    def __init__(self, **places: Path) -> None:
        self.places = places

    def dataset(self, key: str) -> Path:
        if key not in self.places:
            raise FileNotFoundError(f"set {key}")
        return self.places[key]


def frames(folder: str, pattern: str, first: int = 1, count: int = 4, seed: int = 0) -> Tree:
    suffix = "." + pattern.rpartition(".")[2].lower().replace("jpeg", "jpg")
    return {f"{folder}/{pattern % (first + i)}": picture(seed + i, suffix) for i in range(count)}


def lasot_tree(name: str = "dog-1", pictures: int = 4) -> Tree:
    place = f"{name.split('-')[0]}/{name}"
    return {
        f"{place}/groundtruth.txt": BOXES,
        f"{place}/full_occlusion.txt": "0,1,0,0\n",
        f"{place}/out_of_view.txt": "0,0,0,0",
        **frames(f"{place}/img", "%08d.jpg", count=pictures),
    }


def got10k_tree(number: int) -> Tree:
    place = f"GOT-10k_Train_{number:06d}"
    return {
        f"{place}/groundtruth.txt": BOXES,
        f"{place}/absence.label": "0\n1\n0\n0\n",
        f"{place}/cover.label": "8\n8\n8\n0\n",
        f"{place}/meta_info.ini": "[METAINFO]\nurl: http://x\nobject_class: bear\nmotion_class: walking\n",
        **frames(place, "%08d.jpg"),
    }


def lasher_tree(visible: list[str], infrared: list[str], boxes: str = BOXES, name: str = "2up") -> Tree:
    pictures = {f"{name}/visible/{n}": picture(i) for i, n in enumerate(visible)}
    pictures |= {f"{name}/infrared/{n}": picture(100 + i) for i, n in enumerate(infrared)}
    return {f"{name}/visible.txt": boxes, **pictures}


def visevent_tree(numbers: list[int], events: list[int], name: str = "tank") -> Tree:
    tree: Tree = {f"{name}/groundtruth.txt": BOXES, f"{name}/absent_label.txt": "1\n0\n1\n1\n"}
    tree |= {f"{name}/vis_imgs/frame{i:04d}.bmp": picture(i, ".bmp") for i in numbers}
    return tree | {f"{name}/event_imgs/frame{i:04d}.bmp": picture(100 + i, ".bmp") for i in events}


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_lasot_from_any_store(tmp_path: Path, kind: str) -> None:
    tree = {**lasot_tree(), "attributes.json": json.dumps({"dog-1": ["fast motion"]})}
    dataset = pickle.loads(pickle.dumps(LasotDataset(open_store(WRITERS[kind](tree, tmp_path / "lasot")), ["dog-1"])))
    sequence = dataset[0]
    assert sequence.boxes_xywh.dtype == np.float64
    assert sequence.valid.tolist() == [True, True, False, True]
    assert sequence.visible.tolist() == [True, False, False, True]
    assert (sequence.object_class, sequence.dataset, len(sequence)) == ("dog", "lasot", 4)
    assert sequence.attributes == {"fast motion"}
    assert "dog/dog-1/img/00000004.jpg" in sequence.frame_path(3)
    wanted = cv2.imdecode(np.frombuffer(tree["dog/dog-1/img/00000002.jpg"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(sequence.read_frame(1).rgb, wanted)
    assert sequence.read_frame(1).aux is None
    assert pickle.loads(pickle.dumps(sequence)).read_frame(1).rgb.shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"dog-1": {"tags": ["fast motion"]}}', r'expected .*found {"tags": \["fast motion"\]} for .dog-1'),
        ('{"dog-1": "fast motion"}', "expected .*found .fast motion. for 'dog-1'"),
        ('["dog-1"]', r'expected .*found \["dog-1"\]'),
        ('{"dog-1": [', "not readable JSON"),
        ("[" * 5000, "not readable JSON"),
    ],
)
def test_attributes_of_another_form_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    store = open_store(as_folder({**lasot_tree(), "attributes.json": text}, tmp_path))
    with pytest.raises(AnnotationError, match=rf"attributes\.json: {message}"):
        LasotDataset(store, ["dog-1"])


def test_attributes_with_a_byte_order_mark(tmp_path: Path) -> None:
    tree = {**lasot_tree(), "attributes.json": '\ufeff{"dog-1": ["fast motion"]}'}
    assert LasotDataset(open_store(as_folder(tree, tmp_path)), ["dog-1"])[0].attributes == {"fast motion"}


@pytest.mark.parametrize(("pictures", "wanted"), [(3, 3), (5, 4)])
def test_one_picture_more_or_fewer_than_rows(tmp_path: Path, pictures: int, wanted: int) -> None:
    sequence = LasotDataset(open_store(as_folder(lasot_tree(pictures=pictures), tmp_path)), ["dog-1"])[0]
    assert len(sequence) == len(sequence.visible) == wanted
    sequence.read_frame(wanted - 1)


def test_a_missing_picture_within_a_sequence_is_an_error_at_that_frame_only(tmp_path: Path) -> None:
    tree = lasot_tree()
    del tree["dog/dog-1/img/00000002.jpg"]
    sequence = LasotDataset(open_store(as_folder(tree, tmp_path)), ["dog-1"])[0]
    assert len(sequence) == 4
    sequence.read_frame(3)
    with pytest.raises(FileNotFoundError, match=r"img/00000002\.jpg"):
        sequence.read_frame(1)


SHIFTED = {
    "lasot": (LasotDataset, {"dog/dog-1/groundtruth.txt": BOXES}, "dog/dog-1/img", "%08d.jpg", 1),
    "got10k": (Got10kDataset, {"x/groundtruth.txt": BOXES, "list.txt": "x"}, "x", "%08d.jpg", 1),
    "got10k test": (
        partial(Got10kDataset, part="test", first_box_only=True),
        {"x/groundtruth.txt": "1,2,3,4", "list.txt": "x"},
        "x",
        "%08d.jpg",
        1,
    ),
    "trackingnet": (
        partial(TrackingNetDataset, chunks=[0]),
        {"TRAIN_0/anno/v.txt": BOXES},
        "TRAIN_0/frames/v",
        "%d.jpg",
        0,
    ),
    "trackingnet test": (
        partial(TrackingNetDataset, test=True),
        {"TEST/anno/v.txt": "1,2,3,4"},
        "TEST/frames/v",
        "%d.jpg",
        0,
    ),
    "vasttrack": (VastTrackDataset, {"Dog/Dog-1/Groundtruth.txt": BOXES}, "Dog/Dog-1/imgs", "%05d.jpg", 1),
    "vot": (VotDataset, {"ball/groundtruth.txt": BOXES}, "ball/color", "%08d.jpg", 1),
    "tc128": (
        Tc128Dataset,
        {"Bolt/Bolt_gt.txt": BOXES, "Bolt/Bolt_frames.txt": "1,4"},
        "Bolt/img",
        "%04d.jpg",
        1,
    ),
    "depthtrack": (
        DepthTrackDataset,
        {"x/groundtruth.txt": BOXES, **frames("x/depth", "%08d.png")},
        "x/color",
        "%08d.jpg",
        1,
    ),
    "depthtrack depth": (
        DepthTrackDataset,
        {"x/groundtruth.txt": BOXES, **frames("x/color", "%08d.jpg")},
        "x/depth",
        "%08d.png",
        1,
    ),
}


@pytest.mark.parametrize("shift", [-1, 1, 4])
@pytest.mark.parametrize("layout", sorted(SHIFTED))
def test_pictures_with_other_numbers_are_an_error_with_both_ends(tmp_path: Path, layout: str, shift: int) -> None:
    """Four rows and four pictures, numbered from one less or more than the set has: row 1 has another picture."""
    reader, tree, folder, pattern, first = SHIFTED[layout]
    if first + shift < 0:
        pytest.skip("numbers of this set begin with 0")
    pictures = {f"{folder}/{pattern % (first + shift + i)}": "" for i in range(5)}
    dataset = reader(open_store(as_folder({**tree, **pictures}, tmp_path)))
    ends = rf"{pattern % (first + shift)} to {pattern % (first + shift + 4)}".replace(".", r"\.")
    with pytest.raises(AnnotationError, match=rf"5 pictures in .*{folder} \({ends}\) .* annotation rows \(1 to "):
        dataset[0]


def test_another_padding_is_read_from_the_first_number_of_the_set(tmp_path: Path) -> None:
    tree = {"dog/dog-1/groundtruth.txt": BOXES, **{f"dog/dog-1/img/{i}.png": "" for i in range(1, 5)}}
    dataset = LasotDataset(open_store(as_folder(tree, tmp_path)), ["dog-1"])
    assert dataset[0].frame_path(0).endswith("img/1.png")
    (tmp_path / "dog/dog-1/img/4.png").rename(tmp_path / "dog/dog-1/img/0.png")
    with pytest.raises(AnnotationError, match=r"\(0\.png to 3\.png\).*numbers begin with 1"):
        LasotDataset(open_store(tmp_path), ["dog-1"])[0]


def test_rows_without_pictures_are_an_error_and_one_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for pictures in (2, 3):
        as_folder(lasot_tree(f"dog-{pictures}", pictures=pictures), tmp_path)
    as_folder(lasot_tree("dog-7", pictures=7), tmp_path)
    dataset = LasotDataset(open_store(tmp_path))
    with pytest.raises(AnnotationError, match=r"2 pictures .*4 annotation rows .*the last 2 rows have no picture"):
        dataset.by_name("dog-2")
    assert len(dataset.by_name("dog-3")) == 3
    assert len(dataset.by_name("dog-7")) == 4
    assert "3 pictures (00000001.jpg to 00000003.jpg), 4 annotation rows; the surplus is left out" in caplog.text
    assert "dog-7/img: more pictures than the 4 annotation rows" in caplog.text


def test_labels_for_more_frames_than_rows_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = {**lasot_tree(), "dog/dog-1/out_of_view.txt": "0,0,0,0,1,1"}
    assert len(LasotDataset(open_store(as_folder(tree, tmp_path)))[0]) == 4
    assert "out_of_view.txt: 6 rows for 4 frames" in caplog.text


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    tree = lasot_tree()
    tree["dog/dog-1/img/00000002.jpg"] = picture(1, ".jpg")[:300]
    with pytest.raises(DecodeError, match=r"img/00000002\.jpg"):
        LasotDataset(open_store(as_folder(tree, tmp_path)), ["dog-1"])[0].read_frame(1)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("groundtruth.txt", "1,2,3,4\n1,2,3\n", r"groundtruth\.txt, line 2: expected 4 numbers"),
        ("groundtruth.txt", "", r"groundtruth\.txt: no annotation row"),
        ("groundtruth.txt", b"\xff\xfe\x00", r"groundtruth\.txt: not a text file"),
        ("full_occlusion.txt", "0,0", r"full_occlusion\.txt: 2 values for 4 annotation rows"),
        ("out_of_view.txt", "0,0,x,0", r"out_of_view\.txt, line 1: .x. is not a number"),
    ],
)
def test_damaged_annotations_are_named(tmp_path: Path, file: str, content: str | bytes, message: str) -> None:
    tree = {**lasot_tree(), f"dog/dog-1/{file}": content}
    with pytest.raises(AnnotationError, match=message):
        LasotDataset(open_store(as_folder(tree, tmp_path)), ["dog-1"])[0]


def test_optional_lasot_files_and_a_doubled_folder(tmp_path: Path) -> None:
    tree = {k.replace("dog/dog-1/", "dog/dog-1/dog-1/"): v for k, v in lasot_tree().items() if "occl" not in k}
    sequence = LasotDataset(open_store(as_folder(tree, tmp_path)))[0]
    assert sequence.visible.tolist() == [True, True, False, True]


def test_a_sequence_that_is_not_there_is_named(tmp_path: Path) -> None:
    dataset = LasotDataset(open_store(as_folder(lasot_tree(), tmp_path)), ["dog-1", "dog-2"])
    assert dataset.by_name("dog-1").name == "dog-1"
    with pytest.raises(FileNotFoundError, match=r"dog/dog-2/groundtruth\.txt"):
        dataset[1]
    with pytest.raises(IndexError):
        dataset[2]


def test_a_folder_of_something_else_is_an_error_with_the_layout(tmp_path: Path) -> None:
    as_folder({"holiday/1.jpg": picture(1)}, tmp_path)
    with pytest.raises(FileNotFoundError, match="expected layout: <class>/<class>-<n>"):
        LasotDataset(open_store(tmp_path), ["dog-1"])


Opener = Callable[[Tree, Path], Path]


@pytest.mark.parametrize(
    "write",
    [
        as_folder,
        lambda tree, path: as_zip(tree, path, top="train"),
        lambda tree, path: as_lmdb({f"train/{k}": v for k, v in tree.items()}, path),
        lambda tree, path: as_folder({f"train/{k}": v for k, v in tree.items()}, path),
    ],
)
def test_got10k_at_the_root_or_below_train(tmp_path: Path, write: Opener) -> None:
    tree = {**got10k_tree(1), **got10k_tree(2), "list.txt": "GOT-10k_Train_000002\r\nGOT-10k_Train_000001\r\n"}
    dataset = Got10kDataset(open_store(write(tree, tmp_path / "got10k")))
    assert dataset.names == ["GOT-10k_Train_000002", "GOT-10k_Train_000001"]
    sequence = dataset[1]
    assert sequence.visible.tolist() == [True, False, False, False]
    assert sequence.visible_ratio is not None
    assert sequence.visible_ratio.tolist() == [1, 1, 1, 0]
    assert sequence.object_class == "bear"
    assert sequence.read_frame(3).size_hw == (24, 32)


def test_got10k_without_list_labels_and_meta(tmp_path: Path) -> None:
    tree = {k: v for k, v in got10k_tree(1).items() if not k.endswith(("label", "ini"))}
    dataset = Got10kDataset(open_store(as_folder(tree, tmp_path)))
    assert dataset[0].visible.tolist() == [True, True, False, True]
    assert dataset[0].visible_ratio is None
    assert set(dataset.object_meta(0).values()) == {None}


def test_got10k_test_part_has_one_box_and_all_its_pictures(tmp_path: Path) -> None:
    tree = {"GOT-10k_Test_000001/groundtruth.txt": "1,2,3,4\n", **frames("GOT-10k_Test_000001", "%08d.jpg", count=11)}
    sequence = Got10kDataset(open_store(as_folder(tree, tmp_path)), first_box_only=True)[0]
    assert len(sequence) == 11
    assert sequence.boxes_xywh[0].tolist() == [1, 2, 3, 4]
    assert np.isnan(sequence.boxes_xywh[1:]).all()
    assert sequence.valid.tolist() == [True] + [False] * 10


@pytest.mark.parametrize("rows", [None, range(11, 41), range(1, 9336)])
def test_got10k_splits_are_positions_and_a_partial_copy_is_reported(
    tmp_path: Path, rows: range | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether its list.txt is missing, has the sequences of the copy alone, or all."""
    tree: Tree = {}
    for number in range(11, 41):
        tree[f"GOT-10k_Train_{number:06d}/groundtruth.txt"] = BOXES
    if rows is not None:
        tree["list.txt"] = "".join(f"GOT-10k_Train_{n:06d}\n" for n in rows)
    paths = Folders(got10k=as_folder(tree, tmp_path))
    wanted = [f"GOT-10k_Train_{p + 1:06d}" for p in load_list("got10k_vot_train_split") if 10 <= p < 40]
    with caplog.at_level(logging.WARNING):
        assert build_dataset("GOT10K_vottrain", paths).names == wanted  # type: ignore[attr-defined]
    assert f"{len(wanted)} of its 7086" in caplog.text
    assert len(build_dataset("GOT10K_train_full", paths)) == 30


def trackingnet_chunk(videos: list[str]) -> Tree:
    tree: Tree = {}
    for video in videos:
        tree |= {f"anno/{video}.txt": BOXES, **frames(f"frames/{video}", "%d.jpg", first=0)}
    return tree


@pytest.mark.parametrize("kind", [*sorted(WRITERS), "lmdb per chunk", "lmdb per chunk, long keys", "zip per chunk"])
def test_trackingnet_in_one_store_or_one_per_chunk(tmp_path: Path, kind: str) -> None:
    chunks = {"TRAIN_0": trackingnet_chunk(["b_0", "a_0"]), "TRAIN_11": trackingnet_chunk(["c_0"])}
    long = {label: {f"{label}/{k}": v for k, v in tree.items()} for label, tree in chunks.items()}
    root = tmp_path / "trackingnet"
    if kind in WRITERS:
        root = WRITERS[kind]({k: v for tree in long.values() for k, v in tree.items()}, root)
    for label, tree in chunks.items():
        if kind.startswith("lmdb per"):
            as_lmdb(long[label] if "long" in kind else tree, root / f"{label}_lmdb")
            (root / "seq_list.json").write_text(json.dumps([[0, "a_0"], [0, "b_0"], [11, "c_0"]]))
        elif kind.startswith("zip per"):
            as_zip(tree, root / label, top=label)
    dataset = pickle.loads(pickle.dumps(TrackingNetDataset(root, chunks=[0, 11])))
    assert dataset.names == ["a_0", "b_0", "c_0"]
    assert dataset[2].valid.tolist() == dataset[2].visible.tolist() == [True, True, False, True]
    assert "frames/c_0/0.jpg" in dataset[2].frame_path(0)
    assert dataset[2].read_frame(3).size_hw == (24, 32)


def test_trackingnet_chunks_by_name(tmp_path: Path) -> None:
    tree = {f"TRAIN_{k}/anno/v{k}.txt": BOXES for k in (0, 1, 3)}
    paths = Folders(trackingnet=as_folder(tree, tmp_path))
    assert build_dataset("TRACKINGNET:0-1,3", paths).names == ["v0", "v1", "v3"]  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError, match=r"no chunk TRAIN_2 .*TRACKINGNET:0-3"):
        build_dataset("TRACKINGNET", paths)
    assert parse_chunks("6-11") == [6, 7, 8, 9, 10, 11]
    for wrong in ("12", "3-1", "x", "0-", "-1"):
        with pytest.raises(ValueError, match="expected chunks"):
            parse_chunks(wrong)


@pytest.mark.parametrize("entry", ['[1.5, "a_0"]', '["1_0", "a_0"]', "[0, 3]", '[true, "a_0"]'])
def test_trackingnet_list_with_something_else_than_chunk_and_video(tmp_path: Path, entry: str) -> None:
    as_folder({f"TRAIN_0/{k}": v for k, v in trackingnet_chunk(["a_0"]).items()}, tmp_path)
    (tmp_path / "seq_list.json").write_text(f"[{entry}]")
    with pytest.raises(AnnotationError, match=r"seq_list\.json: expected \[\[chunk, video\]"):
        TrackingNetDataset(tmp_path, chunks=[0])


@pytest.mark.parametrize("name", ["../../secret", "/etc", "a/../../b", "..", "a\\b", "a/"])
def test_a_list_names_videos_and_no_other_places(tmp_path: Path, name: str) -> None:
    as_folder(lasher_tree(["1.png"], ["1.png"], "1,2,3,4"), tmp_path / "a/b")
    (tmp_path / "a/b/list.txt").write_text(f"2up\n{name}\n")
    with pytest.raises(AnnotationError, match="is not a name of a video"):
        LasherDataset(open_store(tmp_path / "a/b"), listing="list.txt")


def test_an_empty_list_is_named(tmp_path: Path) -> None:
    tree: Tree = {**lasher_tree(["1.png"], ["1.png"], "1,2,3,4"), "list.txt": "\n"}
    with pytest.raises(AnnotationError, match=r"list\.txt: the list is empty"):
        LasherDataset(open_store(as_folder(tree, tmp_path)), listing="list.txt")


def test_a_name_that_a_list_has_twice_is_one_sequence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree: Tree = {**lasher_tree(["1.png"], ["1.png"], "1,2,3,4"), "list.txt": "2up\n\n2up\n"}
    assert LasherDataset(open_store(as_folder(tree, tmp_path)), listing="list.txt").names == ["2up"]
    assert "list.txt, line 3: 2up is in line 1 already" in caplog.text


def test_trackingnet_test_part(tmp_path: Path) -> None:
    tree = {"TEST/anno/v.txt": "1,2,3,4\n", **frames("TEST/frames/v", "%d.jpg", first=0, count=12)}
    sequence = TrackingNetDataset(as_folder(tree, tmp_path), test=True)[0]
    assert len(sequence) == 12
    assert sequence.frame_path(2).endswith("/2.jpg")


def coco_json() -> str:
    objects = [
        {"id": 9, "image_id": 5, "category_id": 3, "bbox": [1, 2, 60, 51.5], "iscrowd": 0},
        {"id": 4, "image_id": 5, "category_id": 3, "bbox": [1, 2, 60, 50], "iscrowd": 0},
        {"id": 7, "image_id": 5, "category_id": 3, "bbox": [1, 2, 60, 60], "iscrowd": 1},
    ]
    images = [{"id": 5, "file_name": "000000000005.jpg", "width": 32, "height": 24}]
    return json.dumps({"images": images, "annotations": objects, "categories": [{"id": 3, "name": "cat"}]})


@pytest.mark.parametrize("kind", sorted(WRITERS))
@pytest.mark.parametrize("folder", ["images/train2017", "train2017"])
def test_coco_objects_are_one_frame_sequences(tmp_path: Path, kind: str, folder: str) -> None:
    tree = {"annotations/instances_train2017.json": coco_json(), f"{folder}/000000000005.jpg": picture(1, ".jpg")}
    dataset = pickle.loads(pickle.dumps(CocoDataset(open_store(WRITERS[kind](tree, tmp_path / "coco")))))
    assert len(dataset) == 2
    assert not dataset.is_video
    assert not dataset[0].is_video
    assert [s.name for s in dataset] == ["000000000005_9", "000000000005_4"]
    assert [s.valid.tolist() for s in dataset] == [[True], [False]]
    assert dataset[0].boxes_xywh.tolist() == [[1, 2, 60, 51.5]]
    assert dataset[0].object_class == "cat"
    assert dataset[0].read_frame(0).size_hw == (24, 32)


def test_a_coco_file_that_is_none_is_named(tmp_path: Path) -> None:
    as_folder({"annotations/instances_train2017.json": "[]"}, tmp_path)
    with pytest.raises(AnnotationError, match=r"instances_train2017\.json: not a COCO annotation file; it has another"):
        CocoDataset(open_store(tmp_path))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": "a1", "size": [24, 32]}, r"instances_train2017\.json: object 1 has no polygons in 'segmentation'"),
        ([[1, 2, float("nan"), 4, 5, 6]], r"object 1 has a polygon with a number that is no place in a picture"),
        ([[1, 2, 1e12, 4, 5, 6]], r"object 1 has a polygon with a number that is no place in a picture"),
    ],
)
def test_coco_masks_that_are_no_polygons_are_one_sentence(
    tmp_path: Path, segmentation: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = {"id": 1, "image_id": 5, "bbox": [4, 6, 20, 18], "segmentation": segmentation}
    table: Any = {"images": [{"id": 5, "file_name": "a.jpg", "height": 24, "width": 32}], "annotations": [found]}
    as_folder({"annotations/instances_train2017.json": json.dumps(table)}, tmp_path)
    with pytest.raises(AnnotationError, match=message):
        CocoDataset(open_store(tmp_path), masks=True)
    assert len(CocoDataset(open_store(tmp_path))) == 1
    table["images"][0]["width"] = -32
    table["annotations"] = [{**found, "segmentation": [[1, 2, 3, 4, 5, 7]]}]
    as_folder({"annotations/instances_train2017.json": json.dumps(table)}, tmp_path)
    with pytest.raises(AnnotationError, match=r"instances_train2017\.json: image a\.jpg is said to have -32 x 24"):
        CocoDataset(open_store(tmp_path), masks=True)
    table["images"][0]["width"] = 32
    table["annotations"] = [{**found, "segmentation": [[1, 2, 3, 4]]}]
    as_folder({"annotations/instances_train2017.json": json.dumps(table)}, tmp_path)
    assert CocoDataset(open_store(tmp_path), masks=True)[0].read_mask is None, "two corners enclose nothing"
    assert "1 of 1 objects have no mask, since none of their polygons has three corners" in caplog.text


def test_coco_masks_are_the_inside_of_the_polygons(tmp_path: Path) -> None:
    square, corner = [4, 6, 12, 6, 12, 10, 4, 10], [20, 20, 24, 20, 24, 24]
    found = {"id": 1, "image_id": 5, "bbox": [4, 6, 20, 18], "segmentation": [square, corner]}
    table = {"images": [{"id": 5, "file_name": "5.jpg", "width": 32, "height": 30}], "annotations": [found]}
    tree: Tree = {
        "annotations/instances_train2017.json": json.dumps(table),
        "images/train2017/5.jpg": picture(1, ".jpg"),
    }
    paths = Folders(coco=as_folder(tree, tmp_path))
    video = pickle.loads(pickle.dumps(build_dataset("COCO17_masks", paths)[0]))
    (mask,) = video.masks([0])
    assert (mask.shape, mask.dtype) == ((30, 32), np.bool_)
    assert mask[6:10, 4:12].all()
    assert mask[21, 23]
    assert not mask[23, 20], "the other half of the triangle's box"
    assert 32 + 6 <= mask.sum() <= 32 + 36
    plain = build_dataset("COCO17", paths)[0]
    assert plain.read_mask is None
    assert (video.valid.all(), plain.valid.any()) == (True, False), "OSTrack's rule wants sides above 50 pixels"


@pytest.mark.slow
@pytest.mark.parametrize("masks", [False, True])
def test_the_polygons_of_a_coco_file_never_lie_in_memory_as_lists(tmp_path: Path, masks: bool) -> None:
    polygon = [1.25 + i / 8 for i in range(200)]
    images = [{"id": 5, "file_name": "5.jpg", "width": 320, "height": 300}]
    rows = [
        {"id": i, "image_id": 5, "bbox": [4, 6, 20, 18], "iscrowd": 0, "segmentation": [polygon]} for i in range(3000)
    ]
    text = json.dumps({"images": images, "annotations": rows})
    as_folder({"annotations/instances_train2017.json": text}, tmp_path)
    store, size = open_store(tmp_path), len(text)
    del rows
    tracemalloc.start()
    dataset = CocoDataset(store, masks=masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(dataset) == 3000
    assert peak < 4 * size, "text and bytes, and an array of each outline; lists of numbers take five times the text"


def vid_xml(objects: dict[int, tuple[int, int]]) -> str:
    parts = "".join(
        f"<object><trackid>{t}</trackid><name>n0{t}</name><bndbox><xmax>{x + 10}</xmax><xmin>{x}</xmin>"
        f"<ymax>30</ymax><ymin>5</ymin></bndbox><occluded>{o}</occluded></object>"
        for t, (x, o) in objects.items()
    )
    return f"<annotation><size><width>320</width><height>240</height></size>{parts}</annotation>"


def test_vid_tracklets_end_where_the_target_is_missing_and_are_cached(tmp_path: Path) -> None:
    video = "ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000002"
    per_frame = [{8: (1, 0)}, {8: (2, 1), 7: (9, 0)}, {7: (10, 0)}, {8: (4, 0), 7: (11, 0)}]  # in order of appearance
    tree: Tree = {f"Annotations/VID/train/{video}/{i:06d}.xml": vid_xml(o) for i, o in enumerate(per_frame)}
    tree |= frames(f"Data/VID/train/{video}", "%06d.JPEG", first=0)
    root = as_folder(tree, tmp_path)
    collected = ImagenetVidDataset(open_store(root))
    cached = ImagenetVidDataset(open_store(root))
    assert (root / "cache.json").is_file()
    for dataset in (collected, cached):
        assert [len(s) for s in dataset] == [2, 3]
        assert dataset[0].boxes_xywh.tolist() == [[1, 5, 10, 25], [2, 5, 10, 25]]
        assert dataset[0].visible.tolist() == [True, False]
        assert [s.object_class for s in dataset] == ["n08", "n07"]
        assert dataset[1].frame_path(0).endswith(f"{video}/000001.JPEG")
        dataset[1].read_frame(2)
    (root / "Annotations/VID/train/readme.txt").write_text("no folder")
    (root / "cache.json").unlink()
    assert len(ImagenetVidDataset(open_store(root))) == 2
    (root / "cache.json").unlink()
    (root / f"Annotations/VID/train/{video}/000002.xml").unlink()
    with pytest.raises(AnnotationError, match=r"no 000002\.xml before 000003\.xml"):
        ImagenetVidDataset(open_store(root))
    (root / "cache.json").write_text("[{}]")
    with pytest.raises(AnnotationError, match=r"cache\.json: expected a list of tracklets"):
        ImagenetVidDataset(open_store(root))


def test_vasttrack_in_both_spellings(tmp_path: Path) -> None:
    boxes = "1,2,3,4\n5,5,5,0\n0,0,0,0\n"
    tree: Tree = {"Saint-Bernard/Saint-Bernard-3/Groundtruth.txt": boxes, "Big_cat/Big_cat-1/groundtruth.txt": boxes}
    tree |= frames("Saint-Bernard/Saint-Bernard-3/imgs", "%05d.jpg", count=3)
    tree |= frames("Big_cat/Big_cat-1/img", "%05d.jpg", count=3)
    store = open_store(as_folder(tree, tmp_path))
    assert VastTrackDataset(store).names == ["Big_cat-1", "Saint-Bernard-3"]
    for sequence in VastTrackDataset(store, ["Saint-Bernard-3", "Big cat-1"]):
        assert sequence.valid.tolist() == [True, False, False]
        assert sequence.visible.tolist() == [True, True, False]
        sequence.read_frame(2)
    assert VastTrackDataset(store)[1].object_class == "Saint-Bernard"


def test_tnl2k_takes_pictures_in_order_and_nothing_else(tmp_path: Path) -> None:
    names = ["8.png", "9.png", "10.png", "11.png"]
    tree: Tree = {f"INF_car_1/imgs/{n}": picture(i) for i, n in enumerate(names)}
    tree |= {"INF_car_1/imgs/12.pn_error": "?", "INF_car_1/groundtruth.txt": "1,2,3,4\n-9,-9,0,0\n1,2,3,4\n1,2,3,4"}
    sequence = Tnl2kDataset(open_store(as_folder(tree, tmp_path)))[0]
    assert sequence.object_class == "car"
    assert sequence.valid.tolist() == [True, False, True, True]
    for i in range(4):
        np.testing.assert_array_equal(sequence.read_frame(i).rgb, pixels_of(i))


@pytest.mark.parametrize(
    ("visible", "infrared"),
    [
        (["v000.png", "v001.png", "v002.png", "v003.png"], ["i0001.png", "i0002.png", "i0003.png", "i0004.png"]),
        (["v998.png", "v999.png", "v1000.png", "v1001.png"], ["1.png", "2.png", "3.png", "4.png"]),
    ],
)
def test_lasher_pairs_by_position(tmp_path: Path, visible: list[str], infrared: list[str]) -> None:
    sequence = LasherDataset(open_store(as_folder(lasher_tree(visible, infrared), tmp_path)))[0]
    assert sequence.modality is Modality.RGBT
    for i in range(4):
        frame = sequence.read_frame(i)
        np.testing.assert_array_equal(frame.rgb, pixels_of(i))
        np.testing.assert_array_equal(frame.aux, pixels_of(100 + i))


def test_lasher_one_more_at_the_end_is_left_out(tmp_path: Path) -> None:
    tree = lasher_tree([f"v{i}.png" for i in range(5)], [f"i{i}.png" for i in range(4)])
    assert len(LasherDataset(open_store(as_folder(tree, tmp_path / "a")))[0]) == 4
    tree = lasher_tree([f"v{i}.png" for i in range(4)], [f"i{i}.png" for i in range(3)])
    assert len(LasherDataset(open_store(as_folder(tree, tmp_path / "b")))[0]) == 3


@pytest.mark.parametrize(
    ("visible", "infrared", "lonely"),
    [
        ([0, 1, 2, 3], [0, 2, 3], r"visible/v1\.png has no counterpart"),
        ([0, 2, 3], [0, 1, 2, 3], r"infrared/i1\.png has no counterpart"),
        ([0, 1, 2, 3], [0, 1], r"visible/v2\.png has no counterpart"),
        (
            [0, 1, 3],
            [0, 1, 3],
            r"3 pictures in .*visible \(v0\.png to v3\.png\) .*4 annotation rows .*the one after v1\.png",
        ),
        (
            [0, 1, 2, 3, 4, 5],
            [1, 2, 3, 4, 5, 6],
            r"6 pictures in .*\(v0\.png to v5\.png\) .*4 annotation rows \(1 to 4\).*any of 2 pictures",
        ),
    ],
)
def test_lasher_a_missing_picture_is_named_not_shifted(
    tmp_path: Path, visible: list[int], infrared: list[int], lonely: str
) -> None:
    tree = lasher_tree([f"v{i}.png" for i in visible], [f"i{i}.png" for i in infrared])
    with pytest.raises(AnnotationError, match=lonely):
        LasherDataset(open_store(as_folder(tree, tmp_path)))[0]


def test_lasher_an_extra_picture_between_the_others_is_named_odd_numbers_are_not(tmp_path: Path) -> None:
    thermal = [f"i{i}.png" for i in range(4)]
    extra = lasher_tree(["v0.png", "v1.png", "v1 (2).png", "v2.png", "v3.png"], thermal)
    with pytest.raises(AnnotationError, match=r"visible/v1 \(2\)\.png has no counterpart"):
        LasherDataset(open_store(as_folder(extra, tmp_path / "a")))[0]
    odd = lasher_tree(["v0.png", "v2.png", "v4.png", "v6.png", "v8.png"], thermal)
    assert len(LasherDataset(open_store(as_folder(odd, tmp_path / "b")))[0]) == 4


@pytest.mark.parametrize("nested", [False, True])
def test_depthtrack(tmp_path: Path, nested: bool) -> None:
    depth = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 10
    place = "bag_indoor/bag_indoor" if nested else "bag_indoor"
    tree: Tree = {f"{place}/groundtruth.txt": "1,2,30,40\nnan,nan,nan,nan\n1,2,10,40\n1,2,11,11\n"}
    tree |= frames(f"{place}/color", "%08d.jpg")
    tree |= {f"{place}/depth/{i:08d}.png": cv2.imencode(".png", depth)[1].tobytes() for i in range(1, 5)}
    sequence = DepthTrackDataset(open_store(as_folder(tree, tmp_path)))[0]
    assert sequence.valid.tolist() == [True, False, False, True]
    assert sequence.modality is Modality.RGBD
    assert sequence.object_class == "bag"
    np.testing.assert_array_equal(sequence.read_frame(3).aux, depth_to_picture(depth, clip=True))


def test_depthtrack_with_a_hole_in_the_depth_is_an_error_at_that_frame(tmp_path: Path) -> None:
    tree: Tree = {"bag/groundtruth.txt": BOXES, **frames("bag/color", "%08d.jpg"), **frames("bag/depth", "%08d.png")}
    del tree["bag/depth/00000002.png"]
    with pytest.raises(FileNotFoundError, match=r"depth/00000002\.png"):
        DepthTrackDataset(open_store(as_folder(tree, tmp_path)))[0].read_frame(1)


def test_visevent_pairs_by_name_from_any_first_number(tmp_path: Path) -> None:
    tree = {**visevent_tree([7, 8, 9, 10], [6, 7, 8, 9, 10, 11]), "trainlist.txt": "tank\r\n", "other/x.txt": ""}
    dataset = VisEventDataset(open_store(as_folder(tree, tmp_path)))
    assert dataset.names == ["tank"]
    sequence = dataset[0]
    assert sequence.modality is Modality.RGBE
    assert sequence.valid.tolist() == [True, True, False, True]
    assert sequence.visible.tolist() == [True, False, False, True]
    frame = sequence.read_frame(3)
    np.testing.assert_array_equal(frame.rgb, pixels_of(10))
    np.testing.assert_array_equal(frame.aux, pixels_of(110))


def test_visevent_a_missing_event_picture_is_named_or_replaced_never_shifted(tmp_path: Path) -> None:
    store = open_store(as_folder(visevent_tree([0, 1, 2, 3], [0, 2, 3]), tmp_path))
    sequence = VisEventDataset(store)[0]
    with pytest.raises(FileNotFoundError, match=r"event_imgs/frame0001\.bmp"):
        sequence.read_frame(1)
    np.testing.assert_array_equal(sequence.read_frame(2).aux, pixels_of(102))
    reused = VisEventDataset(store, reuse_missing_events=True)[0]
    np.testing.assert_array_equal(reused.read_frame(1).aux, pixels_of(100))
    np.testing.assert_array_equal(reused.read_frame(2).aux, pixels_of(102))


def test_visevent_a_missing_rgb_picture_is_named(tmp_path: Path) -> None:
    store = open_store(as_folder(visevent_tree([0, 2, 3], [0, 1, 2, 3]), tmp_path))
    with pytest.raises(AnnotationError, match=r"vis_imgs/frame0001\.bmp is missing"):
        VisEventDataset(store)[0]


@pytest.mark.parametrize("top", ["", "trainingset"])
def test_a_zip_with_one_sequence_with_and_without_its_folder(tmp_path: Path, top: str) -> None:
    names = [f"{i}.png" for i in range(4)]
    store = open_store(as_zip(lasher_tree(names, names), tmp_path / "lasher", top=top))
    dataset = LasherDataset(store)
    assert dataset.names == ["2up"]
    np.testing.assert_array_equal(dataset[0].read_frame(1).aux, pixels_of(101))


def test_names_of_yaml_files(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(4)]
    root = as_folder(lasher_tree(names, names), tmp_path / "x")
    paths = Folders(lasher=root, coco=tmp_path)
    lists = load_list("lasher_splits")
    for name in lists["all_979"]:
        (root / name).mkdir(exist_ok=True)
        (root / name / "init.txt").touch()
    for name, split in (
        ("LasHeR_all", "all_979"),
        ("LasHeR_train", "train_881_sdstrack"),
        ("lasher_train:882", "train_882_cstrack"),
        ("LasHeR_val", "val_97"),
    ):
        assert build_dataset(name, paths).names == lists[split]  # type: ignore[attr-defined]
    with pytest.raises(UnknownNameError, match="did you mean 'LasHeR_train'"):
        build_dataset("LasHeR_trian", paths)
    with pytest.raises(ValueError, match="LasHeR_all has no parts"):
        build_dataset("LasHeR_all:3", paths)
    with pytest.raises(FileNotFoundError, match="set lasot"):
        build_dataset("LASOT", paths)


def test_a_part_of_an_rgbx_set_is_trained_on_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{i}.png" for i in range(4)]
    root = as_folder(lasher_tree(names, names), tmp_path / "x")
    found = build_dataset("LasHeR_train", Folders(lasher=root))
    assert found.names == ["2up"]  # type: ignore[attr-defined]
    assert "LasHeR_train: 1 of its 881 sequences" in caplog.text
    with pytest.raises(
        FileNotFoundError, match=r"LasHeR_val: no sequence found: .* which holds .*; expected layout: <seq>/"
    ):
        build_dataset("LasHeR_val", Folders(lasher=root))
    (root / "2up").rename(root / "mine")
    assert build_dataset("LasHeR_train", Folders(lasher=root)).names == ["mine"]  # type: ignore[attr-defined]
    assert "none of its 881 sequences" in caplog.text


def test_a_part_of_lasot_is_trained_on_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["airplane-14", "airplane-10", "bear-10"]
    tree = {key: value for name in names for key, value in lasot_tree(name).items()}
    tree |= {f"zebra-1/{key.split('/', 2)[2]}": value for key, value in lasot_tree("zebra-1").items()}
    tree |= lasot_tree("airplane-1")  # a test sequence
    for kind, writer in WRITERS.items():
        caplog.clear()
        found = build_dataset("LASOT", Folders(lasot=writer(tree, tmp_path / f"{kind}/lasot")))
        assert sorted(found.names) == ["airplane-10", "airplane-14", "bear-10", "zebra-1"]  # type: ignore[attr-defined]
        assert "LASOT: 4 of its 1120 sequences" in caplog.text
        assert [len(sequence) for sequence in found] == [4] * 4


def test_the_kind_of_store(tmp_path: Path) -> None:
    tree = lasot_tree("dog-2")
    folder, env = as_folder(tree, tmp_path / "lasot"), as_lmdb(tree, tmp_path / "lasot_lmdb")
    both, only_lmdb = Folders(lasot=folder, lasot_lmdb=env), Folders(lasot_lmdb=env)

    assert build_dataset("LASOT", both).names == ["dog-2"]  # type: ignore[attr-defined]
    assert build_dataset("LASOT", both, lmdb=True).store.describe("").startswith(str(env))  # type: ignore[attr-defined]
    assert build_dataset("LASOT", only_lmdb).store.describe("").startswith(str(env))  # type: ignore[attr-defined]
    assert build_dataset("LASOT", both).store.describe("") == str(folder)  # type: ignore[attr-defined]


def test_the_index_of_many_sequences_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "TRAIN_0" / "anno"
    root.mkdir(parents=True)
    for i in range(5000):
        (root / f"video_{i}.txt").touch()
    opened: list[str] = []
    monkeypatch.setattr("lib.data.store.DirectoryStore.read", lambda _store, key: opened.append(key) or b"")
    dataset = TrackingNetDataset(tmp_path, chunks=[0])
    assert len(dataset) == 5000
    assert opened == []
    with pytest.raises(ValueError, match="video_0"):
        dataset[0]
    assert opened == ["TRAIN_0/anno/video_0.txt"], "the store that is watched is not the one that is read"


def test_the_annotation_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.data.datasets.base.CACHE_BYTES", 3000)
    tree = {k: v for i in range(5) for k, v in trackingnet_chunk([f"v{i}"]).items() if k.startswith("anno")}
    tree |= {f"frames/v{i}/{n}.jpg": "" for i in range(5) for n in range(4)}
    dataset = TrackingNetDataset(as_folder({f"TRAIN_0/{k}": v for k, v in tree.items()}, tmp_path), chunks=[0])
    for i in [0, 1, 2, 3, 4, 0, 0, 1]:
        assert dataset[i].name == f"v{i}"
    assert len(dataset._cache) == 2
    assert dataset._cached_bytes == sum(a.nbytes for a in dataset._cache.values())
