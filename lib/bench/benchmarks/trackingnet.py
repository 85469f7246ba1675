"""TrackingNet test (Müller et al., ECCV 2018): first boxes only; its server scores."""

from __future__ import annotations

from lib.bench.benchmarks.benchmark import Benchmark, register
from lib.data import Store
from lib.data.datasets import TrackingNetDataset


def read(store: Store) -> TrackingNetDataset:
    """Every video of `TEST/anno`."""
    return TrackingNetDataset(store, name="trackingnet", test=True)


register(
    Benchmark(
        "trackingnet",
        "TrackingNet",
        "trackingnet",
        read,
        aliases=("trackingnet_test",),
        scored=False,
        submission="trackingnet",
        complete=511,
    )
)
