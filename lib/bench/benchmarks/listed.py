"""Test sets whose sequences are those on the disk: ITB, TC-128 (Liang et al., TIP 2015), VOT's short-term sets."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np

from lib.bench.benchmarks.benchmark import Benchmark, register
from lib.data import (
    AnnotationError,
    Boxes,
    Store,
    folder_names,
    natural_order,
    parse_boxes,
    parse_numbers,
    picture_names,
)
from lib.data.datasets import (
    Annotation,
    FrameFiles,
    StoredDataset,
    listed_files,
    locate_flat,
    locate_root,
    numbered_files,
    positive,
    read_boxes,
    read_names,
    read_text,
    sequence_names,
)
from lib.layouts import layout_of

TRUTH = "groundtruth.txt"


class ItbDataset(StoredDataset):
    """`<scene>/<video>/*.jpg` beside `groundtruth.txt` (commas, tabs or blanks).

    A sequence is named by its video, and by `<scene>_<video>` where two scenes have a video of that name.
    """

    def __init__(self, store: Store) -> None:
        root = locate_root(store, lambda s: bool(_itb_places(s)), "itb", layout_of("itb").tree)
        places = _itb_places(root)
        seen = Counter(place.partition("/")[2] for place in places)
        self._places = {p.replace("/", "_") if seen[v := p.partition("/")[2]] > 1 else v: p for p in places}
        super().__init__(root, list(self._places), "itb")

    def _read(self, index: int) -> Annotation:
        place = self._places[self.names[index]]
        boxes = read_boxes(self.store, f"{place}/{TRUTH}")
        files = listed_files(self.store, place, picture_names(self.store.listdir(place)), len(boxes))
        boxes = boxes[: len(files)]
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, files))


def _itb_places(root: Store) -> list[str]:
    """`<scene>/<video>` of every video with a ground truth, in natural order."""
    scenes = folder_names(root.listdir(""))
    videos = [f"{scene}/{video}" for scene in scenes for video in folder_names(root.listdir(scene))]
    return natural_order(place for place in videos if root.exists(f"{place}/{TRUTH}"))


class Tc128Dataset(StoredDataset):
    """`<name>/img/0001.jpg`, `<name>/<name>_gt.txt`, and the first and last picture in `<name>/<name>_frames.txt`.

    ending: only the names that end so (`_ce`: the 78 sequences that are in no other benchmark).
    """

    def __init__(self, store: Store, name: str, ending: str = "") -> None:
        layout = layout_of("tc128").tree
        root = locate_root(store, lambda s: any(map(partial(_has_truth, s), sequence_names(s)[:8])), name, layout)
        names = [n for n in natural_order(sequence_names(root)) if n.endswith(ending) and _has_truth(root, n)]
        super().__init__(root, names, name)

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        boxes = read_boxes(self.store, f"{name}/{name}_gt.txt")
        frames_file = f"{name}/{name}_frames.txt"
        where = self.store.describe(frames_file)
        numbers = parse_numbers(read_text(self.store, frames_file), where)
        if len(numbers) < 2:
            raise AnnotationError(f"{where}: expected the numbers of the first and the last picture")
        first, last = int(numbers[0]), int(numbers[1])
        if len(boxes) < last - first:
            raise AnnotationError(f"{len(boxes)} rows in {name}_gt.txt for pictures {first} to {last} ({where})")
        files = numbered_files(self.store, f"{name}/img", "%04d.jpg", first, min(last - first + 1, len(boxes)))
        boxes = boxes[: len(files)]
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, files))


def _has_truth(root: Store, name: str) -> bool:
    return root.exists(f"{name}/{name}_gt.txt")


class VotDataset(StoredDataset):
    """`<seq>/color/00000001.jpg`, `<seq>/groundtruth.txt`: boxes, polygons or masks, as the upright box round each.

    Sequences: those of `list.txt`, or every folder where there is none; also below `sequences/` as in a workspace.
    """

    def __init__(self, store: Store, name: str) -> None:
        root = locate_flat(store, (TRUTH,), name, name, below=("sequences",))
        names = read_names(root, "list.txt") if root.exists("list.txt") else natural_order(sequence_names(root))
        super().__init__(root, names, name)

    def _read(self, index: int) -> Annotation:
        place = self.names[index]
        key = f"{place}/{TRUTH}"
        boxes = upright_boxes(read_text(self.store, key), self.store.describe(key))
        files = numbered_files(self.store, f"{place}/color", "%08d.jpg", 1, len(boxes))
        boxes = boxes[: len(files)]
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, files))


def upright_boxes(text: str, where: str) -> Boxes:
    """[N, 4] x, y, w, h of VOT's regions: four numbers, a polygon `x,y,x,y,...`, or a mask `m x,y,w,h,runs...`.

    A mask's box is the one it is stored in. Raises AnnotationError naming the file and line.
    """
    lines = text.lstrip("\ufeff").rstrip().splitlines()
    if not lines:
        raise AnnotationError(f"{where}: no annotation row")
    return np.stack([_upright(line.strip(), f"{where}, line {number}") for number, line in enumerate(lines, 1)])


def _upright(line: str, where: str) -> Boxes:
    if line.startswith("m"):
        line = ",".join(line[1:].split(",")[:4])
    columns = len(line.replace(",", " ").split())
    if columns == 4:
        return parse_boxes(line, where)[0]
    if columns < 6 or columns % 2:
        raise AnnotationError(f"{where}: expected a box, a polygon or a mask, found {line[:80]!r}")
    corners = parse_boxes(line, where, columns).reshape(-1, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.concatenate([low, high - low])


register(Benchmark("itb", "ITB", "itb", ItbDataset, tag="otb", complete=180))
for _name, _title, _ending in (("tc128", "TC-128", ""), ("tc128ce", "TC-128 (_ce)", "_ce")):
    register(
        Benchmark(
            _name, _title, "tc128", partial(Tc128Dataset, name=_name, ending=_ending), truth_files=(), tag="tc128"
        )
    )
for _year in (2018, 2019, 2022):
    register(
        Benchmark(
            f"vot{_year}",
            f"VOT{_year}, one pass",
            f"vot{_year}",
            partial(VotDataset, name=f"vot{_year}"),
            truth_files=(),
            aliases=(f"vot{_year % 100}",),
            tag="vot",
            note="one-pass scores on the upright boxes round VOT's regions; VOT's own measures come from its toolkit",
        )
    )
