"""Arrays that are kept for later processes: made once, and again after a change."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.data import open_store
from lib.data.datasets import CocoDataset, ImagenetVidDataset, StoredDataset, YoutubeVosDataset, build_dataset, kept
from lib.data.datasets.kept import kept_arrays
from lib.data.store import Store
from lib.machine import keep_choice, kept_choices, one_at_a_time
from lib.paths import load_paths
from tests.unit.data.test_datasets import vid_xml
from tests.unit.data.test_youtube_vos import write as write_youtube_vos
from tests.unit.data.trees import as_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "KEEP_SECONDS", -1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.json").write_text("1 2 3")
    return tmp_path / "cache/unitrack/annotations"


@pytest.mark.parametrize("named", ["", "~/cache"])
def test_a_user_without_a_home_keeps_nothing(named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it ends where no home is known
    assert kept_choices() == {}
    keep_choice("key", "value")
    with one_at_a_time():
        assert kept_choices() == {}
    assert not list(tmp_path.iterdir())


def read(root: Path, made: list[int]) -> list[float]:
    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": np.array([float(word) for word in (root / "set/a.json").read_text().split()])}

    return kept_arrays(open_store(root / "set"), ["a.json"], "numbers", make)["x"].tolist()


def test_arrays_are_made_once_and_again_when_the_file_or_the_kept_copy_changed(tmp_path: Path, cache: Path) -> None:
    made: list[int] = []
    assert [read(tmp_path, made) for _ in range(3)] == [[1, 2, 3]] * 3
    assert len(made) == 1
    (tmp_path / "set/a.json").write_text("4 5 6")  # as long as before: its time tells
    os.utime(tmp_path / "set/a.json", ns=(1, 1))
    assert [read(tmp_path, made) for _ in range(2)] == [[4, 5, 6]] * 2
    assert len(made) == 2
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert [read(tmp_path, made) for _ in range(2)] == [[4, 5, 6]] * 2
    assert len(made) == 3
    assert len(list(cache.iterdir())) == 1, "one file however often it changes"


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("")
    assert read(tmp_path, []) == [1, 2, 3]
    assert re.search(r"each process reads .*a\.json from scratch", caplog.text)


def many_reads(root: Path, cache: Path) -> None:
    for _ in range(100):
        assert read(root, []) == [1, 2, 3]
        for file in cache.glob("*.npz"):
            file.unlink(missing_ok=True)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_several_processes_make_and_read_the_same_arrays(tmp_path: Path, cache: Path) -> None:
    forked = multiprocessing.get_context("fork")
    processes = [forked.Process(target=many_reads, args=(tmp_path, cache)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert not list(cache.glob("*.tmp"))


def test_each_reader_gives_the_same_from_kept_arrays(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    square, empty = [[0, 0, 18, 0, 18, 18, 0, 18]], [[1, 2, 3, 4]]
    table = {
        "images": [{"id": 5, "file_name": "5.jpg", "width": 32, "height": 24}],
        "annotations": [
            {"id": i, "image_id": 5, "category_id": 3, "bbox": [1, 2, 60, 51.5 + i], "segmentation": polygons}
            for i, polygons in enumerate((square, empty))
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    as_folder({"annotations/instances_train2017.json": json.dumps(table)}, tmp_path / "coco")
    video = "ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000002"
    tree = {f"Annotations/VID/train/{video}/{i:06d}.xml": vid_xml({8: (i, 0)}) for i in range(3)}
    tree[f"Data/VID/train/{video}/000000.JPEG"] = ""
    as_folder(tree, tmp_path / "vid/ILSVRC2015")
    write_youtube_vos(tmp_path)
    crops = {"a": {"00": {"000001": [0, 0, 30, 40], "000003": [1, 2, 30, 50]}, "01": {"000002": [3, 3]}}}
    as_folder({"train.json": json.dumps(crops), "crop511/a/000001.00.x.jpg": ""}, tmp_path / "pysot511")
    readers: dict[str, Callable[[Store], StoredDataset]] = {
        "coco": CocoDataset,
        "coco_masks": lambda store: CocoDataset(store, masks=True),
        "vid": ImagenetVidDataset,
        "youtube_vos": YoutubeVosDataset,
        "pysot511": lambda store: build_dataset(f"PYSOT511:{store.file('train.json')}", load_paths()),
    }

    def annotations() -> dict[str, list[tuple[Any, ...]]]:
        found = {}
        for name, reader in readers.items():
            dataset = reader(open_store(tmp_path / name.removesuffix("_masks")))
            rows = [dataset.annotation(i) for i in range(len(dataset))]
            masks = [None if a.read_mask is None else int(a.read_mask(0).sum()) for a in rows]
            assert name != "coco_masks" or (masks[0], masks[1]) == (361, None)
            values = [(a.boxes_xywh.tolist(), a.valid.tolist(), a.object_class) for a in rows]
            found[name] = list(zip(values, masks, strict=True))
        return found

    first = annotations()
    assert annotations() == first  # VID's XML files become its cache.json, from which the arrays are made
    for module, function in (
        ("coco", "_read_table"),
        ("imagenet_vid", "_read_tracklets"),
        ("prepared_crops", "_read_table"),
    ):
        monkeypatch.delattr(f"lib.data.datasets.{module}.{function}")
    monkeypatch.delattr("lib.data.datasets.youtube_vos.box_around")
    assert annotations() == first
    assert (tmp_path / "vid/ILSVRC2015/cache.json").is_file(), "also where the layout starts further below"
