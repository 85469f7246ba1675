"""RGB-D: DepthTrack test (Yan et al., ICCV 2021) and VOT-RGBD2022 (Kristan et al., ECCV workshops 2022).

Both are run by the protocols of the VOT toolkit and their results lie as it has them, so that either can score what the
other has tracked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lib.bench.benchmarks.benchmark import Benchmark, register, sequence_folder
from lib.data import (
    DEPTHTRACK_SEQUENCES,
    VOT_RGBD22_SEQUENCES,
    AnnotationError,
    Modality,
    Store,
    Video,
    parse_numbers,
)
from lib.data.datasets import DepthTrackDataset, StoredDataset, locate_flat, read_names, read_text
from lib.data.lists import load_list

TRUTH, LIST, ANCHORS = "groundtruth.txt", "list.txt", "anchor.value"


def read_depthtrack(store: Store) -> DepthTrackDataset:
    """The sequences of `list.txt`, which the toolkit obeys, or the 50 of the test set where there is none."""
    return _read(store, "depthtrack_test", load_list("depthtrack_splits")["test_50"])


def read_vot_rgbd22(store: Store) -> DepthTrackDataset:
    """The sequences of `list.txt`, or every folder where there is none."""
    return _read(store, "vot_rgbd22", None)


def _read(store: Store, name: str, names: Sequence[str] | None) -> DepthTrackDataset:
    """Also below `sequences/`, as in a workspace of the toolkit."""
    root = locate_flat(store, (TRUTH,), name, name, below=("sequences",))
    listed = read_names(root, LIST) if root.exists(LIST) else names
    return DepthTrackDataset(root, listed, name, min_side=0)


def one_run(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """One run from the first frame, never initialised again. Present: the annotation has a box, not `nan`."""
    present = np.asarray(np.isfinite(sequence.boxes_xywh).all(axis=1))
    if not present[0]:
        raise AnnotationError("the first frame has no box to start on")
    return {"present": present, "sized": True, "run_name": "{name}_001"}


def runs_from_anchors(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """A run from every anchor: forward to the last frame (value above 0) or backward to the first (below 0)."""
    key = f"{sequence_folder(dataset, sequence.name)}/{ANCHORS}"
    where = dataset.store.describe(key)
    if not dataset.store.exists(key):
        raise AnnotationError(f"no {where} (a number per frame: 1 start forward, -1 start backward, 0 no start)")
    frames = len(sequence)
    values = parse_numbers(read_text(dataset.store, key), where)[:frames]
    anchors = np.flatnonzero(values).tolist()
    if not anchors:
        raise AnnotationError(f"{where}: no anchor, all values are 0")
    if empty := [i for i in anchors if not (np.isfinite(b := sequence.boxes_xywh[i]).all() and b[2:].min() > 0)]:
        raise AnnotationError(f"{where}: an anchor on frame {empty[0]}, which has no box to start on")
    passes = tuple(range(i, frames) if values[i] > 0 else range(i, -1, -1) for i in anchors)
    tags = sequence.attributes | _tags(dataset, sequence)
    return {"passes": passes, "sized": True, "run_name": "{name}_{first:08d}", "attributes": tags}


def _tags(dataset: StoredDataset, sequence: Video) -> frozenset[str]:
    """The attributes that some frame has: names of `<attribute>.tag` files with a 1 in them."""
    folder = sequence_folder(dataset, sequence.name)
    files = [name for name in dataset.store.listdir(folder) if name.endswith(".tag")]
    texts = {name: read_text(dataset.store, f"{folder}/{name}") for name in files}
    return frozenset(name.removesuffix(".tag") for name, text in texts.items() if "1" in text.split())


register(
    Benchmark(
        "depthtrack",
        "DepthTrack",
        "depthtrack_test",
        read_depthtrack,
        one_run,
        modality=Modality.RGBD,
        aliases=("depthtrack_test",),
        metric="vot_longterm",
        result_format="vot",
        complete=DEPTHTRACK_SEQUENCES,
    )
)
register(
    Benchmark(
        "vot_rgbd22",
        "VOT-RGBD2022",
        "vot_rgbd22",
        read_vot_rgbd22,
        runs_from_anchors,
        modality=Modality.RGBD,
        aliases=("votrgbd22", "vot_rgbd2022", "votrgbd2022", "vot22_rgbd", "vot22rgbd"),
        metric="vot_multistart",
        result_format="vot",
        complete=VOT_RGBD22_SEQUENCES,
    )
)
