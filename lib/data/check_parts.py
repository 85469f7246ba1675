"""What there is to check: every training set with its reader, the number of sequences it must have, and its layout.

A test benchmark is a `Part` too; those that `lib.bench` declares are added by the command that runs the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lib.data.datasets import (
    CocoDataset,
    DepthTrackDataset,
    Got10kDataset,
    ImagenetVidDataset,
    LasherDataset,
    LasotDataset,
    StoredDataset,
    Tnl2kDataset,
    TrackingNetDataset,
    VastTrackDataset,
    VisEventDataset,
)
from lib.data.datasets.lasher import BOX_FILES as LASHER_BOX_FILES
from lib.data.datasets.trackingnet import ALL_CHUNKS, parse_chunks
from lib.data.datasets.vasttrack import BOX_FILES as VASTTRACK_BOX_FILES
from lib.data.lists import load_list
from lib.data.store import Store, SubStore, open_store
from lib.layouts import LAYOUTS, UnknownKeyError, layout_of

GROUND_TRUTH = ("groundtruth.txt",)


@dataclass(frozen=True)
class Part:
    """One thing to check.

    key: of `lib.layouts`; label: "training", "test", ...; read: folder or archive -> reader.
    expected: sequences of the published set, None where any number is right.
    truth: annotation files with one row per picture, in the sequence's folder (or `anno/{name}.txt`); () where rows and
    pictures need not agree in number.
    """

    key: str
    label: str
    read: Callable[[Path], StoredDataset]
    expected: int | None
    truth: tuple[str, ...] = GROUND_TRUTH

    @property
    def name(self) -> str:
        """`lasot:training`, as it can be asked for."""
        return f"{self.key}:{self.label}"

    @property
    def layout(self) -> str:
        """The layout wanted, in one line."""
        return layout_of(self.key).tree


def training_parts() -> list[Part]:
    """The training sets, from folder or archive, and again from their LMDB copies."""
    parts = [
        _stored("lasot", lambda s: LasotDataset(s, load_list("lasot_train")), 1120),
        _stored("got10k", Got10kDataset, 9335),
        _stored("got10k_val", lambda s: Got10kDataset(s, part="val"), 180, "validation"),
        Part("trackingnet", "training", _read_trackingnet, 30132, ("anno/{name}.txt",)),
        _stored("coco", CocoDataset, None, truth=()),
        _stored("imagenet", ImagenetVidDataset, None, truth=()),
        _stored("tnl2k", Tnl2kDataset, 1300),
        _stored("vasttrack", VastTrackDataset, 47110, truth=VASTTRACK_BOX_FILES),
        _stored(
            "lasher",
            lambda s: LasherDataset(s, load_list("lasher_splits")["train_official_979"]),
            979,
            truth=LASHER_BOX_FILES[:1],
        ),
        _stored("depthtrack", lambda s: DepthTrackDataset(s, _depthtrack_training()), 152),
        _stored("visevent", VisEventDataset, 500),
        _stored("vot_rgbd22", _read_vot_rgbd22, 127, "test"),
    ]
    copies = [replace(p, key=f"{p.key}_lmdb") for p in parts if f"{p.key}_lmdb" in LAYOUTS]
    return [*parts, *copies]


def choose(parts: list[Part], names: Iterable[str]) -> list[Part]:
    """Those that a user asked for: keys (`lasot`), aliases (`vid`), parts (`lasot:test`), chunks (`trackingnet:0-3`).

    Raises UnknownKeyError for what is not there to be checked, ValueError for chunks that cannot be understood.
    """
    chosen: list[Part] = []
    for name in names:
        base, _, label = name.partition(":")
        key = layout_of(base).key
        if key.startswith("trackingnet") and label[:1].isdigit():
            chosen.append(_trackingnet_chunks(key, label))
            continue
        found = [p for p in parts if p.key == key and label in ("", p.label)]
        if not found:
            known = ", ".join(sorted(p.name for p in parts if p.key == key)) or "none; no reader for it yet"
            raise UnknownKeyError(f"there is nothing to check as {name!r} (parts of {key}: {known})")
        chosen += [p for p in found if p not in chosen]
    return chosen


def _read_trackingnet(path: Path) -> TrackingNetDataset:
    """The chunks that are there; FileNotFoundError when there is none."""
    found, errors = [], []
    for chunk in ALL_CHUNKS:
        try:
            TrackingNetDataset(path, [chunk])
            found.append(chunk)
        except FileNotFoundError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return TrackingNetDataset(path, found)


def _trackingnet_chunks(key: str, selection: str) -> Part:
    chunks = parse_chunks(selection)
    return Part(key, selection, lambda path: TrackingNetDataset(path, chunks), None, ("anno/{name}.txt",))


def _stored(
    key: str,
    read: Callable[[Store], StoredDataset],
    expected: int | None,
    label: str = "training",
    truth: tuple[str, ...] = GROUND_TRUTH,
) -> Part:
    return Part(key, label, lambda path: read(open_store(path)), expected, truth)


def _depthtrack_training() -> list[str]:
    splits = load_list("depthtrack_splits")
    return [*splits["train_146_used"], *splits["val_used"]]


def _read_vot_rgbd22(store: Store) -> DepthTrackDataset:
    """Every sequence, also below `sequences/` as in a workspace of the VOT toolkit."""
    return DepthTrackDataset(SubStore(store, "sequences") if store.exists("sequences") else store)
