"""YouTube-VOS (Xu et al., ECCV 2018): one sequence per annotated object, with its masks."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lib.catalogue import CATALOGUE
from lib.data.datasets.base import Annotation, StoredDataset, locate_root
from lib.data.datasets.frames import FrameFiles, Listed
from lib.data.datasets.kept import kept_arrays
from lib.data.io import AnnotationError, expect_form
from lib.data.store import Store
from lib.data.types import Mask


@dataclass(frozen=True)
class ObjectMasks:
    """Masks of one object in pictures whose pixels are numbers of objects.

    Attributes:
        store: Where the pictures are.
        files: The pictures.
        number: Of the object.
    """

    store: Store
    files: Listed
    number: int

    def __call__(self, frame: int) -> Mask:
        """[H, W] bool.

        Raises:
            FileNotFoundError: The picture is missing.
            AnnotationError: It cannot be read.
        """
        key = self.files.key(frame)
        data, where = self.store.read(key), self.store.describe(key)
        try:
            with Image.open(io.BytesIO(data)) as picture:
                numbers = np.asarray(picture)
        except UnidentifiedImageError:
            raise AnnotationError(f"{where}: not a picture of masks") from None
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise AnnotationError(f"{where}: not a picture of masks ({error})") from None
        if numbers.ndim != 2:
            raise AnnotationError(f"{where}: not a picture of masks (it has {numbers.shape[2]} channels, not one)")
        return np.asarray(numbers == self.number)


class YoutubeVosDataset(StoredDataset):
    """`meta.json`, `JPEGImages/<video>/<frame>.jpg` and `Annotations/<video>/<frame>.png` of every fifth frame.

    A sequence, `<video>_<object>`, has the frames for which `meta.json` lists the object. Boxes are those around the
    masks, in whole pixels, found once and kept on disk; they are valid, and visible, where the mask is large enough.

    Args:
        store: Folder or archive.
        names: Not used: sequences follow from `meta.json`.
        name: Name for messages.
        min_area: A mask of no more pixels has no box; 1000 in SLT-SiamAttn.

    Raises:
        AnnotationError: `meta.json` is damaged.
    """

    def __init__(
        self, store: Store, names: Sequence[str] | None = None, name: str = "youtube_vos", *, min_area: int = 1000
    ) -> None:
        layout = CATALOGUE["youtube_vos"].layout
        root = locate_root(store, lambda s: s.exists("meta.json") and s.exists("JPEGImages"), name, layout, ("train",))
        where = root.describe("meta.json")
        with expect_form(where, "a meta.json of YouTube-VOS"):
            videos = json.loads(root.read("meta.json"))["videos"]
            self._objects = {
                f"{video}_{number}": (video, int(number), str(one.get("category", "")), one["frames"])
                for video, entry in videos.items()
                for number, one in entry["objects"].items()
            }
        for label, (_, number, _, frames) in self._objects.items():
            if number < 1 or not isinstance(frames, list) or not all(isinstance(f, str) for f in frames):
                raise AnnotationError(f"{where}: {label} is no object with a number above 0 and a list of frames")
        super().__init__(root, list(self._objects), name)
        self.min_area = min_area

    def _read(self, index: int) -> Annotation:
        video, number, category, unordered = self._objects[self.names[index]]
        if not (frames := sorted(unordered)):
            raise AnnotationError(f"{self.store.describe('meta.json')}: object {self.names[index]} has no frame")
        masks = ObjectMasks(self.store, Listed.of(f"Annotations/{video}", [f"{f}.png" for f in frames]), number)
        pictures = FrameFiles(self.store, Listed.of(f"JPEGImages/{video}", [f"{f}.jpg" for f in frames]))
        found = kept_arrays(
            self.store,
            ["meta.json", *(masks.files.key(i) for i in range(len(frames)))],
            f"youtube_vos {self.names[index]}",
            lambda: _boxes_and_areas(masks, pictures),
        )
        large = found["areas"] > self.min_area
        return Annotation(
            found["boxes"], large, large, pictures,
            object_class=category or None, folder=f"Annotations/{video}", read_mask=masks,
        )  # fmt: skip


def _boxes_and_areas(masks: ObjectMasks, pictures: FrameFiles) -> dict[str, NDArray[Any]]:
    """The boxes [N, 4] and areas [N] of all masks of an object, in pixels; AnnotationError for one of another size."""
    height, width = pictures.read(0).size_hw
    boxes, areas = np.zeros((len(pictures), 4)), np.zeros(len(pictures), dtype=np.int64)
    for i in range(len(pictures)):
        mask = masks(i)
        if mask.shape != (height, width):
            size, where = " x ".join(map(str, mask.shape[::-1])), masks.store.describe(masks.files.key(i))
            raise AnnotationError(f"{where}: a mask of {size} pixels for pictures of {width} x {height}")
        boxes[i], areas[i] = box_around(mask), mask.sum()
    return {"boxes": boxes, "areas": areas}


def box_around(mask: Mask) -> NDArray[np.float64]:
    """The smallest box of whole pixels around a mask.

    Args:
        mask: [H, W].

    Returns:
        [4] x, y, w, h; zeros for an empty mask.
    """
    return np.array(cv2.boundingRect(mask.astype(np.uint8)), dtype=np.float64)
