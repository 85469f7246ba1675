"""COCO 2017 (Lin et al., ECCV 2014) as videos of one frame: one per annotated object that is no crowd."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.catalogue import CATALOGUE
from lib.data.datasets.base import Annotation, StoredDataset, locate_root, positive
from lib.data.datasets.frames import FrameFiles, Listed
from lib.data.datasets.kept import kept_arrays
from lib.data.io import AnnotationError, expect_form, number_array
from lib.data.store import Store
from lib.data.types import Mask

log = logging.getLogger(__name__)

MAX_SIDE = 1 << 16
"""Pixels of a picture beyond which its stated size is wrong."""
MAX_COORDINATES = 1e8
"""Bound on the sum of a polygon's coordinates, in pixels; OpenCV draws in sixteenths of them."""


class CocoDataset(StoredDataset):
    """`annotations/instances_<split>.json` and `images/<split>/*.jpg` (`<split>/*.jpg` is found too).

    Objects come in the order of the file.

    Args:
        store: Folder, archive or LMDB.
        names: Not used: names follow from the annotation file.
        name: Name for messages.
        split: Annotation file and picture folder.
        min_side: A box is valid, and visible, if both sides are longer, in pixels: 50 in OSTrack and its family, 0 in
            PyTracking and PySOT.
        masks: Also give the masks of the objects, from their polygons (about 300 MB for all of train2017).

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
        masks: bool = False,
    ) -> None:
        key = f"annotations/instances_{split}.json"
        root = locate_root(store, lambda s: s.exists(key), name, CATALOGUE["coco"].layout)
        where = root.describe(key)
        found = kept_arrays(root, [key], f"coco {key} {masks}", lambda: _read_table(root, key, masks))
        self._files, self._classes = found["files"], found["classes"]
        self._boxes, self._ids = found["boxes"], found["ids"]
        self._image_of, self._class_of = found["image_of"], found["class_of"]
        self._corners = found["corners"] if masks else None
        if masks:
            self._ends, self._sizes = found["ends"], found["sizes"]
            if bare := int((np.diff(self._ends) == 0).sum()):
                text = "%s: %d of %d objects have no mask, since none of their polygons has three corners"
                log.warning(text, where, bare, len(self._ids))
        super().__init__(root, (), name)
        self.min_side = min_side
        self._folder = f"images/{split}"
        if not root.exists(self._folder) and root.exists(split):
            self._folder = split

    def __len__(self) -> int:
        return len(self._ids)

    def sequence_name(self, index: int) -> str:
        """`<picture>_<annotation id>`."""
        return f"{str(self._files[self._image_of[index]]).rpartition('.')[0]}_{self._ids[index]}"

    def _read(self, index: int) -> Annotation:
        boxes = self._boxes[index : index + 1]
        valid = positive(boxes, self.min_side)
        image, category = int(self._image_of[index]), int(self._class_of[index])
        files = Listed(self._folder, self._files[[image]])
        mask = None
        if self._corners is not None and self._ends[index] < self._ends[index + 1]:
            height, width = map(int, self._sizes[image])
            mask = PolygonMask(self._corners[self._ends[index] : self._ends[index + 1]], (height, width))
        object_class = str(self._classes[category]) if category >= 0 else None
        return Annotation(boxes, valid, valid, FrameFiles(self.store, files), object_class=object_class, read_mask=mask)


@dataclass(frozen=True)
class PolygonMask:
    """The mask inside polygons, for every frame of a video of length 1.

    Attributes:
        outline: [P, 2] x, y of all corners in image pixels, with a row of NaN behind each polygon.
        size_hw: Height and width of the image.
    """

    outline: NDArray[np.float32]
    size_hw: tuple[int, int]

    def __call__(self, frame: int) -> Mask:
        """[H, W] bool; a pixel belongs to the mask if its centre is inside a polygon or on its border."""
        ends = np.flatnonzero(np.isnan(self.outline[:, 0]))
        polygons = [part[~np.isnan(part[:, 0])] for part in np.split(self.outline, ends)]
        mask = np.zeros(self.size_hw, dtype=np.uint8)
        for polygon in polygons:
            if len(polygon):
                cv2.fillPoly(mask, [np.round((polygon - 0.5) * 16).astype(np.int32)], (1,), shift=4)
        return mask.astype(np.bool_)


def _read_table(root: Store, key: str, masks: bool) -> dict[str, NDArray[Any]]:
    """The content of an annotation file as arrays; AnnotationError if it is none."""
    where = root.describe(key)
    with expect_form(where, "a COCO annotation file"):
        table = json.loads(root.read(key), object_hook=partial(_slim, where, masks))
        pictures, classes = table["images"], table.get("categories", [])
        objects = [a for a in table["annotations"] if not a.get("iscrowd", 0)]
        images = {image["id"]: number for number, image in enumerate(pictures)}
        categories = {c["id"]: number for number, c in enumerate(classes)}
        found: dict[str, NDArray[Any]] = {
            "files": np.array([image["file_name"] for image in pictures], dtype=np.str_),
            "classes": np.array([str(c["name"]) for c in classes], dtype=np.str_),
            "boxes": number_array([a["bbox"] for a in objects], where).reshape(-1, 4),
            "ids": np.array([a["id"] for a in objects], dtype=np.int64),
            "image_of": np.array([images[a["image_id"]] for a in objects], dtype=np.int64),
            "class_of": np.array([categories.get(a.get("category_id"), -1) for a in objects], dtype=np.int64),
        }
        if masks:
            outlines = [a["segmentation"] for a in objects]
            found["corners"] = np.concatenate([np.zeros((0, 2), dtype=np.float32), *outlines])
            found["ends"] = np.cumsum([0, *map(len, outlines)])
            found["sizes"] = np.array([(image["height"], image["width"]) for image in pictures], dtype=np.int64)
            strange = ((found["sizes"] < 1) | (found["sizes"] > MAX_SIDE)).any(axis=1)
            if strange.any():
                row = int(strange.argmax())
                size = " x ".join(map(str, found["sizes"][row, ::-1]))
                raise AnnotationError(f"{where}: image {found['files'][row]} is said to have {size} pixels")
    return found


def _slim(where: str, masks: bool, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry while its file is read, its polygons as one array or left out: as lists, all take gigabytes."""
    if masks and "bbox" in entry and not entry.get("iscrowd", 0):
        entry["segmentation"] = _joined(entry.get("segmentation"), f"{where}: object {entry.get('id')}")
    elif not masks:
        entry.pop("segmentation", None)
    return entry


def _joined(polygons: Any, where: str) -> NDArray[np.float32]:
    """[P, 2] corners of an object's polygons of three corners or more, with a row of NaN behind each.

    Args:
        polygons: The annotation's "segmentation".
        where: File and object, for messages.

    Raises:
        AnnotationError: It is no list of polygons, or a number is not finite or beyond any picture.
    """
    if not isinstance(polygons, list):
        raise AnnotationError(f"{where} has no polygons in 'segmentation', which masks are made of")
    parts = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not all(sum(map(abs, polygon)) < MAX_COORDINATES for polygon in parts):
        raise AnnotationError(f"{where} has a polygon with a number that is no place in a picture")
    return np.array([x for polygon in parts for x in (*polygon, np.nan, np.nan)], dtype=np.float32).reshape(-1, 2)
