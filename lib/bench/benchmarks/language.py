"""TNL2K (Wang et al., CVPR 2021) and VastTrack (Peng et al., NeurIPS 2024) test sets; their sentences are not used."""

from __future__ import annotations

from typing import Any

from lib.bench.benchmarks.benchmark import Benchmark, register
from lib.data import Store, Video
from lib.data.datasets import BOX_FILES, StoredDataset, Tnl2kDataset, VastTrackDataset
from lib.data.lists import load_list


def read_tnl2k(store: Store) -> Tnl2kDataset:
    """Every folder."""
    return Tnl2kDataset(store, None, "tnl2k")


def read_vasttrack(store: Store) -> VastTrackDataset:
    """The 3500 names, with the blanks of the release."""
    return VastTrackDataset(store, load_list("vasttrack_test"))


def not_all_zero(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """Present: a box whose numbers are not all zero."""
    return {"present": (sequence.boxes_xywh != 0).any(axis=1)}


register(Benchmark("tnl2k", "TNL2K", "tnl2k_test", read_tnl2k, aliases=("tnl2k_test",), tag="tnl2k", complete=700))
register(
    Benchmark(
        "vasttrack",
        "VastTrack",
        "vasttrack_test",
        read_vasttrack,
        not_all_zero,
        BOX_FILES,
        aliases=("vasttrack_test",),
        tag="vasttrack",
        complete=3500,
    )
)
