"""TNL2K (Wang et al., CVPR 2021): 1300 training and 700 test sequences."""

from __future__ import annotations

from collections.abc import Sequence as Names

from lib.data.datasets.base import Annotation, StoredDataset, positive, read_boxes
from lib.data.datasets.flat import locate_flat, sequence_folder, sequence_names
from lib.data.datasets.frames import FrameFiles, listed_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.listing import picture_names
from lib.data.store import Store

BOXES = "groundtruth.txt"


def class_of(name: str) -> str:
    """The first part of the name, or the second one behind `CM` and `INF`."""
    parts = name.split("_")
    return parts[1] if parts[0] in ("CM", "INF") and len(parts) > 1 else parts[0]


class Tnl2kDataset(StoredDataset):
    """`<seq>/imgs/*` in sorted order and `<seq>/groundtruth.txt`.

    Boxes of w, h > 0 are valid, and visible if any number is positive.

    names: sequences; None takes every folder.
    """

    def __init__(self, store: Store, names: Names[str] | None = None, name: str = "tnl2k") -> None:
        root = locate_flat(store, (BOXES,), name, "tnl2k")
        super().__init__(root, sequence_names(root) if names is None else names, name)

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        place = sequence_folder(self.store, name, (BOXES,))
        boxes = read_boxes(self.store, f"{place}/{BOXES}")
        pictures = picture_names(self.store.listdir(f"{place}/imgs"))
        files = listed_files(self.store, f"{place}/imgs", pictures, len(boxes))
        boxes = boxes[: len(files)]
        valid = positive(boxes)
        frames = FrameFiles(self.store, files)
        return Annotation(boxes, valid, (boxes > 0).any(axis=1) & valid, frames, object_class=class_of(name))


@DATASETS.register("TNL2K_train")
def build_tnl2k_train(source: Source) -> Tnl2kDataset:
    """Every sequence of the training folder."""
    return Tnl2kDataset(source.store("tnl2k"))
