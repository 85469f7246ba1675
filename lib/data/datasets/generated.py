"""Data sets that are no publication's: procedural worlds, a synthetic benchmark on disk, a user's own folder."""

from __future__ import annotations

from pathlib import Path

from lib.data.datasets.lasot import LasotDataset
from lib.data.datasets.registry import DATASETS, Source
from lib.data.store import SubStore, open_store
from lib.data.types import Dataset


@DATASETS.register("SYNTHETIC")
def build_procedural(source: Source) -> Dataset:
    """Worlds rendered as they are asked for; `SYNTHETIC:seed=1,sequences=2000,modality=rgbt` says which."""
    # The renderer stands above this package, whose stores and types it uses.
    from synthetic import build_synthetic

    return build_synthetic(f"SYNTHETIC:{source.selection()}")


@DATASETS.register("SYNTHETIC_train")
def build_synthetic_train(source: Source) -> LasotDataset:
    """Every sequence below `train/` of the synthetic benchmark on disk, in LaSOT's layout."""
    return LasotDataset(SubStore(source.store("synthetic"), "train"), None, "synthetic")


@DATASETS.register("FOLDER")
def build_folder(source: Source) -> LasotDataset:
    """`FOLDER:path`: every `<class>/<class>-<n>/{img/00000001.jpg, groundtruth.txt}` of a user's own folder."""
    path = Path(source.selection())
    if not source.selection() or not path.exists():
        raise FileNotFoundError(f"{source.name}: no such folder; write FOLDER:path/to/a/folder in LaSOT's layout")
    return LasotDataset(open_store(path), None, path.name)
