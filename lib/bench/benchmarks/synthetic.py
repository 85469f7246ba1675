"""The benchmark that comes with the project: LaSOT's layout, every sequence that is there, `attributes.json` beside."""

from __future__ import annotations

from lib.bench.benchmarks.benchmark import Benchmark, register
from lib.bench.benchmarks.lasot import presence
from lib.data import Store, SubStore, natural_order
from lib.data.datasets import LasotDataset

TEST_FOLDER = "test"


def read(store: Store) -> LasotDataset:
    """Every `<class>/<class>-<n>`, below `test/` where there is such a folder."""
    part = SubStore(store, TEST_FOLDER) if store.exists(TEST_FOLDER) else store
    dataset = LasotDataset(part, None, "synthetic")
    dataset.names = natural_order(dataset.names)
    return dataset


register(
    Benchmark(
        "synthetic",
        "Synthetic",
        "synthetic",
        read,
        presence,
        aliases=("synthetic_test",),
        tag="lasot",
        result_format="float_comma",
    )
)
