"""Pseudo labels of another data set's pictures: what is read, and what is said of files that are not as they should."""

from __future__ import annotations

import importlib
import json
import logging
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lib.data import AnnotationError, Modality
from lib.data.datasets import build_dataset
from lib.paths import Paths, load_paths
from tests.unit.data.tiny import sampler, section
from tests.unit.data.trees import WRITERS, as_folder, picture, pixels_of

FRAMES = 6


def track(ids: list[str], box=(2, 3, 11, 12), **meta) -> dict:
    rows = {name: [*box, 0.5, 0.25, 1, 4, 0.125] for name in ids}
    size = {"frame_sz": [32, 24], "bbox_picked_freq": 0.9, "corner_bbox_freq": 0.125}
    return {**rows, "meta": {**size, **meta}}


def lasher_tree(names: list[str]) -> dict[str, str | bytes]:
    tree: dict[str, str | bytes] = {}
    for n, name in enumerate(names):
        tree[f"{name}/visible.txt"] = tree[f"{name}/infrared.txt"] = "1,1,5,5\n" * FRAMES
        for i in range(FRAMES):
            tree[f"{name}/visible/v{i:03d}.png"] = picture(100 * n + i)
            tree[f"{name}/infrared/i{i:03d}.png"] = picture(100 * n + 50 + i)
    return tree


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a LasHeR of two sequences and a label file; the paths to both."""
    monkeypatch.setenv("TRACKING_LOCAL_YAML", str(tmp_path / "local.yaml"))
    (tmp_path / "local.yaml").write_text("data_dir: data\n")
    as_folder(lasher_tree(["boy", "car"]), tmp_path / "data/lasher/trainingset")

    def labels(table: object) -> Paths:
        text = table if isinstance(table, str) else json.dumps(table)
        as_folder({"train.json": text}, tmp_path / "data/pseudo_labels/lasher")
        return load_paths()

    return labels


def ids(count: int = FRAMES) -> list[str]:
    return [f"v{i:03d}" for i in range(count)]


def test_boxes_pictures_and_qualities(write):
    dataset = build_dataset("LASHER_pseudo", write({"car": {"00": track(ids())}}))
    (video,) = dataset
    assert (video.name, dataset.name, dataset.modality) == ("car", "lasher_pseudo", Modality.RGBT)
    assert video.boxes_xywh.tolist() == [[2, 3, 10, 10]] * FRAMES  # ends of the file are inclusive
    assert video.visible.all()
    frame = video.read_frame(4)
    assert np.array_equal(frame.rgb, pixels_of(104))
    assert np.array_equal(frame.aux, pixels_of(154))
    found = video.qualities
    assert (found.picked, found.corner, found.short[0], found.long[0]) == (0.9, 0.125, 0.5, 0.25)
    assert (found.window[3].tolist(), found.corner_score[5]) == ([1, 4], 0.125)
    assert pickle.loads(pickle.dumps(dataset)).qualities(0).video == pytest.approx(0.9 - 0.125 / 3)


def test_names_of_frames_in_usots_own_files(write, tmp_path):
    tree = {f"2up/visible/{i:06d}.01.x.png": picture(i) for i in range(3)}
    tree |= {f"2up/infrared/{i:06d}.01.x.png": picture(9 + i) for i in range(3)}
    as_folder({**tree, "2up/visible.txt": "1,1,5,5\n" * 3}, tmp_path / "data/lasher/trainingset")
    dataset = build_dataset("LASHER_pseudo", write({"2up": {"01": track(["000002", "000001"])}}))
    assert np.array_equal(dataset[0].read_frame(0).rgb, pixels_of(1))
    assert np.array_equal(dataset[0].read_frame(1).aux, pixels_of(11))


def test_every_track_is_a_video(write):
    dataset = build_dataset("lasher_PSEUDO", write({"boy": {"00": track(ids()), "01": track(ids(3))}, "car": {}}))
    assert [(video.name, len(video)) for video in dataset] == [("boy.00", FRAMES), ("boy.01", 3)]


def test_only_videos_of_the_subset_are_taken(write, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = build_dataset("LasHeR_train_pseudo", write({"boy": {"00": track(ids())}, "x": {"00": track(ids())}}))
    assert [video.name for video in dataset] == ["boy"]


def test_numbers_of_all_tracks_are_never_in_memory_as_lists(write):
    paths = write({"boy": {f"{k:02d}": track(ids(100)) for k in range(40)}})
    size = (paths.pseudo_labels / "lasher" / "train.json").stat().st_size
    tracemalloc.start()
    try:
        assert len(build_dataset("LASHER_pseudo", paths)) == 40
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 6 * size, "the text as bytes and as letters, and arrays"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_from_any_store(write, tmp_path, kind, monkeypatch):
    place = WRITERS[kind](lasher_tree(["boy"]), tmp_path / "copy")
    monkeypatch.setenv("TRACKING_LASHER_LMDB_DIR" if kind == "lmdb" else "TRACKING_LASHER_DIR", str(place))
    paths = write({"boy": {"00": track(ids())}})
    dataset = build_dataset("LASHER_pseudo", paths, lmdb=kind == "lmdb")
    assert np.array_equal(dataset[0].read_frame(5).aux, pixels_of(55))


def test_labels_at_another_place(write, tmp_path, monkeypatch):
    paths = write({"boy": {"00": track(ids())}})
    (tmp_path / "data/pseudo_labels").rename(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=r"there are no pseudo labels at .*lasher/train\.json; make them with"):
        build_dataset("LASHER_pseudo", paths)
    monkeypatch.setenv("TRACKING_PSEUDO_LABELS_DIR", str(tmp_path / "other"))
    assert len(build_dataset("LASHER_pseudo", load_paths())) == 1


def test_samplers_of_all_kinds_draw_from_them(write):
    dataset = build_dataset("LASHER_pseudo", write({"boy": {"00": track(ids())}}))
    sample = sampler(dataset, data=section(1, 2), mode="quality")(1, 3)
    first = sample.frame_ids[0]
    assert sample.frame_ids == (first, first + 1, first + 2)
    assert len(sampler(dataset, data=section(1, 2), mode="window")(1, 3).frame_ids) == 3


LABELS = r"train\.json"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, rf"{LABELS}: there is no track in it, expected \{{video"),
        ({"boy": {}}, rf"{LABELS}: there is no track in it"),
        ("[]", rf"{LABELS}: expected \{{video"),
        ('{"boy": {"00": {"v000": [1, 2', rf"{LABELS}: not readable as JSON, it may be cut short \("),
        ({"boy": {"00": {"v000": [1, 2, 3]}}}, rf"{LABELS}: boy, track 00: expected frames and 'meta'$"),
        ({"boy": {"00": track([])}}, rf"{LABELS}: boy, track 00: no frame, expected x1, y1"),
        ({"boy": {"00": {**track(["v000"]), "v001": [1, 2, 3]}}}, rf"{LABELS}: boy, track 00: frame v001, expected x1"),
        (
            {"boy": {"00": track(ids(), (2, 3, 33, 12))}},
            rf"{LABELS}: boy, track 00: the box 2, 3, 33, 12 of frame v000 is not inside the picture of 32 x 24$",
        ),
        (
            {"boy": {"00": track(ids(), (-1, 3, 9, 12))}},
            r"the box -1, 3, 9, 12 of frame v000 is not inside the picture",
        ),
        ({"boy": {"00": track(ids(), (9, 3, 8, 12), frame_sz=None)}}, r"of frame v000 is not inside any picture$"),
        (
            {"boy": {"00": {**track(["v000"]), "v001": [1, 2, 3, 4, 1, 1, 1e300, 0, 1]}}},
            rf"{LABELS}: boy, track 00: the qualities of frame v001 are infinite, or too large",
        ),
        ({"boy": {"00": track(ids(), bbox_picked_freq=1.5)}}, r"meta\.bbox_picked_freq is 1\.5, expected a share"),
        ({"boy": {"00": track(ids(), bbox_picked_freq=0)}}, r"bbox_picked_freq is 0, expected"),
        ({"boy": {"00": track(ids(), corner_bbox_freq="x")}}, r"meta\.corner_bbox_freq is 'x', expected a share"),
    ],
)
def test_damaged_label_files_are_one_sentence(write, table, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        build_dataset("LASHER_pseudo", write(table))
    assert "\n" not in str(caught.value)


def test_labels_of_another_data_set_are_one_sentence(write):
    with pytest.raises(FileNotFoundError, match=r"labels of 1 tracks \(x, \.\.\.\), none of a video of lasher$"):
        build_dataset("LASHER_pseudo", write({"x": {"00": track(ids())}}))


def test_frames_that_are_not_there_leave_one_video_out(write):
    dataset = build_dataset("LASHER_pseudo", write({"boy": {"00": track(["v007"])}, "car": {"00": track(ids())}}))
    with pytest.raises(
        AnnotationError, match=r"boy, track 00 has a box in frame 'v007', which is no picture among the 6"
    ):
        dataset[0]
    source = sampler(dataset, data=section(1, 2), mode="quality", max_bad_samples=0.9)
    assert {source(1, i).sequence for i in range(10)} == {"car"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("SYNTHETIC_pseudo", "SYNTHETIC is rendered on demand; tracking/make_synthetic_data.py"), ("NOPE_pseudo", "NOPE")],
)
def test_names_that_have_no_videos_are_one_sentence(write, name, message):
    with pytest.raises((ValueError, LookupError), match=message):
        build_dataset(name, write({}))


def test_the_data_check_reads_pseudo_labels(write, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "tracking")
    main = importlib.import_module("check_data").main
    write({"boy": {"00": track(ids())}, "car": {"00": track(ids())}})
    assert main(["LASHER_pseudo", "--full"]) == 0
    assert "LASHER_pseudo" in (said := capsys.readouterr().out)
    assert "2 / 2" in said
    write({"boy": {"00": track(["v007"])}, "car": {"00": track(ids())}})
    assert main(["LASHER_pseudo"]) == 1
    assert "has a box in frame 'v007'" in capsys.readouterr().out
    write({})
    assert main(["LASHER_pseudo"]) == 1
    assert "there is no track in it" in capsys.readouterr().out
