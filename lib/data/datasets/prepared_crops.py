"""Crops of 511 pixels that PySOT's scripts have cut, with their JSON: ``PYSOT511:path/to/train.json``."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data.datasets.base import Annotation, StoredDataset
from lib.data.datasets.frames import FrameFiles, Listed
from lib.data.datasets.kept import kept_arrays
from lib.data.io import AnnotationError, DecodeError, expect_form
from lib.data.store import open_store
from lib.data.types import Boxes, Frame
from lib.files import user_path

PREPARED = "PYSOT511"
SIDE, TEMPLATE = 511, 127
FOLDER = "crop511"


class CropFiles(FrameFiles):
    """Crops, all of one size."""

    def read(self, index: int) -> Frame:
        """As `FrameFiles.read`; DecodeError also for a picture that is no crop of 511 pixels."""
        found = super().read(index)
        if found.size_hw != (SIDE, SIDE):
            height, width = found.size_hw
            raise DecodeError(f"{self.path(index)}: a picture of {width} x {height}; crops have {SIDE} x {SIDE} pixels")
        return found


class PreparedCrops(StoredDataset):
    """`{"<video>": {"<track>": {"<frame>": [x1, y1, x2, y2]}}}` and `<video>/<frame>.<track>.x.jpg`.

    A sequence is a track of a video. Its boxes are in pixels of the crops: the target is in the middle, its context has
    127 pixels. Boxes of no size are left out.

    Args:
        path: The JSON; the crops are in `crop511` next to it, or in its own folder.

    Raises:
        AnnotationError: The JSON has another form, or names no crop that is there.
    """

    def __init__(self, path: Path) -> None:
        found = kept_arrays(open_store(path.parent), [path.name], "prepared crops", lambda: _read_table(path))
        self._inside, self._ids = found["inside"], found["ids"]
        self._ends, self._labels = found["ends"], found["labels"]
        folder = path.parent / FOLDER
        store = open_store(folder if folder.is_dir() else path.parent)
        super().__init__(store, found["names"].tolist(), f"{path.parent.name}/{path.name}")
        if not any(store.exists(self._files(i).key(0)) for i in range(min(len(self), 20))):
            first = store.describe(self._files(0).key(0))
            raise AnnotationError(f"{path}: the crops that it names are not there, such as {first}")

    def _rows(self, index: int) -> slice:
        return slice(self._ends[index], self._ends[index + 1])

    def _files(self, index: int) -> Listed:
        label = str(self._labels[index])
        video = self.names[index].removesuffix(f".{label}")
        return Listed.of(video, [f"{frame}.{label}.x.jpg" for frame in self._ids[self._rows(index)]])

    def _read(self, index: int) -> Annotation:
        boxes = self._inside[self._rows(index)]
        valid = np.ones(len(boxes), dtype=bool)
        return Annotation(boxes, valid, valid, CropFiles(self.store, self._files(index)))


def _read_table(path: Path) -> dict[str, NDArray[Any]]:
    """The boxes of all tracks as arrays; AnnotationError if the JSON has another form."""
    with expect_form(str(path), "readable JSON"):
        table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict) or not all(isinstance(tracks, dict) for tracks in table.values()):
        raise AnnotationError(f'{path}: expected {{"<video>": {{"<track>": ...}}}}, found another form')
    # Numbers and names are kept in arrays, not in objects per box: YouTube-BB has millions.
    sizes, ends = array("d"), [0]
    ids: list[str] = []
    names: list[str] = []
    labels: list[str] = []
    for video, tracks in table.items():
        for track, frames in tracks.items():
            with expect_form(f"{path}, {video}, {track}", '{"<frame>": [x1, y1, x2, y2]} of numbers'):
                for frame in sorted(frames):
                    if min(size := _size(frames[frame])) > 0:
                        sizes.extend(size)
                        ids.append(frame)
            if len(ids) > ends[-1]:
                names.append(f"{video}.{track}")
                labels.append(track)
                ends.append(len(ids))
    if not ids:
        raise AnnotationError(f"{path}: no box of positive size")
    return {
        "inside": _boxes(np.array(sizes).reshape(-1, 2)),
        "ids": np.array(ids, dtype=np.str_),
        "labels": np.array(labels, dtype=np.str_),
        "names": np.array(names, dtype=np.str_),
        "ends": np.array(ends, dtype=np.int64),
    }


def _size(box: Sequence[float]) -> tuple[float, float]:
    """Width and height of a box that is given by its corners, or by its size alone."""
    numbers = [float(v) for v in box]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{box} is no box")
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    x1, y1, x2, y2 = numbers
    return x2 - x1, y2 - y1


def _boxes(sizes: Boxes) -> Boxes:
    """[N, 4] in the middle of crops, of boxes of these sizes [N, 2] in the frames."""
    margin = sizes.sum(axis=1, keepdims=True) / 2
    inside = sizes * TEMPLATE / np.sqrt((sizes + margin).prod(axis=1, keepdims=True))
    return np.concatenate([SIDE // 2 - inside / 2, inside], axis=1)


def open_crops(name: str) -> PreparedCrops:
    """The crops of a JSON, in `crop511` next to it or in its own folder, for the row `prepared_crops` of the catalogue.

    Args:
        name: `PYSOT511:path/to/train.json`.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: See `PreparedCrops`.
    """
    path = user_path(name.partition(":")[2]).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{name}: no such file; write {PREPARED}:path/to/train.json, as gen_json.py wrote it")
    return PreparedCrops(path)
