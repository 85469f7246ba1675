"""What goes into the LMDB copy of a data set, and under which keys.

Keys are those of the STARK / OSTrack family of readers: the path of the file below the data set's folder, with
``train/`` in front for GOT-10k; TrackingNet has one environment per chunk. Any other data set is stored under its
relative paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lib.data.datasets.imagenet_vid import CACHE, PICTURE_ROOT, XML_ROOT, collect_tracklets
from lib.data.listing import PICTURE_SUFFIXES, is_hidden
from lib.data.store import DirectoryStore
from lib.layouts import layout_of

TEXT_SUFFIXES = (".txt", ".json", ".label", ".ini", ".tag", ".value", ".csv", ".tsv")


class PlanError(ValueError):
    """A source folder that does not look like the data set; the message says what was wanted."""


@dataclass(frozen=True)
class Plan:
    """One LMDB environment to be made.

    source: folder whose files are stored; target: the environment's folder; prefix: put in front of relative paths.
    parts: files and folders below `source` to take, () for all; extra: key -> content that is no file.
    """

    source: Path
    target: Path
    prefix: str = ""
    parts: tuple[str, ...] = ()
    extra: dict[str, bytes] = field(default_factory=dict)

    def folders(self) -> Iterator[tuple[str, list[str]]]:
        """(folder relative to `source`, sorted names of the files in it that are stored), folder by folder."""
        if not self.parts:
            yield from _walk(self.source, "", ())
        for part in self.parts:
            path = self.source / part
            if path.is_dir():
                yield from _walk(self.source, part, ())
            elif path.is_file():
                folder, _, name = part.rpartition("/")
                yield folder, [name]
            else:
                raise PlanError(f"{path} is missing")

    def key(self, folder: str, name: str) -> str:
        """The key of a file."""
        return f"{self.prefix}{folder}/{name}" if folder else f"{self.prefix}{name}"


def plan_build(dataset: str, source: Path, target: Path, chunks: list[int] | None = None) -> list[Plan]:
    """The environments that make up the LMDB copy of a data set.

    dataset: a key of `lib.layouts` or an alias; chunks: for TrackingNet, the training chunks to store (None: all).
    Raises PlanError when the source does not look right.
    """
    key = layout_of(dataset).key
    if not source.is_dir():
        raise PlanError(f"{key}: the source {source} is not a folder; wanted there: {layout_of(key).tree}")
    if chunks is not None and key != "trackingnet":
        raise PlanError(f"{key} has no chunks to choose from")
    if key == "got10k":
        return [_plan_got10k(source, target)]
    if key == "trackingnet":
        return _plan_trackingnet(source, target, chunks)
    if key == "coco":
        annotations = "annotations/instances_train2017.json"
        _need(source, key, annotations, "images/train2017")
        return [Plan(source, target, parts=(annotations, "images/train2017"))]
    if key == "imagenet":
        source = source / "ILSVRC2015" if (source / "ILSVRC2015").is_dir() else source
        _need(source, key, PICTURE_ROOT)
        return [_plan_vid(source, target)]
    if key.startswith("lasot"):
        _need_any(source, key, "*/*/groundtruth.txt", "*/groundtruth.txt")
    plan = Plan(source, target)
    if next(plan.folders(), None) is None:
        raise PlanError(f"{key}: no picture or text file in {source}; wanted layout: {layout_of(key).tree}")
    return [plan]


def _plan_got10k(source: Path, target: Path) -> Plan:
    folder = source / "train" if (source / "train").is_dir() else source  # the whole release or its training part
    _need_any(folder, "got10k", "*/groundtruth.txt")
    return Plan(folder, target, prefix="train/")


def _plan_trackingnet(source: Path, target: Path, chunks: list[int] | None) -> list[Plan]:
    found = [k for k in range(12) if (source / f"TRAIN_{k}" / "anno").is_dir()]
    wanted = found if chunks is None else chunks
    if not wanted:
        raise PlanError(f"trackingnet: no chunk in {source}; wanted there: {layout_of('trackingnet').tree}")
    for k in wanted:
        _need(source, "trackingnet", f"TRAIN_{k}/anno", f"TRAIN_{k}/frames")
    return [Plan(source / f"TRAIN_{k}", target / f"TRAIN_{k}_lmdb", parts=("anno", "frames")) for k in wanted]


def _plan_vid(source: Path, target: Path) -> Plan:
    """Pictures and the index of tracklets, which is made from the XML files where the source has none (minutes)."""
    if (source / CACHE).is_file():
        return Plan(source, target, parts=(CACHE, PICTURE_ROOT))
    _need(source, "imagenet", XML_ROOT)
    index = json.dumps(collect_tracklets(DirectoryStore(source))).encode()
    return Plan(source, target, parts=(PICTURE_ROOT,), extra={CACHE: index})


def _walk(root: Path, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, list[str]]]:
    """Depth first in sorted order; `above` are the folders on the way, so that a link in a circle ends."""
    place = root / folder if folder else root
    status = place.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    files, folders = [], []
    with os.scandir(place) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.lower().endswith((*PICTURE_SUFFIXES, *TEXT_SUFFIXES)):
                files.append(entry.name)
    if files:
        yield folder, sorted(files)
    for name in sorted(folders):
        yield from _walk(root, f"{folder}/{name}" if folder else name, (*above, here))


def _need(source: Path, key: str, *parts: str) -> None:
    for part in parts:
        if not (source / part).exists():
            raise PlanError(f"{key}: {source / part} is missing; wanted layout: {layout_of(key).tree}")


def _need_any(source: Path, key: str, *patterns: str) -> None:
    if not any(next(source.glob(pattern), None) for pattern in patterns):
        raise PlanError(f"{key}: nothing like {patterns[0]} in {source}; wanted layout: {layout_of(key).tree}")
