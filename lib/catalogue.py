"""The catalogue: one row for every known data set folder.

All code about a data set reads its row: paths and ``local.yaml`` (key, folders, layout), readers and the
names of ``DATASETS_NAME`` (reader, subsets), the data check (counts), LMDB copies, and the benchmarks of ``lib.bench``.
The rows are in `catalogue.yaml`. Readers are named by text and imported when a data set is opened, so this module
stands below everything that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lib.files import yaml_rows
from lib.registry import Registry


@dataclass(frozen=True)
class Subset:
    """Sequences of one data set folder that are used together.

    Attributes:
        label: What the data check and benchmarks call it ("training", "test", ...); "" if it is no published part.
        count: Number of sequences as published; None if any number is right.
        names: Lists of `lib.data.lists` that hold the sequences, as "file" or "file/entry"; () takes the whole folder.
        datasets_name: Name in ``DATASETS_NAME``; "" for none.
        choices: Other lists, by the text behind the colon of `datasets_name`.
        selection: Option of the reader that receives the text behind the colon of `datasets_name`.
        listing: File in the data set folder with one name per line, which takes precedence over `names`.
        own_sequences: If none of the names is in the folder, use all sequences there (own data in this layout).
        natural_order: Sort the sequences by the numbers in their names.
        folder: Sub-folder that holds the subset; without it the subset lies at the root.
        options: Keyword arguments of the reader.
        check_options: Further ones for the data check.
    """

    label: str = ""
    count: int | None = None
    names: tuple[str, ...] = ()
    datasets_name: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    selection: str = ""
    listing: str = ""
    own_sequences: bool = False
    natural_order: bool = False
    folder: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    check_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LmdbCopy:
    """The LMDB copy of a data set. Its keys are those that readers of the STARK / OSTrack family use.

    Attributes:
        folder: Default folder; "" for ``<folder of the data set>_lmdb``.
        description: One line; "" for ``<title> as LMDB``.
        layout: Keys in the copy; "" if they are the paths below the data set folder.
        prefix: Text in front of every key.
        inside: Sub-folder of the release that is copied, if it exists.
        files: Files and folders that are copied; () for all.
        required: Glob patterns, one of which must match.
        chunked: One environment per ``TRAIN_<k>`` folder.
        index: Function "module:name" of `lib.data.datasets` that makes the first of `files` if the source has none.
        subsets: Labels of the subsets that the copy holds; () for all.
    """

    folder: str = ""
    description: str = ""
    layout: str = ""
    prefix: str = ""
    inside: str = ""
    files: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    chunked: bool = False
    index: str = ""
    subsets: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetSpec:
    """One data set folder.

    Attributes:
        key: Name in ``local.yaml`` and of the environment variable ``TRACKING_<KEY>_DIR``. A key without suffix is the
            training part if the test part has a folder, and a key, of its own.
        description: One line for tables and messages.
        reader: The reader, ``reader(store, names, name, **options)``, or its place as "module:name"; a module without a
            dot is first looked for in `lib.data.datasets`.
        subsets: What is trained on and tested.
        folders: Default places under the data folder; the first that exists is taken. () if it has no folder: such a
            data set is built by ``reader(name in DATASETS_NAME)``.
        layout: What is in the folder, in one line.
        aliases: Other names of the key.
        options: Keyword arguments of the reader, for every subset.
        lmdb: How to copy it into LMDB; None if there is no default place for a copy.
        copy_of: Key of the data set that this one is the LMDB copy of.
    """

    key: str
    description: str
    reader: str | Callable[..., Any]
    subsets: tuple[Subset, ...]
    folders: tuple[str, ...] = ()
    layout: str = ""
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    lmdb: LmdbCopy | None = None
    copy_of: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that sets the folder."""
        return f"TRACKING_{self.key.upper()}_DIR"

    def subset(self, label: str) -> Subset:
        """One of the published parts.

        Args:
            label: "training", "test", ...

        Raises:
            KeyError: There is no such part.
        """
        for subset in self.subsets:
            if label and subset.label == label:
                return subset
        raise KeyError(f"{self.key} has no part {label!r}")

    def lmdb_spec(self) -> DatasetSpec | None:
        """The row of the LMDB copy, with the subsets that the copy holds; None if there is no copy."""
        if self.lmdb is None:
            return None
        held = self.lmdb.subsets
        subsets = [replace(s, datasets_name="") for s in self.subsets if s.label and (not held or s.label in held)]
        title = self.description.partition(",")[0].partition(":")[0]
        return replace(
            self,
            key=f"{self.key}_lmdb",
            folders=(self.lmdb.folder or f"{self.key}_lmdb",),
            description=self.lmdb.description or f"{title} as LMDB",
            layout=self.lmdb.layout or f"data.mdb, whose keys are the paths of {self.layout}",
            subsets=tuple(subsets),
            aliases=(self.lmdb.folder,) if self.lmdb.folder else (),
            lmdb=None,
            copy_of=self.key,
        )


def folder_hint(name: str) -> str:
    """A hint for a folder that stands where a data set's name is expected."""
    return f"; for a folder of your own write FOLDER:{name}" if Path(name).is_dir() else ""


CATALOGUE: Registry[DatasetSpec] = Registry("data set key", folder_hint)
"""Key or alias, in any case -> row of a data set that has a folder."""

TRAINING_NAMES: Registry[tuple[DatasetSpec, Subset]] = Registry("data set", folder_hint)
"""Name in ``DATASETS_NAME``, in any case -> row and subset."""


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Add a row, and the row of its LMDB copy, to the catalogue.

    Args:
        spec: The row.

    Returns:
        The same row.

    Raises:
        ValueError: A key, an alias or a name in ``DATASETS_NAME`` is taken.
    """
    for row in (spec, spec.lmdb_spec()):
        if row is not None and row.folders:
            CATALOGUE.register(row.key, *row.aliases)(row)
    for subset in spec.subsets:
        if subset.datasets_name:
            TRAINING_NAMES.register(subset.datasets_name)((spec, subset))
    return spec


for _key, _row in yaml_rows(Path(__file__).with_suffix(".yaml")).items():
    _row["subsets"] = tuple(Subset(**subset) for subset in _row["subsets"])
    if "lmdb" in _row:
        _row["lmdb"] = LmdbCopy(**_row["lmdb"])
    register_dataset(DatasetSpec(_key, **_row))
