"""TrackingNet (Müller et al., ECCV 2018): 30132 training videos in 12 chunks, 511 test videos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lib.catalogue import CATALOGUE
from lib.data.datasets.base import Annotation, StoredDataset, first_box_only, positive, read_boxes, read_text
from lib.data.datasets.frames import FrameFiles, numbered_files
from lib.data.io import AnnotationError, expect_form
from lib.data.store import DirectoryStore, Store, SubStore, open_store

ALL_CHUNKS = tuple(range(12))
CLASS_MAP = "trackingnet_classmap.txt"
"""Optional file at the root, one `video<TAB>class` per line."""


class TrackingNetDataset(StoredDataset):
    """`TRAIN_k/frames/<video>/0.jpg` and `TRAIN_k/anno/<video>.txt`; numbers start at 0 and are not padded.

    Videos are sorted by name within a chunk, or in the order of `seq_list.json` ([[chunk, video], ...]).

    Args:
        store: One folder, zip or LMDB with all chunks, or a folder with `TRAIN_k`, `TRAIN_k.zip` or `TRAIN_k_lmdb` for
            each chunk; a path is opened.
        names: Videos; None takes all of the chunks.
        name: Name for messages.
        chunks: Numbers of training chunks, or text such as "0-3,7"; None takes all.
        partial: Leave out the chunks that are not there, unless all are missing.
        test: Take the `TEST` part, of which only the first box is published.
    """

    def __init__(
        self,
        store: Path | Store,
        names: Sequence[str] | None = None,
        name: str = "trackingnet",
        *,
        chunks: Iterable[int] | str | None = None,
        partial: bool = False,
        test: bool = False,
    ) -> None:
        top = open_store(store) if isinstance(store, (str, Path)) else store
        numbers = parse_chunks(chunks) if isinstance(chunks, str) else ALL_CHUNKS if chunks is None else chunks
        self.first_box_only = test
        self._chunks: dict[str, Store] = {}
        missing: list[FileNotFoundError] = []
        for label in ["TEST"] if test else [f"TRAIN_{k}" for k in numbers]:
            try:
                self._chunks[label] = _chunk_store(top, label, name)
            except FileNotFoundError as error:
                missing.append(error)
        if missing and not (partial and self._chunks):
            raise missing[0]
        self._labels = list(self._chunks)
        listed = {} if test else _listed_videos(top)
        entries: list[tuple[int, str]] = []
        for number, (label, chunk) in enumerate(self._chunks.items()):
            videos = listed.get(label, [])
            # An LMDB has no folders: one whose videos are listed may have a chunk without any.
            if not videos and not (listed and not chunk.exists("anno")):
                videos = [file.removesuffix(".txt") for file in chunk.listdir("anno") if file.endswith(".txt")]
            entries += [(number, video) for video in videos if names is None or video in names]
        super().__init__(top, [video for _, video in entries], name)
        self._chunk_of = bytes(number for number, _ in entries)
        table = read_text(top, CLASS_MAP).splitlines() if top.exists(CLASS_MAP) else []
        rows = [line.split("\t") for line in table]
        self._classes = {row[0]: row[1].strip() for row in rows if len(row) == 2}

    def _read(self, index: int) -> Annotation:
        video = self.names[index]
        store = self._chunks[self._labels[self._chunk_of[index]]]
        boxes = read_boxes(store, f"anno/{video}.txt")
        folder, object_class = f"frames/{video}", self._classes.get(video, "Unknown")
        if self.first_box_only:
            return first_box_only(store, folder, "%d.jpg", 0, boxes, object_class)
        rows = len(boxes)
        files = numbered_files(store, folder, "%d.jpg", 0, rows)
        boxes = boxes[: len(files)]
        valid = positive(boxes)
        return Annotation(
            boxes, valid, valid, FrameFiles(store, files), object_class=object_class, rows=rows, folder=folder
        )


def parse_chunks(selection: str) -> list[int]:
    """Read a selection of training chunks.

    Args:
        selection: Numbers and ranges such as `0-3` or `0,2,6-11`.

    Returns:
        Chunk numbers in this order, each once.

    Raises:
        ValueError: The text has another form, or there is no such chunk.
    """
    chunks: list[int] = []
    for part in selection.split(","):
        match = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
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
        f"expected layout: {CATALOGUE['trackingnet'].layout}"
    )


def _listed_videos(top: Store) -> dict[str, list[str]]:
    """{chunk: videos} of seq_list.json; empty where there is none."""
    if not top.exists("seq_list.json"):
        return {}
    where = top.describe("seq_list.json")
    with expect_form(where, "a list [[chunk, video], ...]"):
        pairs = [(chunk, video) for chunk, video in json.loads(read_text(top, "seq_list.json"))]
    videos: dict[str, list[str]] = {}
    for chunk_number, video in pairs:
        if type(chunk_number) is not int or not isinstance(video, str):
            raise AnnotationError(f"{where}: expected [[chunk, video], ...], found {[chunk_number, video]}")
        videos.setdefault(f"TRAIN_{chunk_number}", []).append(video)
    return videos
