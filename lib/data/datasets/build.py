"""Data sets by name: YAML names of ``DATASETS_NAME``, and subsets of the catalogue for data check and benchmarks."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lib.catalogue import CATALOGUE, TRAINING_NAMES, DatasetSpec, Subset
from lib.data.datasets.base import StoredDataset
from lib.data.datasets.folders import FolderDataset
from lib.data.datasets.own import PREFIX, folder_row
from lib.data.datasets.pseudo import LABEL_FILE, SUFFIX, PseudoLabelDataset
from lib.data.listing import natural_order
from lib.data.lists import load_list
from lib.data.store import Store, SubStore, open_store
from lib.data.types import Dataset
from lib.paths import Paths
from lib.registry import listed

log = logging.getLogger(__name__)


def load_part(name: str | Callable[..., Any]) -> Any:
    """The reader or function that a row names.

    Args:
        name: "module:name"; a module without a dot is first looked for in this package. Anything else is returned.

    Raises:
        ModuleNotFoundError: There is no such module.
        AttributeError: The module has no such name.
    """
    if not isinstance(name, str):
        return name
    module, _, attribute = name.partition(":")
    here = f"{__package__}.{module}"
    try:
        found = importlib.import_module(here)
    except ModuleNotFoundError as error:
        if error.name != here:
            raise
        found = importlib.import_module(module)
    return getattr(found, attribute)


def reader_class(spec: DatasetSpec) -> type[StoredDataset]:
    """The reader class of a row, for its modality and other class attributes.

    Args:
        spec: Row of the data set.
    """
    return cast(type[StoredDataset], load_part(spec.reader))


def listed_names(lists: Sequence[str]) -> list[Any] | None:
    """The entries of published lists.

    Args:
        lists: Files of `lib.data.lists`, as "file" or "file/entry".

    Returns:
        Names, or positions for GOT-10k; None for no list.
    """
    names: list[Any] = []
    for reference in lists:
        file, _, entry = reference.partition("/")
        names += load_list(file)[entry] if entry else load_list(file)
    return names if lists else None


def open_subset(spec: DatasetSpec, subset: Subset, store: Store, **options: Any) -> StoredDataset:
    """The reader of a subset. Sequences of the published list that are not in the store are errors when read.

    Args:
        spec: Row of the data set.
        subset: One of its subsets.
        store: The data set's folder, archive or LMDB.
        **options: Further keyword arguments of the reader.

    Returns:
        The data set in the order of the list.

    Raises:
        FileNotFoundError: The store has another layout.
    """
    if subset.folder and store.exists(subset.folder):
        store = SubStore(store, subset.folder)
    names = listed_names(subset.names)
    listing = {"listing": subset.listing} if subset.listing else {}
    reader = load_part(spec.reader)
    dataset: StoredDataset = reader(store, names, spec.key, **{**listing, **spec.options, **subset.options, **options})
    if subset.own_sequences and isinstance(dataset, FolderDataset):
        there = dataset.find_names(dataset.store)
        if set(there).isdisjoint(dataset.names):
            log.warning(
                "%s: none of its %d sequences is in %s; all %d there are used",
                subset.datasets_name or spec.key, len(dataset.names), dataset.store.describe(""), len(there),
            )  # fmt: skip
            dataset.restrict_to(natural_order(there))
    if subset.natural_order:
        dataset.restrict_to(natural_order(dataset.names))
    return dataset


def open_folder(name: str, **options: Any) -> StoredDataset:
    """The sequences of an own folder, for the row `folder` of the catalogue.

    Args:
        name: `FOLDER:path/to/a/folder`.
        **options: Keyword arguments of the reader.

    Raises:
        FileNotFoundError: The folder does not exist, or has no sequence.
    """
    spec = folder_row(name)
    return open_subset(spec, spec.subset("test"), open_store(Path(spec.folders[0])), **options)


def open_videos(name: str, paths: Paths, lmdb: bool = False) -> StoredDataset:
    """The videos of a name in ``DATASETS_NAME`` for their pictures; an own folder needs no boxes.

    Args:
        name: A name without the suffix of pseudo labels.
        paths: Places of the data sets.
        lmdb: See `build_dataset`.

    Raises:
        ValueError: The name stands for still images, or for videos without files.
        FileNotFoundError, UnknownNameError: See `build_dataset`.
    """
    own = name.partition(":")[0].upper() == PREFIX
    dataset = open_folder(name, needs_boxes=False) if own else build_dataset(name, paths, lmdb)
    if not isinstance(dataset, StoredDataset):
        raise ValueError(f"{name} is rendered on demand; tracking/make_synthetic_data.py writes such videos to files")
    if not dataset.is_video:
        raise ValueError(f"{name} has still images, in which nothing moves; pseudo labels need videos")
    return dataset


def build_dataset(name: str, paths: Paths, lmdb: bool = False) -> Dataset:
    """The training data set of a YAML name such as `LASOT`, `GOT10K_vottrain`, `TRACKINGNET:0-3` or `LASHER_pseudo`.

    Sequences that a partial copy does not have are left out, with a warning. `_pseudo` behind a name stands for the
    same pictures with pseudo labels in place of annotations.

    Args:
        name: Name in ``DATASETS_NAME``.
        paths: Places of the data sets.
        lmdb: Take the LMDB copy; otherwise what exists, a folder or archive before the copy.

    Raises:
        UnknownNameError: No data set has this name.
        FileNotFoundError: The data set, or every sequence of it, is missing.
        ValueError: The text behind the colon cannot be understood.
    """
    base, colon, selection = name.partition(":")
    if base.lower().endswith(SUFFIX):
        videos = open_videos(base[: -len(SUFFIX)] + colon + selection, paths, lmdb)
        return PseudoLabelDataset(videos, paths.pseudo_labels / videos.name / LABEL_FILE)
    spec, subset = TRAINING_NAMES[base]
    if colon and not selection:
        raise ValueError(f"{name}: nothing behind the colon")
    if not spec.folders:
        return cast(Callable[[str], Dataset], load_part(spec.reader))(name)
    options: dict[str, Any] = {}
    names = subset.names
    if selection and subset.selection:
        options[subset.selection] = selection
    elif selection and subset.choices:
        if selection not in subset.choices:
            raise ValueError(f"{name}: expected {' or '.join(f'{base}:{choice}' for choice in subset.choices)}")
        names = (subset.choices[selection],)
    elif selection:
        raise ValueError(f"{name}: {base} has no parts to choose from; leave out ':{selection}'")
    source = open_store(_place(name, spec, paths, lmdb))
    dataset = open_subset(spec, replace(subset, names=names, datasets_name=name), source, **options)
    if isinstance(dataset, FolderDataset) and dataset.chosen_by_name:
        folders = set(dataset.store.listdir(""))  # one listing in place of a look at each, where sequences lie there
        exists = dataset.store.exists
        there = [n for n in dataset.names if n in folders or any(map(exists, dataset.sequence_folders(n)))]
        count, where = len(dataset.names), dataset.store.describe("")
        if not there:
            raise FileNotFoundError(
                f"{name}: no sequence found: none of its {count} is in {where}, which holds {listed(sorted(folders))}; "
                f"expected layout: {spec.layout}"
            )
        if len(there) < count:
            log.warning("%s: %d of its %d sequences are in %s; these are used", name, len(there), count, where)
            dataset.restrict_to(there)
    if not len(dataset):
        raise FileNotFoundError(f"{name}: no sequence found")
    return dataset


def _place(name: str, spec: DatasetSpec, paths: Paths, lmdb: bool) -> Path:
    """The data set's folder, archive or LMDB copy, for the YAML name `name`."""
    copy = f"{spec.key}_lmdb"
    if lmdb:
        if copy not in CATALOGUE:
            raise ValueError(f"{name}: there is no LMDB copy of {spec.key}")
        return paths.dataset(copy)
    try:
        return paths.dataset(spec.key)
    except FileNotFoundError:
        if copy in CATALOGUE:
            with suppress(FileNotFoundError):
                return paths.dataset(copy)
        raise
