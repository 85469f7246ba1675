"""The synthetic world under YAML names: rendered as it is read, or written to disk by tracking/make_synthetic_data.py."""

from __future__ import annotations

from lib.data.datasets.lasot import LasotDataset
from lib.data.datasets.registry import DATASETS, Source
from lib.data.store import SubStore
from lib.data.synthetic import SyntheticDataset, build_synthetic


@DATASETS.register("SYNTHETIC")
def build_rendered(source: Source) -> SyntheticDataset:
    """Worlds in memory; the selection holds their settings, as in `SYNTHETIC:seed=7,sequences=2000,modality=rgbt`."""
    source.selection()
    return build_synthetic(source.name)


@DATASETS.register("SYNTHETIC_train")
def build_written_train(source: Source) -> LasotDataset:
    """What lies in the `train` folder of the synthetic benchmark on disk."""
    return LasotDataset(SubStore(source.store("synthetic"), "train"), name="synthetic_train")


@DATASETS.register("SYNTHETIC_test")
def build_written_test(source: Source) -> LasotDataset:
    """What lies in its `test` folder."""
    return LasotDataset(SubStore(source.store("synthetic"), "test"), name="synthetic_test")
