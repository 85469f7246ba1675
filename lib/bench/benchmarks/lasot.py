"""LaSOT (Fan et al., CVPR 2019) and its extension subset (IJCV 2021); their layout is the synthetic benchmark's too."""

from __future__ import annotations

from typing import Any

from lib.bench.benchmarks.benchmark import Benchmark, register, sequence_folder
from lib.data import AnnotationError, Store, Video
from lib.data.datasets import LasotDataset, StoredDataset, read_flags
from lib.data.lists import load_list


def read_test(store: Store) -> LasotDataset:
    """The 280 sequences of protocol II."""
    return LasotDataset(store, load_list("lasot_test"))


def read_extension(store: Store) -> LasotDataset:
    """The 150 sequences of 15 new classes."""
    return LasotDataset(store, load_list("lasot_extension_subset_test"), "lasot_extension_subset")


def presence(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """Present: neither fully occluded nor out of view, whatever the box is. Both files have to be there."""
    folder = sequence_folder(dataset, sequence.name)
    count = len(sequence)
    present = None
    for file in ("full_occlusion.txt", "out_of_view.txt"):
        flags = read_flags(dataset.store, f"{folder}/{file}", count)
        if flags is None or len(flags) < count:
            raise AnnotationError(f"no complete {dataset.store.describe(f'{folder}/{file}')}")
        present = flags == 0 if present is None else present & (flags == 0)
    return {"present": present}


for _name, _title in (("lasot", "LaSOT"), ("lasot_lmdb", "LaSOT from LMDB")):
    register(Benchmark(_name, _title, _name, read_test, presence, tag="lasot", complete=280))
register(
    Benchmark(
        "lasot_extension_subset",
        "LaSOT extension",
        "lasot_extension_subset",
        read_extension,
        presence,
        aliases=("lasot_ext", "lasotext", "lasot_extension"),
        tag="lasot_extension_subset",
        complete=150,
    )
)
