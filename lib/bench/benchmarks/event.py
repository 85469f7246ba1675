"""VisEvent test (Wang et al., IEEE Transactions on Cybernetics 2023): RGB and events."""

from __future__ import annotations

from typing import Any

import numpy as np

from lib.bench.benchmarks.benchmark import Benchmark, register, sequence_folder
from lib.data import AnnotationError, Modality, Store, Video
from lib.data.datasets import StoredDataset, VisEventDataset, listed_or_all, positive, read_flags
from lib.data.lists import load_list


def read_visevent(store: Store) -> VisEventDataset:
    """`testlist.txt` of the data set, or the 320 names of the toolkit."""
    options: dict[str, Any] = {"min_side": 0, "reuse_missing_events": True, "list_file": "testlist.txt"}
    if store.exists("testlist.txt"):
        return VisEventDataset(store, None, "visevent", **options)
    return listed_or_all(VisEventDataset(store, load_list("visevent_splits")["test_320"], "visevent", **options))


def start_and_presence(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """Tracking starts on the first frame with a target. Present: 1 in `absent_label.txt` (the data set's polarity)."""
    folder = sequence_folder(dataset, sequence.name)
    labels = read_flags(dataset.store, f"{folder}/absent_label.txt", len(sequence))
    present = None if labels is None else labels[: len(sequence)] != 0
    sized = positive(sequence.boxes_xywh)
    usable = sized if present is None or not (sized & present).any() else sized & present
    if not usable.any():
        raise AnnotationError("no frame with a box to start on")
    return {"start": int(np.argmax(usable)), "present": present}


register(
    Benchmark(
        "visevent",
        "VisEvent",
        "visevent_test",
        read_visevent,
        start_and_presence,
        modality=Modality.RGBE,
        aliases=("visevent_test",),
        metric="matlab",
        result_format="float_comma",
        attributes="visevent_test_attributes",
        complete=320,
    )
)
