"""ImageNet VID (ILSVRC 2015): tracklets cut from the per-frame annotations of the training videos."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from lib.catalogue import CATALOGUE
from lib.data.datasets.base import Annotation, StoredDataset, locate_root, positive
from lib.data.datasets.frames import FrameFiles, Numbered, unpaired
from lib.data.datasets.kept import kept_arrays
from lib.data.io import AnnotationError, number_array
from lib.data.listing import folder_names, number_in
from lib.data.store import DirectoryStore, Store
from lib.files import write_text

log = logging.getLogger(__name__)

CACHE = "cache.json"
XML_ROOT, PICTURE_ROOT = "Annotations/VID/train", "Data/VID/train"
PUBLISHED_NAME = re.compile(r"ILSVRC2015_(?:VID_train_\d{4}|train_\d{8})")


class ImagenetVidDataset(StoredDataset):
    """One sequence per tracklet: an object from its first frame to the first one in which it is missing.

    Tracklets are read from `cache.json`; without it they are collected from the XML files, once, and written there
    if the store is a folder that can be written to. Those whose first box fills the picture are left out. Visible: not
    marked occluded, and the box is valid.

    Args:
        store: Folder, archive or LMDB.
        names: Not used: tracklets follow from the annotations.
        name: Name for messages.
    """

    def __init__(self, store: Store, names: Sequence[str] | None = None, name: str = "imagenet") -> None:
        layout, below = CATALOGUE["imagenet"].layout, ("ILSVRC2015", "ILSVRC")
        root = locate_root(store, lambda s: s.exists(CACHE) or s.exists(XML_ROOT), name, layout, below)
        found = kept_arrays(root, [CACHE], "imagenet", lambda: _read_tracklets(root))
        self._offsets, self._boxes, self._unoccluded = found["offsets"], found["boxes"], found["unoccluded"]
        self._starts, self._classes = found["starts"], found["classes"]
        super().__init__(root, found["names"].tolist(), name)

    def sequence_name(self, index: int) -> str:
        """`<video>_<first frame>_<number of the tracklet>`."""
        return f"{self.names[index].rpartition('/')[2]}_{self._starts[index]}_{index}"

    def start_frame(self, index: int) -> int:
        """Number of the tracklet's first picture in its video.

        Args:
            index: Number of the tracklet.
        """
        return int(self._starts[index])

    def _read(self, index: int) -> Annotation:
        rows = slice(self._offsets[index], self._offsets[index + 1])
        boxes = self._boxes[rows]
        valid = positive(boxes)
        folder = f"{PICTURE_ROOT}/{self.names[index]}"
        if not self.store.exists(f"{folder}/000000.JPEG"):
            names = self.store.listdir(folder)
            raise unpaired(self.store, folder, names, len(boxes), "in this data set numbers begin with 0")
        files = Numbered(folder, "%06d.JPEG", self.start_frame(index), len(boxes))
        frames = FrameFiles(self.store, files)
        return Annotation(boxes, valid, self._unoccluded[rows] & valid, frames, object_class=str(self._classes[index]))


def _read_tracklets(root: Store) -> dict[str, NDArray[Any]]:
    """The tracklets whose first box does not fill the picture, as arrays: rows of all, and where each one begins."""
    tracklets = _cached_tracklets(root) if root.exists(CACHE) else collect_tracklets(root)
    kept = [t for t in tracklets if math.prod(t["anno"][0][2:]) < math.prod(t["image_size"])]
    parts = [f"ILSVRC2015_VID_train_{n:04d}" if isinstance(n := t["set_id"], int) else n for t in kept]
    videos = [f"ILSVRC2015_train_{n:08d}" if isinstance(n := t["vid_id"], int) else n for t in kept]
    where = root.describe(CACHE)
    return {
        "offsets": np.cumsum([0, *(len(t["anno"]) for t in kept)]),
        "boxes": number_array([box for t in kept for box in t["anno"]], where).reshape(-1, 4),
        "unoccluded": np.array([v for t in kept for v in t["target_visible"]], dtype=np.bool_),
        "starts": number_array([t["start_frame"] for t in kept], where).astype(np.int64),
        "classes": np.array([t["class_name"] for t in kept], dtype=np.str_),
        "names": np.array([f"{part}/{video}" for part, video in zip(parts, videos, strict=True)], dtype=np.str_),
    }


def _cached_tracklets(root: Store) -> list[dict[str, Any]]:
    """The content of `cache.json`; AnnotationError if it is damaged."""
    where = root.describe(CACHE)
    required = {"set_id", "vid_id", "class_name", "start_frame", "anno", "target_visible", "image_size"}
    try:
        tracklets = json.loads(root.read(CACHE))
        if not isinstance(tracklets, list) or any(required - set(t) for t in tracklets):
            raise ValueError(f"expected a list of tracklets with {', '.join(sorted(required))}")
    except (ValueError, TypeError, RecursionError) as error:
        raise AnnotationError(f"{where}: {error} (remove the file; it is then made again)") from None
    return tracklets


def collect_tracklets(root: Store) -> list[dict[str, Any]]:
    """Read the tracklets of all XML files, and write them to `cache.json` if the store is a writable folder.

    Args:
        root: The folder, archive or LMDB where the layout starts.

    Returns:
        One dictionary for each tracklet: `set_id`, `vid_id`, `class_name`, `start_frame`, `anno` (x, y, w, h per
        frame), `target_visible` per frame, `image_size` (width, height).

    Raises:
        AnnotationError: An XML file is damaged or missing.
    """
    from rich.progress import track

    parts = folder_names(root.listdir(XML_ROOT))
    videos = [(part, video) for part in parts for video in folder_names(root.listdir(f"{XML_ROOT}/{part}"))]
    shown: Iterable[tuple[str, str]] = track(videos, "ImageNet VID tracklets", transient=True, disable=len(videos) < 20)
    tracklets = [t for part, video in shown for t in _tracklets_of(root, part, video)]
    path = root.file(CACHE)
    if path.name == CACHE:  # no archive
        try:
            write_text(path, json.dumps(tracklets))
        except OSError as error:
            log.warning("tracklets cannot be stored in %s (%s); they will be collected again next time", path, error)
    return tracklets


def tracklet_index(source: Path) -> bytes:
    """The content of `cache.json` for a folder that has none. Takes minutes for all of the data set.

    Args:
        source: The data set folder.

    Raises:
        FileNotFoundError: It has no annotations.
    """
    if not (source / XML_ROOT).exists():
        raise FileNotFoundError(f"{source / XML_ROOT} is missing")
    return json.dumps(collect_tracklets(DirectoryStore(source))).encode()


def _tracklets_of(root: Store, part: str, video: str) -> list[dict[str, Any]]:
    """Tracklets of one video, in order of appearance."""
    folder = f"{XML_ROOT}/{part}/{video}"
    # The numbers at the end of published folder names; other names stay as they are.
    set_id, vid_id = (int(n.rpartition("_")[2]) if PUBLISHED_NAME.fullmatch(n) else n for n in (part, video))
    tracklets: dict[int, dict[str, Any]] = {}
    for frame, file in enumerate(f for f in root.listdir(folder) if f.endswith(".xml")):
        if number_in(file) != frame:  # boxes behind the hole would go with the wrong pictures
            raise AnnotationError(f"{root.describe(folder)}: no {frame:06d}.xml before {file}")
        size, objects = _read_xml(root, f"{folder}/{file}")
        for track_id, (class_name, box, unoccluded) in objects.items():
            new: dict[str, Any] = {"set_id": set_id, "vid_id": vid_id, "class_name": class_name, "start_frame": frame}
            new |= {"anno": [], "target_visible": [], "image_size": size}
            tracklet = tracklets.setdefault(track_id, new)
            if tracklet["start_frame"] + len(tracklet["anno"]) == frame:
                tracklet["anno"].append(box)
                tracklet["target_visible"].append(unoccluded)
    return list(tracklets.values())


def _read_xml(root: Store, key: str) -> tuple[list[int], dict[int, tuple[str, list[int], bool]]]:
    """([width, height], {track number: (class, [x, y, w, h], not occluded)}) of one frame.

    Boxes are in image pixels.
    """

    def text(node: ElementTree.Element, path: str) -> str:
        value = node.findtext(path)
        if value is None:
            raise ValueError(f"no <{path}>")
        return value.strip()

    def whole(node: ElementTree.Element, path: str) -> int:
        value = text(node, path)
        if not re.fullmatch(r"-?[0-9]+", value):
            raise ValueError(f"<{path}> is {value!r}, not a whole number")
        return int(value)

    try:
        tree = ElementTree.fromstring(root.read(key))
        size = [whole(tree, "size/width"), whole(tree, "size/height")]
        objects = {}
        for found in tree.findall("object"):
            x1, y1, x2, y2 = (whole(found, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
            unoccluded = whole(found, "occluded") == 0
            objects[whole(found, "trackid")] = (text(found, "name"), [x1, y1, x2 - x1, y2 - y1], unoccluded)
    except (ElementTree.ParseError, ValueError) as error:
        raise AnnotationError(f"{root.describe(key)}: not an annotation of ImageNet VID ({error})") from None
    return size, objects
