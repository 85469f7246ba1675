"""GOT-10k (Huang et al., TPAMI 2021): val with all boxes, test with the first box only (its server scores), ltrval."""

from __future__ import annotations

from typing import Any

from lib.bench.benchmarks.benchmark import Benchmark, register
from lib.data import AnnotationError, Store, Video
from lib.data.datasets import Got10kDataset, StoredDataset, split_names
from lib.data.lists import load_list


def read_test(store: Store) -> Got10kDataset:
    """180 sequences with their first boxes."""
    return Got10kDataset(store, None, "got10k_test", part="test", first_box_only=True)


def read_val(store: Store) -> Got10kDataset:
    """The 180 sequences of the official validation part."""
    return Got10kDataset(store, None, "got10k_val", part="val")


def read_ltrval(store: Store) -> Got10kDataset:
    """The 1401 training sequences that OSTrack's family holds out."""
    whole = Got10kDataset(store)
    return Got10kDataset(whole.store, split_names(whole.store, load_list("got10k_val_split"), "got10k_ltrval"))


def covered(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """The metric wants the picture's size, and the cover labels."""
    if sequence.visible_ratio is None:
        raise AnnotationError(f"no cover.label beside {sequence.frame_path(0)}")
    return {"sized": True}


register(
    Benchmark(
        "got10k_test",
        "GOT-10k test",
        "got10k_test",
        read_test,
        aliases=("got10k",),
        metric="got10k",
        scored=False,
        submission="got10k",
        complete=180,
    )
)
register(Benchmark("got10k_val", "GOT-10k validation", "got10k_val", read_val, covered, metric="got10k", complete=180))
register(Benchmark("got10k_ltrval", "GOT-10k ltrval", "got10k", read_ltrval, covered, metric="got10k", complete=1401))
