"""TrackingNet (Müller et al., ECCV 2018): 30132 training videos in 12 chunks, 511 test videos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from lib.data.datasets.base import Annotation, StoredDataset, only_first, positive, read_boxes, read_text
from lib.data.datasets.frames import FrameFiles, Listed, numbered_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.io import AnnotationError
from lib.data.listing import picture_names
from lib.data.store import DirectoryStore, LmdbStore, Store, SubStore, open_store
from lib.layouts import layout_of

ALL_CHUNKS = tuple(range(12))
CLASS_MAP = "trackingnet_classmap.txt"
"""Optional file at the root: one `video<TAB>class` per line."""


class TrackingNetDataset(StoredDataset):
    """`TRAIN_k/frames/<video>/0.jpg` and `TRAIN_k/anno/<video>.txt`.

    Numbers start at 0 and are not padded. Boxes of w, h > 0 are valid and visible.

    root: one folder, zip or LMDB with all chunks, or a folder with `TRAIN_k`, `TRAIN_k.zip` or `TRAIN_k_lmdb` per
    chunk.
    chunks: numbers of training chunks; None with `test` takes the `TEST` part, where only the first box is published.
    Videos are sorted by name within a chunk, or in the order of `seq_list.json` ([[chunk, video], ...]).
    """

    def __init__(
        self, root: Path | Store, chunks: Iterable[int] | None = None, name: str = "trackingnet", *, test: bool = False
    ) -> None:
        top = open_store(root) if isinstance(root, (str, Path)) else root
        labels = ["TEST"] if test else [f"TRAIN_{k}" for k in (ALL_CHUNKS if chunks is None else chunks)]
        self.first_box_only = test
        self._chunks = {label: _chunk_store(top, label, name) for label in labels}
        listed = {} if test else _listed_videos(top)
        entries = [
            (number, video)
            for number, (label, store) in enumerate(self._chunks.items())
            for video in (listed.get(label) or _videos(store, may_be_empty=bool(listed)))
        ]
        super().__init__(top, [video for _, video in entries], name)
        self._labels = labels
        self._chunk_of = bytes(number for number, _ in entries)
        self._classes = _read_classes(top)

    def _read(self, index: int) -> Annotation:
        video = self.names[index]
        store = self._chunks[self._labels[self._chunk_of[index]]]
        boxes = read_boxes(store, f"anno/{video}.txt")
        folder = f"frames/{video}"
        if self.first_box_only:
            pictures = picture_names(store.listdir(folder))
            if not pictures:
                raise AnnotationError(f"no pictures in {store.describe(folder)}")
            boxes, frames = only_first(boxes, len(pictures)), FrameFiles(store, Listed.of(folder, pictures))
        else:
            files = numbered_files(store, folder, "%d.jpg", 0, len(boxes))
            boxes, frames = boxes[: len(files)], FrameFiles(store, files)
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, frames, object_class=self._classes.get(video, "Unknown"))


def parse_chunks(selection: str) -> list[int]:
    """`0-3` or `0,2,6-11` -> chunk numbers; ValueError says what was wrong."""
    chunks: list[int] = []
    for part in selection.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= len(ALL_CHUNKS):
            raise ValueError(f"TRACKINGNET:{selection}: expected chunks of 0-11 such as 0-3 or 0,2,6-11")
        chunks += [k for k in range(first, last + 1) if k not in chunks]
    return chunks


def _chunk_store(top: Store, label: str, name: str) -> Store:
    """The store whose keys start with `anno/` and `frames/`."""
    if isinstance(top, DirectoryStore):
        for folder in (top.root / f"{label}_lmdb", top.root / f"{label}.zip"):
            if folder.exists():
                chunk = open_store(folder)
                return SubStore(chunk, label) if chunk.exists(f"{label}/anno") else chunk
    for key in (label, f"{name}/{label}", f"TrackingNet/{label}"):
        if top.exists(f"{key}/anno"):
            return SubStore(top, key)
    raise FileNotFoundError(
        f"{name}: no chunk {label} in {top.describe('')} (choose those you have by TRACKINGNET:0-3); "
        f"wanted layout: {layout_of('trackingnet').tree}"
    )


def _listed_videos(top: Store) -> dict[str, list[str]]:
    """{chunk: videos} of seq_list.json; empty where there is none."""
    if isinstance(top, LmdbStore) and (beside := DirectoryStore(top.path)).exists("seq_list.json"):
        top = beside
    if not top.exists("seq_list.json"):
        return {}
    where = top.describe("seq_list.json")
    try:
        pairs = [(int(chunk), str(video)) for chunk, video in json.loads(read_text(top, "seq_list.json"))]
    except (ValueError, TypeError) as error:
        raise AnnotationError(f"{where}: expected [[chunk, video], ...] ({error})") from None
    videos: dict[str, list[str]] = {}
    for chunk_number, video in pairs:
        videos.setdefault(f"TRAIN_{chunk_number}", []).append(video)
    return videos


def _videos(store: Store, may_be_empty: bool) -> list[str]:
    """may_be_empty: a list names the videos, so that a chunk without any is no broken one (an LMDB has no folders)."""
    if may_be_empty and not store.exists("anno"):
        return []
    return [file.removesuffix(".txt") for file in store.listdir("anno") if file.endswith(".txt")]


def _read_classes(top: Store) -> dict[str, str]:
    if not top.exists(CLASS_MAP):
        return {}
    rows = (line.split("\t") for line in read_text(top, CLASS_MAP).splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


@DATASETS.register("TRACKINGNET")
def build_trackingnet(source: Source) -> TrackingNetDataset:
    """All training chunks, or those that the name selects (`TRACKINGNET:0-3`)."""
    selection = source.selection()
    return TrackingNetDataset(source.dataset("trackingnet"), parse_chunks(selection) if selection else None)
