"""What the published data set classes say about a small tree, and the six-channel frames of RGB-X."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from golden import Case, runner

from lib.data import decode_depth, decode_image, open_store
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
from tests.support.pictures import x_frame

BUILDERS: dict[str, Callable[[Path, list[str]], StoredDataset]] = {
    "coco": lambda root, folders: CocoDataset(open_store(root)),
    "depthtrack": lambda root, folders: DepthTrackDataset(open_store(root), folders),
    "got10k": lambda root, folders: Got10kDataset(open_store(root)),
    "imagenet_vid": lambda root, folders: ImagenetVidDataset(open_store(root)),
    "lasher": lambda root, folders: LasherDataset(open_store(root), folders),
    "lasot": lambda root, folders: _lasot(root),
    "tnl2k": lambda root, folders: Tnl2kDataset(open_store(root)),
    "trackingnet": lambda root, folders: TrackingNetDataset(root, chunks=[0]),
    "vasttrack": lambda root, folders: VastTrackDataset(open_store(root)),
    "visevent": lambda root, folders: VisEventDataset(open_store(root)),
}
"""The data set of a root folder and its sub-folders in the order of the case, with the arguments that cases rest on."""


def _lasot(root: Path) -> LasotDataset:
    every = LasotDataset(open_store(root)).names
    return LasotDataset(open_store(root), [name for name in every if name.rpartition("-")[2] in ("1", "2")])


@runner("benchmarks/dataset", "benchmarks/training_dataset")
def training_dataset(case: Case) -> None:
    """The case's `what` starts with the data set's name; `inputs.tree` maps a path to its text, None for a picture."""
    name = case.data["what"].partition(":")[0].strip().lower()
    tree: dict[str, str | None] = case.data["inputs"]["tree"]
    folders = list(dict.fromkeys(path.split("/")[0] for path in tree if "/" in path))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, text in tree.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text or "")
        dataset = BUILDERS[name](root, folders)
        assert len(dataset) == len(case.data["outputs"]), f"{len(dataset)} sequences: {dataset.names}"
        for index, wanted in enumerate(case.data["outputs"]):
            _check_sequence(case, dataset, index, root, wanted)


def _check_sequence(case: Case, dataset: StoredDataset, index: int, root: Path, wanted: dict[str, Any]) -> None:
    sequence, found = dataset[index], dataset.annotation(index)
    boxes = [[np.nan if v is None else v for v in row] for row in wanted["bbox"]]
    case.check(sequence.boxes_xywh, boxes, f"{sequence.name} boxes")
    for field in ("valid", "visible"):
        np.testing.assert_array_equal(
            getattr(sequence, field), np.array(wanted[field], bool), f"{sequence.name} {field}"
        )
    for frame, paths in zip((0, len(sequence) - 1), wanted["frame_paths"], strict=True):
        read = [found.frames.store.describe(key) for key in found.frames.keys(frame)]
        assert read == [str(root / path) for path in (paths if isinstance(paths, list) else [paths])]
    if "visible_ratio" in wanted:
        case.check(sequence.visible_ratio, wanted["visible_ratio"], f"{sequence.name} visible ratio")
    if "object_meta" in wanted:
        assert isinstance(dataset, Got10kDataset)
        meta = dataset.object_meta(index)
        assert {**meta, "object_class_name": meta["object_class"]}.items() >= wanted["object_meta"].items()
    if "start_frame" in wanted:
        assert isinstance(dataset, ImagenetVidDataset)
        assert dataset.start_frame(index) == wanted["start_frame"]
    # The classes of TrackingNet come from a table that is not part of a case's tree.
    if "class_name" in wanted and not isinstance(dataset, TrackingNetDataset):
        assert sequence.object_class == wanted["class_name"]


@runner("benchmarks/x_frame")
def x_frames(case: Case) -> None:
    """Outputs are named `<picture>.<arrangement>[.clip|.noclip]`; pictures go through PNG files as on a disk."""
    pictures = {name: _pictures(case, spec) for name, spec in case.data["inputs"]["images"].items()}
    for output, wanted in case.data["outputs"].items():
        name, kind, *clip = output.split(".")
        rgb, thermal, depth = pictures[name]
        frame = x_frame(rgb, thermal if kind == "rgbrgb" else depth, kind, depth_clip=clip == ["clip"])
        case.check(frame, wanted, output)
        for key in (k for k in wanted if k.startswith("pixel_")):
            y, x = map(int, key.split("_")[1:])
            case.check(frame[y, x], wanted[key], f"{output} {key}")


def _pictures(case: Case, spec: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(RGB, second picture, depth) of an entry of `inputs.images`."""
    files = [cv2.imencode(".png", case.draw(spec[key])[..., ::-1])[1].tobytes() for key in ("rgb", "x")]
    depth = cv2.imencode(".png", _depth(spec["height"], spec["width"], **spec["depth"]))[1].tobytes()
    rgb, x = (decode_image(data, "picture of the case") for data in files)
    return rgb, x, decode_depth(depth, "depth of the case")


def _depth(h: int, w: int, seed: int, near: int, far: int) -> np.ndarray:
    """The depth map that the case's note describes: a slanted plane, a near block, holes and far specks."""
    y, x = np.mgrid[0:h, 0:w]
    depth = (near + (far - near) * (x + 2 * y) / (w + 2 * h)).astype(np.uint16)
    depth[h // 4 : h // 2, w // 4 : w // 2] = near // 2
    rng = np.random.RandomState(seed)
    depth[rng.random_sample((h, w)) < 0.03] = 0
    depth[rng.random_sample((h, w)) < 0.02] = 60000
    return depth
