"""GOT-10k (Huang, Zhao and Huang, TPAMI 2021): 9335 training, 180 validation, 180 test sequences at 10 fps."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Names
from functools import partial

import numpy as np

from lib.data.datasets.base import (
    Annotation,
    StoredDataset,
    first_existing,
    locate_root,
    only_first,
    positive,
    read_boxes,
    read_flags,
    read_names,
    read_text,
    shortest,
)
from lib.data.datasets.frames import FrameFiles, Listed, numbered_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.io import AnnotationError
from lib.data.listing import folder_names, picture_names
from lib.data.lists import load_list
from lib.data.store import Store
from lib.layouts import layout_of

log = logging.getLogger(__name__)

META_KEYS = ("object_class", "motion_class", "major_class", "root_class", "motion_adverb")
_FULL_TRAIN = 9335


class Got10kDataset(StoredDataset):
    """`<seq>/00000001.jpg`, boxes of w, h > 0 valid, visible when not absent and the cover label above 0.

    store: the folder that holds the sequences and list.txt (`train` and `val` are also found one level below, by
    `part`).
    names: sequences; None takes list.txt, or without it the sorted folders.
    first_box_only: for the test part, which publishes one row; the others are NaN, one per picture.
    """

    def __init__(
        self,
        store: Store,
        names: Names[str] | None = None,
        name: str = "got10k",
        *,
        part: str = "train",
        first_box_only: bool = False,
    ) -> None:
        root = locate_root(store, _looks_right, name, layout_of("got10k").tree, below=(part,))
        super().__init__(root, listed_names(root) if names is None else names, name)
        self.first_box_only = first_box_only

    def object_meta(self, index: int) -> dict[str, str | None]:
        """What meta_info.ini says: object, motion, major and root class, motion adverb; None where it says nothing."""
        boxes_key = self._boxes_key(self.names[index])
        try:
            text = read_text(self.store, f"{boxes_key.rpartition('/')[0]}/meta_info.ini")
        except FileNotFoundError:
            return dict.fromkeys(META_KEYS)
        values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        return {key: values.get(key) or None for key in META_KEYS}

    def _boxes_key(self, name: str) -> str:
        return first_existing(self.store, (f"{name}/groundtruth.txt", f"{name}/{name}/groundtruth.txt"))

    def _read(self, index: int) -> Annotation:
        boxes_key = self._boxes_key(self.names[index])
        folder = boxes_key.rpartition("/")[0]
        boxes = read_boxes(self.store, boxes_key)
        if self.first_box_only:
            return self._read_test(folder, boxes)
        rows = len(boxes)
        absent = read_flags(self.store, f"{folder}/absence.label", rows)
        cover = read_flags(self.store, f"{folder}/cover.label", rows)
        rows = shortest(rows, absent, cover)
        files = numbered_files(self.store, folder, "%08d.jpg", 1, rows)
        n = len(files)
        boxes = boxes[:n]
        valid = positive(boxes)
        visible = valid.copy()
        if absent is not None:
            visible &= absent[:n] == 0
        if cover is not None:
            visible &= cover[:n] > 0
        ratio = None if cover is None else cover[:n] / 8
        object_class = self.object_meta(index)["object_class"]
        return Annotation(boxes, valid, visible, FrameFiles(self.store, files), ratio, object_class)

    def _read_test(self, folder: str, boxes: np.ndarray) -> Annotation:
        pictures = picture_names(self.store.listdir(folder))
        if not pictures:
            raise AnnotationError(f"no pictures in {self.store.describe(folder)}")
        boxes = only_first(boxes, len(pictures))
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, Listed.of(folder, pictures)))


def listed_names(root: Store) -> list[str]:
    """The names of list.txt, or the sorted sequence folders where there is none."""
    return read_names(root, "list.txt") if root.exists("list.txt") else folder_names(root.listdir(""))


def split_names(root: Store, positions: Names[int], name: str) -> list[str]:
    """The sequences at 0-based positions of list.txt.

    Without list.txt, position p is GOT-10k_Train_(p+1). A partial copy gives the sequences it has, with a warning.
    """
    if root.exists("list.txt"):
        listed = read_names(root, "list.txt")
        found = [listed[p] for p in positions if p < len(listed)]
        here = len(listed)
    else:
        folders = set(folder_names(root.listdir("")))
        found = [n for p in positions if (n := f"GOT-10k_Train_{p + 1:06d}") in folders]
        here = len(folders)
    if len(found) < len(positions):
        log.warning(
            "%s: %s holds %d of %d sequences; %d of the %d of this split are used",
            name, root.describe(""), here, _FULL_TRAIN, len(found), len(positions),
        )  # fmt: skip
    return found


def _looks_right(root: Store) -> bool:
    children = root.listdir("")
    if "list.txt" in children:
        return True
    places = [place for c in folder_names(children)[:4] for place in (c, f"{c}/{c}")]
    return any(root.exists(f"{place}/groundtruth.txt") for place in places)


def _build_split(source: Source, split: str) -> Got10kDataset:
    whole = Got10kDataset(source.store("got10k"))
    return Got10kDataset(whole.store, split_names(whole.store, load_list(split), source.name))


# "corrected": without the videos that VOT really forbids; published numbers were trained with the other two.
for _name, _split in {
    "GOT10K_vottrain": "got10k_vot_train_split",
    "GOT10K_votval": "got10k_vot_val_split",
    "GOT10K_vottrain_corrected": "got10k_vot_train_corrected_split",
    "GOT10K_votval_corrected": "got10k_vot_val_corrected_split",
    "GOT10K_train_full": "got10k_train_full_split",
}.items():
    DATASETS.register(_name)(partial(_build_split, split=_split))


@DATASETS.register("GOT10K_official_val")
def build_official_val(source: Source) -> Got10kDataset:
    """The 180 sequences of the official validation part."""
    return Got10kDataset(source.store("got10k_val"), part="val")
