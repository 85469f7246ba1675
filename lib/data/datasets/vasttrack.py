"""VastTrack (Peng et al., NeurIPS 2024): 47110 training and 3500 test sequences of 2115 classes."""

from __future__ import annotations

from collections.abc import Sequence as Names

from lib.data.datasets.base import Annotation, StoredDataset, first_existing, locate_root, positive, read_boxes
from lib.data.datasets.frames import FrameFiles, numbered_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.listing import folder_names
from lib.data.store import Store
from lib.layouts import layout_of

BOX_FILES = ("Groundtruth.txt", "groundtruth.txt")
PICTURE_FOLDERS = ("imgs", "img")


def class_of(name: str) -> str:
    """`Saint-Bernard-3` -> `Saint-Bernard`."""
    return name.rpartition("-")[0] or name


class VastTrackDataset(StoredDataset):
    """`<Class>/<Class>-<n>/imgs/00001.jpg` and `Groundtruth.txt`.

    Renamed copies (`img`, `groundtruth.txt`, underscores for spaces) are read too. Boxes of w, h > 0 are valid.
    Visible is every frame whose four numbers are not all zero, valid or not, as published.
    names: sequences; None takes every folder.
    """

    def __init__(self, store: Store, names: Names[str] | None = None, name: str = "vasttrack") -> None:
        root = locate_root(store, _looks_right, name, layout_of("vasttrack").tree)
        if names is None:
            names = [name for folder in folder_names(root.listdir("")) for name in _sequences_in(root, folder)]
        super().__init__(root, names, name)

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        spellings = dict.fromkeys((name, name.replace(" ", "_")))
        places = [p for n in spellings for p in (f"{class_of(n)}/{n}", n, f"{class_of(n)}/{n}/{n}")]
        boxes_key = first_existing(self.store, [f"{place}/{file}" for place in places for file in BOX_FILES])
        place = boxes_key.rpartition("/")[0]
        boxes = read_boxes(self.store, boxes_key)
        pictures = first_existing(self.store, [f"{place}/{folder}" for folder in PICTURE_FOLDERS])
        files = numbered_files(self.store, pictures, "%05d.jpg", 1, len(boxes))
        boxes = boxes[: len(files)]
        visible = (boxes != 0).any(axis=1)
        frames = FrameFiles(self.store, files)
        return Annotation(boxes, positive(boxes), visible, frames, object_class=class_of(name))


def _sequences_in(root: Store, folder: str) -> list[str]:
    try:
        children = root.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in children if class_of(name) == folder and name != folder]


def _looks_right(root: Store) -> bool:
    folders = folder_names(root.listdir(""))
    if any(_sequences_in(root, folder) for folder in folders[:4]):
        return True
    return any(root.exists(f"{folder}/{file}") for folder in folders[:4] for file in BOX_FILES)


@DATASETS.register("VastTrack")
def build_vasttrack(source: Source) -> VastTrackDataset:
    """Every sequence of the training folder."""
    return VastTrackDataset(source.store("vasttrack"))
