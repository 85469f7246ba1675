"""LasHeR (Li et al., TIP 2022): RGB and thermal, 979 training and 245 test sequences."""

from __future__ import annotations

from collections.abc import Sequence as Names

from lib.data.datasets.base import Annotation, StoredDataset, positive, read_boxes
from lib.data.datasets.flat import locate_flat, sequence_folder, sequence_names, those_there
from lib.data.datasets.frames import FrameFiles, Listed, listed_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.io import AnnotationError
from lib.data.listing import number_in, picture_names
from lib.data.lists import load_list
from lib.data.modalities import AuxRecipe
from lib.data.store import Store
from lib.data.types import Modality

BOX_FILES = ("visible.txt", "init.txt")
VALIDATION = "val_97"
_TRAIN_LISTS = {"": "train_881_sdstrack", "881": "train_881_sdstrack", "882": "train_882_cstrack"}


class LasherDataset(StoredDataset):
    """`<seq>/visible/*`, `<seq>/infrared/*`, `<seq>/visible.txt`; w, h > 0 valid and visible.

    File names are irregular and differ between the two cameras: pictures are paired by position in the sorted
    listings.
    names: sequences; None takes every folder.
    """

    modality = Modality.RGBT

    def __init__(self, store: Store, names: Names[str] | None = None, name: str = "lasher") -> None:
        root = locate_flat(store, BOX_FILES, name, "lasher")
        super().__init__(root, sequence_names(root) if names is None else names, name)

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        place = sequence_folder(self.store, name, BOX_FILES)
        file = next(f for f in BOX_FILES if self.store.exists(f"{place}/{f}"))
        boxes = read_boxes(self.store, f"{place}/{file}")
        rgb, aux = paired_by_position(self.store, f"{place}/visible", f"{place}/infrared", len(boxes))
        boxes = boxes[: len(rgb)]
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, rgb, aux, AuxRecipe("picture")))


def paired_by_position(store: Store, rgb_folder: str, aux_folder: str, rows: int) -> tuple[Listed, Listed]:
    """The pictures of two folders, n-th with n-th in sorted order, cut to `rows`.

    One picture more at the end of either folder is left out. Any other difference would pair pictures of different
    moments, and is an AnnotationError that names the first picture without a counterpart.
    """
    rgb = picture_names(store.listdir(rgb_folder))
    aux = picture_names(store.listdir(aux_folder))
    if len(rgb) != len(aux):
        few = len(rgb) < rows or len(aux) < rows or abs(len(rgb) - len(aux)) > 1
        _check_counterparts(store, (rgb_folder, rgb), (aux_folder, aux), strict=few)
    count = min(len(rgb), len(aux))
    return listed_files(store, rgb_folder, rgb[:count], rows), listed_files(store, aux_folder, aux[:count], rows)


def _check_counterparts(store: Store, one: tuple[str, list[str]], other: tuple[str, list[str]], strict: bool) -> None:
    """Compare the numbers in two listings, counted from the first of each, up to one picture at the end.

    Not strict: there is a picture for every row, so numbers that differ may be an odd way of numbering. Only a picture
    without which all the others agree is an error.
    """
    (long_folder, longer), (short_folder, shorter) = sorted((one, other), key=lambda listing: -len(listing[1]))
    place = _first_difference(longer, shorter)
    if place is None and len(longer) - len(shorter) <= 1:
        return
    place = len(shorter) if place is None else place
    if not strict and _first_difference(longer[:place] + longer[place + 1 :], shorter) is not None:
        return
    raise AnnotationError(
        f"{store.describe(f'{long_folder}/{longer[place]}')} has no counterpart: {len(longer)} pictures there, "
        f"{len(shorter)} in {store.describe(short_folder)}"
    )


def _first_difference(longer: list[str], shorter: list[str]) -> int | None:
    pairs = zip(longer, shorter, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if _step(a, longer[0]) != _step(b, shorter[0])), None)


def _step(name: str, first: str) -> int | None:
    number, start = number_in(name), number_in(first)
    return None if number is None or start is None else number - start


def _lasher(source: Source, key: str) -> LasherDataset:
    listed = LasherDataset(source.store("lasher"), load_list("lasher_splits")[key])
    return those_there(listed, source.name, or_all=key != VALIDATION)


@DATASETS.register("LasHeR_all")
def build_lasher_all(source: Source) -> LasherDataset:
    """All 979 training sequences."""
    return _lasher(source, "all_979")


@DATASETS.register("LasHeR_train")
def build_lasher_train(source: Source) -> LasherDataset:
    """The 881 sequences that ViPT and SDSTrack train on; `LasHeR_train:882` takes CSTrack's list."""
    selection = source.selection()
    if selection not in _TRAIN_LISTS:
        raise ValueError(f"LasHeR_train:{selection}: expected LasHeR_train:881 (the default) or LasHeR_train:882")
    return _lasher(source, _TRAIN_LISTS[selection])


@DATASETS.register("LasHeR_val")
def build_lasher_val(source: Source) -> LasherDataset:
    """The 97 sequences kept for validation."""
    return _lasher(source, VALIDATION)
