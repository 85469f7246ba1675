"""Data sets with a folder per sequence: the configurable reader, and the RGB data sets that are settings of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lib.catalogue import CATALOGUE
from lib.data.boxes import corners_to_xywh
from lib.data.datasets.base import (
    Annotation,
    StoredDataset,
    first_existing,
    list_folder,
    locate_root,
    positive,
    read_boxes,
    read_flags,
    read_names,
    read_text,
)
from lib.data.datasets.frames import Files, FrameFiles, cut_rows, listed_files, numbered_files
from lib.data.io import AnnotationError, parse_boxes, parse_numbers
from lib.data.listing import folder_names, natural_order, picture_names
from lib.data.lists import load_list
from lib.data.modalities import AuxRecipe
from lib.data.store import Store
from lib.data.types import Boxes, Mask


@dataclass(frozen=True)
class Pictures:
    """Places of the pictures of a sequence.

    Attributes:
        folders: Folder names below the sequence folder, in order of preference; "" is the sequence folder itself.
        pattern: File names such as "%08d.jpg", numbered from `first`; "" takes all pictures in natural order.
        first: Number of the first picture.
    """

    folders: tuple[str, ...] = ("img",)
    pattern: str = ""
    first: int = 1

    def find(self, store: Store, folder: str, rows: int) -> Files:
        """The pictures of a sequence that belong to annotation rows.

        Args:
            store: Files of the data set.
            folder: The sequence folder.
            rows: Number of annotation rows.

        Returns:
            At most `rows` pictures.

        Raises:
            FileNotFoundError: The folder of the pictures does not exist.
            AnnotationError: It has no pictures, or one is missing within their numbering.
        """
        places = [f"{folder}/{name}" if name else folder for name in self.folders]
        place = first_existing(store, places) if len(places) > 1 else places[0]
        if self.pattern:
            return numbered_files(store, place, self.pattern, self.first, rows)
        return listed_files(store, place, picture_names(store.listdir(place)), rows)


class Labels(NamedTuple):
    """Labels of a sequence; [N] each, see `Annotation`."""

    visible: Mask
    present: Mask | None = None
    visible_ratio: NDArray[np.float64] | None = None


class FolderDataset(StoredDataset):
    """A folder per sequence, in it a text file with a box per row, pictures, and optional label files.

    Subclasses set the class attributes below, and override a method for a quirk.

    Args:
        store: Folder, archive or LMDB. The layout may start one folder further down.
        names: Sequences; None takes those of `list_file` at the root, or every sequence there is.
        name: Name for messages, and key of the row whose layout they show; the class's own key by default.
        listing: File at the root with one name per line, which takes precedence over `names`.
        min_side: A box is valid if both sides are longer than this, in pixels.
    """

    key = ""
    truth: tuple[str, ...] = ("groundtruth.txt",)
    """Annotation file in the sequence folder; alternatives in order of preference."""
    pictures = Pictures(("img",), "%08d.jpg")
    layout = ""
    """For messages, in place of that of the row."""
    list_file = ""
    below: tuple[str, ...] = ()
    """Folders that the layout may start in."""
    min_side: float = 0
    recipe: AuxRecipe | None = None
    class_pattern = ""
    """Regular expression for the start of a sequence name, whose group 1 is the class of the target."""

    def __init__(
        self,
        store: Store,
        names: Sequence[str] | None = None,
        name: str = "",
        *,
        listing: str = "",
        min_side: float | None = None,
    ) -> None:
        name = name or self.key
        layout = self.layout or CATALOGUE[name if name in CATALOGUE else self.key].layout
        root = locate_root(store, lambda view: self.looks_right(view, names), name, layout, self.below)
        if listing and root.exists(listing):
            names = read_names(root, listing)
        elif names is None and self.list_file and root.exists(self.list_file):
            names = read_names(root, self.list_file)
        self.chosen_by_name = names is not None
        super().__init__(root, self.find_names(root) if names is None else names, name)
        if min_side is not None:
            self.min_side = min_side

    def find_names(self, root: Store) -> list[str]:
        """The sequences in the data set folder.

        Args:
            root: The folder where the layout starts.

        Returns:
            Their names, in the order of the data set.
        """
        return folder_names(root.listdir(""))

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        """Decide if a layout starts in a folder.

        Args:
            root: The folder.
            names: Requested sequences; None for all.
        """
        return any(root.exists(key) for name in self.find_names(root)[:8] for key in self.truth_keys(name))

    def sequence_folders(self, name: str) -> list[str]:
        """Places where the folder of a sequence can be; some archives unpack as `name/name`.

        Args:
            name: The sequence.

        Returns:
            Keys in order of preference.
        """
        return [name, f"{name}/{name}"]

    def truth_keys(self, name: str) -> list[str]:
        """Places where the annotation file of a sequence can be.

        Args:
            name: The sequence.

        Returns:
            Keys in order of preference.
        """
        return [f"{folder}/{file}" for folder in self.sequence_folders(name) for file in self.truth]

    def read_truth(self, key: str) -> Boxes:
        """Read an annotation file.

        Args:
            key: The file.

        Returns:
            [N, 4] boxes x, y, w, h in image pixels, N > 0.
        """
        return read_boxes(self.store, key)

    def find_pictures(self, folder: str, rows: int) -> tuple[Files, Files | None]:
        """The pictures of a sequence.

        Args:
            folder: The sequence folder.
            rows: Number of annotation rows.

        Returns:
            (RGB pictures, pictures of the second modality if there is one), equally many, at most `rows`.
        """
        return self.pictures.find(self.store, folder, rows), None

    def labels(self, boxes: Boxes, valid: Mask, flags: list[NDArray[np.float64] | None]) -> Labels:
        """Visibility of the target.

        Args:
            boxes: [N, 4] x, y, w, h in image pixels.
            valid: [N] bool, the box is large enough.
            flags: Content of each of `label_files`, [N]; None for a file that does not exist.
        """
        return Labels(valid)

    def class_of(self, name: str) -> str | None:
        """The class of the target, from the name of the sequence; None if names do not have it."""
        found = re.match(self.class_pattern, name) if self.class_pattern else None
        return None if found is None else found[1]

    def _names_below(self, root: Store, folders: Sequence[str]) -> list[str]:
        """`<class>-<n>` of every folder `<class>/<class>-<n>` below some of the class folders."""
        names = ((folder, name) for folder in folders for name in list_folder(root, folder))
        return [name for folder, name in names if self.class_of(name) == folder and name != folder]

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        key = first_existing(self.store, self.truth_keys(name))
        folder = key.rpartition("/")[0]
        boxes = self.read_truth(key)
        rows = len(boxes)
        flags = [read_flags(self.store, f"{folder}/{file}", rows) for file in self.label_files]
        rgb, aux = self.find_pictures(folder, min([rows, *(len(f) for f in flags if f is not None)]))
        n = len(rgb)
        boxes, flags = boxes[:n], [None if f is None else f[:n] for f in flags]
        valid = positive(boxes, self.min_side)
        visible, present, ratio = self.labels(boxes, valid, flags)
        frames = FrameFiles(self.store, rgb, aux, self.recipe)
        return Annotation(boxes, valid, visible, frames, ratio, self.class_of(name), present, rows=rows, folder=folder)


class LasotDataset(FolderDataset):
    """LaSOT (Fan et al., CVPR 2019) and its extension subset: `<class>/<class>-<n>/img/00000001.jpg`.

    Visible: neither fully occluded nor out of view.
    """

    key = "lasot"
    label_files = ("full_occlusion.txt", "out_of_view.txt")
    class_pattern = "([^-]*)"

    def find_names(self, root: Store) -> list[str]:
        return self._names_below(root, root.listdir(""))

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        children = root.listdir("")
        if names is None:
            return bool(self._names_below(root, children[:4]))
        return any(name in children or self.class_of(name) in children for name in names)

    def sequence_folders(self, name: str) -> list[str]:
        below = f"{self.class_of(name)}/{name}"
        return [below, name, f"{below}/{name}", f"{name}/{name}"]

    def labels(self, boxes: Boxes, valid: Mask, flags: list[NDArray[np.float64] | None]) -> Labels:
        known = [f == 0 for f in flags if f is not None]
        present = np.logical_and.reduce(known) if known else np.ones(len(boxes), dtype=np.bool_)
        return Labels(valid & present, present if len(known) == len(flags) else None)


class VastTrackDataset(FolderDataset):
    """VastTrack (Peng et al., NeurIPS 2024): `<Class>/<Class>-<n>/imgs/00001.jpg` and `Groundtruth.txt`.

    Renamed copies (`img`, `groundtruth.txt`, underscores for spaces) are read too. Visible and present: every frame
    whose four numbers are not all zero, even if the box is not valid, as published.
    """

    key = "vasttrack"
    truth = ("Groundtruth.txt", "groundtruth.txt")
    pictures = Pictures(("imgs", "img"), "%05d.jpg")
    class_pattern = "(.+(?=-)|.+)"

    def find_names(self, root: Store) -> list[str]:
        return self._names_below(root, folder_names(root.listdir("")))

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        folders = folder_names(root.listdir(""))[:4]
        flat = any(root.exists(f"{folder}/{file}") for folder in folders for file in self.truth)
        return flat or bool(self._names_below(root, folders))

    def sequence_folders(self, name: str) -> list[str]:
        spellings = dict.fromkeys((name, name.replace(" ", "_")))
        return [p for n in spellings for p in (f"{self.class_of(n)}/{n}", n, f"{self.class_of(n)}/{n}/{n}")]

    def labels(self, boxes: Boxes, valid: Mask, flags: list[NDArray[np.float64] | None]) -> Labels:
        annotated = (boxes != 0).any(axis=1)
        return Labels(annotated, annotated)


class Tnl2kDataset(FolderDataset):
    """TNL2K (Wang et al., CVPR 2021): `<seq>/imgs/*` in natural order; the sentences are not used."""

    key = "tnl2k"
    pictures = Pictures(("imgs",))
    class_pattern = "(?:CM_|INF_)?([^_]*)"


class ItbDataset(FolderDataset):
    """ITB: `<scene>/<video>/*.jpg` next to `groundtruth.txt` (commas, tabs or blanks).

    A sequence is named by its video, and by `<scene>_<video>` if two scenes have a video of that name.
    """

    key = "itb"
    pictures = Pictures(("",))

    def find_names(self, root: Store) -> list[str]:
        scenes = folder_names(root.listdir(""))
        videos = [f"{scene}/{video}" for scene in scenes for video in folder_names(root.listdir(scene))]
        places = natural_order(place for place in videos if root.exists(f"{place}/{self.truth[0]}"))
        seen = Counter(place.partition("/")[2] for place in places)
        self._places = {p.replace("/", "_") if seen[v := p.partition("/")[2]] > 1 else v: p for p in places}
        return list(self._places)

    def sequence_folders(self, name: str) -> list[str]:
        return [self._places[name]]


class VotDataset(FolderDataset):
    """VOT's short-term sets: `<seq>/color/00000001.jpg`, `groundtruth.txt` with boxes, polygons or masks.

    Boxes are the upright boxes round polygons; a mask's box is the one that it is stored in.
    """

    key = "vot2022"
    pictures = Pictures(("color",), "%08d.jpg")
    below = ("sequences",)

    def read_truth(self, key: str) -> Boxes:
        where, lines = self.store.describe(key), self._lines(key)
        if not lines:
            raise AnnotationError(f"{where}: no annotation row")
        return np.stack([upright_box(line.strip(), f"{where}, line {n}") for n, line in enumerate(lines, 1)])

    def _read(self, index: int) -> Annotation:
        """As of other folders, with polygons; boxes and masks count as those of their outermost pixels."""
        annotation = super()._read(index)
        lines = self._lines(f"{annotation.folder}/{self.truth[0]}")
        x, y, w, h = annotation.boxes_xywh.T
        corners = np.stack([x, y, x + w - 1, y, x + w - 1, y + h - 1, x, y + h - 1], axis=1)
        for row, line in zip(corners, lines, strict=False):
            numbers = line.replace(",", " ").replace(";", " ").split()
            if len(numbers) == 8:
                row[:] = [float(number) for number in numbers]
        return replace(annotation, corners=corners)

    def _lines(self, key: str) -> list[str]:
        return read_text(self.store, key).lstrip("\ufeff").rstrip().splitlines()


def upright_box(line: str, where: str) -> Boxes:
    """The upright box of a VOT region.

    Args:
        line: Four numbers x, y, w, h, a polygon `x,y,x,y,...`, or a mask `m x,y,w,h,runs...`, in image pixels.
        where: File and line, for the message.

    Returns:
        [4] float64 x, y, w, h: the box round a polygon, the box that a mask is stored in.

    Raises:
        AnnotationError: It is none of these.
    """
    if line.startswith("m"):
        line = ",".join(line[1:].split(",")[:4])
    columns = len(line.replace(",", " ").replace(";", " ").split())
    if columns == 4:
        return parse_boxes(line, where)[0]
    if columns < 6 or columns % 2:
        raise AnnotationError(f"{where}: expected a box, a polygon or a mask, found {line[:80]!r}")
    return corners_to_xywh(parse_boxes(line, where, columns))[0]


class Tc128Dataset(FolderDataset):
    """TC-128 (Liang et al., TIP 2015): `<name>/img/0001.jpg`, `<name>_gt.txt`, and `<name>_frames.txt` with the first
    and the last picture.

    Args:
        ending: Takes only names that end with it (`_ce`: the 78 sequences that no other benchmark has).
    """

    key = "tc128"

    def __init__(self, *args: Any, ending: str = "", **options: Any) -> None:
        self.ending = ending
        super().__init__(*args, **options)

    def find_names(self, root: Store) -> list[str]:
        folders = folder_names(root.listdir(""))
        return [name for name in folders if name.endswith(self.ending) and root.exists(f"{name}/{name}_gt.txt")]

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        return bool(self.find_names(root))

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        boxes = read_boxes(self.store, f"{name}/{name}_gt.txt")
        where = self.store.describe(f"{name}/{name}_frames.txt")
        numbers = parse_numbers(read_text(self.store, f"{name}/{name}_frames.txt"), where)
        if len(numbers) < 2 or (numbers % 1).any():
            raise AnnotationError(f"{where}: expected the numbers of the first and the last picture")
        first, last = int(numbers[0]), int(numbers[1])
        found = span_of(self.store, f"{name}/img", "%04d.jpg", first, last, boxes, f"{name}/{name}_gt.txt")
        return replace(found, folder=name)


class TableDataset(StoredDataset):
    """UAV123 (Mueller et al., ECCV 2016), NfS (Kiani Galoogahi et al., ICCV 2017), OTB-2015 (Wu et al., TPAMI 2015).

    Sequences are cut from picture folders by a table: `<path>/<k with nz digits>.<ext>` for k from startFrame +
    initOmit to endFrame, ground truth from row initOmit on. Names are those of result files: `uav_bike1`, `Basketball`.

    Args:
        table: List file with the table.
    """

    def __init__(self, store: Store, names: Sequence[str] | None = None, name: str = "", *, table: str) -> None:
        rows = {row["name"]: row for row in load_list(table)}
        folders = {row["path"].partition("/")[0] for row in rows.values()}
        root = locate_root(store, lambda view: any(map(view.exists, folders)), name, CATALOGUE[name].layout)
        super().__init__(root, list(rows) if names is None else names, name)
        self._rows = rows

    def _read(self, index: int) -> Annotation:
        row = self._rows[self.names[index]]
        omit, pattern = int(row.get("initOmit", 0)), f"%0{row['nz']}d.{row['ext']}"
        first, last = int(row["startFrame"]) + omit, int(row["endFrame"])
        boxes = read_boxes(self.store, row["anno_path"])[omit:]
        alone = sum(other["path"] == row["path"] for other in self._rows.values()) == 1
        if alone and self.store.exists(f"{row['path']}/{pattern % (2 * last)}"):
            raise AnnotationError(
                f"{self.store.describe(row['path'])}: twice as many pictures as the {last} of this sequence, or more; "
                "is this a version with more frames per second (NfS at 240)?"
            )
        found = span_of(self.store, row["path"], pattern, first, last, boxes, row["anno_path"])
        return replace(found, object_class=row.get("object_class"))


def span_of(store: Store, folder: str, pattern: str, first: int, last: int, boxes: Boxes, truth: str) -> Annotation:
    """The annotation of a sequence that is a span of a folder's pictures.

    Args:
        store: Files of the data set.
        folder, pattern: Folder of the pictures, and their names, see `numbered_files`.
        first, last: Numbers of its pictures.
        boxes: [N, 4] x, y, w, h in image pixels, from the first picture on.
        truth: Key of the file that they are of, for messages.

    Raises:
        AnnotationError: At least two rows or pictures are missing.
    """
    count, where = last - first + 1, store.describe(truth)
    boxes = cut_rows(boxes, count, where)
    if len(boxes) < count - 1:
        raise AnnotationError(f"{len(boxes)} rows in {where} for frames {first} to {last}")
    files = numbered_files(store, folder, pattern, first, len(boxes), min(first, 1))
    if len(files) < count - 1:
        raise AnnotationError(f"{len(files)} frames in {store.describe(folder)}, expected {count}")
    boxes = boxes[: len(files)]
    valid = positive(boxes)
    return Annotation(boxes, valid, valid, FrameFiles(store, files))
