"""COCO 2017 (Lin et al., ECCV 2014) as videos of one frame: one per annotated object that is no crowd."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lib.catalogue import CATALOGUE
from lib.data.datasets.base import Annotation, StoredDataset, locate_root, positive
from lib.data.datasets.frames import FrameFiles, Repeated
from lib.data.io import AnnotationError
from lib.data.store import Store


class CocoDataset(StoredDataset):
    """`annotations/instances_<split>.json` and `images/<split>/*.jpg` (`<split>/*.jpg` is found too).

    Objects come in the order of the file.

    Args:
        store: Folder, archive or LMDB.
        names: Not used: names follow from the annotation file.
        name: Name for messages.
        split: Annotation file and picture folder.
        min_side: A box is valid, and visible, if both sides are longer, in pixels: 50 in OSTrack and its family, 0 in
            PyTracking.

    Raises:
        AnnotationError: The file is not a COCO annotation file.
    """

    is_video = False

    def __init__(
        self,
        store: Store,
        names: Sequence[str] | None = None,
        name: str = "coco",
        *,
        split: str = "train2017",
        min_side: float = 50,
    ) -> None:
        key = f"annotations/instances_{split}.json"
        root = locate_root(store, lambda s: s.exists(key), name, CATALOGUE["coco"].layout)
        where = root.describe(key)
        try:
            table = json.loads(root.read(key))
            objects = [a for a in table["annotations"] if not a.get("iscrowd", 0)]
            self._index(table, objects)
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"{where}: not a COCO annotation file ({type(error).__name__}: {error})") from None
        super().__init__(root, (), name)
        self.min_side = min_side
        self._folder = f"images/{split}"
        if not root.exists(self._folder) and root.exists(split):
            self._folder = split

    def _index(self, table: dict[str, Any], objects: list[dict[str, Any]]) -> None:
        """Keep numbers in arrays, not in a Python object per annotation."""
        images = {image["id"]: number for number, image in enumerate(table["images"])}
        categories = {c["id"]: number for number, c in enumerate(table.get("categories", []))}
        self._files = np.array([image["file_name"] for image in table["images"]], dtype=np.str_)
        self._classes = [str(c["name"]) for c in table.get("categories", [])]
        self._boxes = np.array([a["bbox"] for a in objects], dtype=np.float64).reshape(-1, 4)
        self._ids = np.array([a["id"] for a in objects], dtype=np.int64)
        self._image_of = np.array([images[a["image_id"]] for a in objects], dtype=np.int64)
        self._class_of = np.array([categories.get(a.get("category_id"), -1) for a in objects], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def sequence_name(self, index: int) -> str:
        """`<picture>_<annotation id>`."""
        return f"{str(self._files[self._image_of[index]]).rpartition('.')[0]}_{self._ids[index]}"

    def _read(self, index: int) -> Annotation:
        boxes = self._boxes[index : index + 1]
        valid = positive(boxes, self.min_side)
        files = Repeated(f"{self._folder}/{self._files[self._image_of[index]]}")
        number = int(self._class_of[index])
        object_class = self._classes[number] if number >= 0 else None
        return Annotation(boxes, valid, valid, FrameFiles(self.store, files), object_class=object_class)
