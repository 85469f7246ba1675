"""RGB-T: LasHeR (TIP 2022), RGBT234 (PR 2019), RGBT210 (MM 2017), GTOT (TIP 2016), VTUAV (CVPR 2022).

Names of pictures are irregular and differ between the two cameras: both listings are sorted and paired by position.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lib.bench.benchmarks.benchmark import Benchmark, register, sequence_folder
from lib.data import (
    AnnotationError,
    AuxRecipe,
    Boxes,
    Modality,
    Store,
    Video,
    folder_names,
    opposite_corners_to_xywh,
    picture_names,
)
from lib.data.datasets import (
    Annotation,
    FrameFiles,
    LasherDataset,
    StoredDataset,
    listed_or_all,
    locate_flat,
    locate_root,
    paired_by_position,
    positive,
    read_boxes,
    read_names,
    sequence_names,
)
from lib.data.lists import load_list
from lib.layouts import layout_of

VTUAV_STEP = 10


def read_lasher(store: Store) -> LasherDataset:
    """The 245 test sequences."""
    return listed_or_all(LasherDataset(store, load_list("lasher_splits")["test_official_245"], "lasher"))


def read_rgbt234(store: Store) -> LasherDataset:
    """234 sequences; tracking starts on the visible box."""
    return listed_or_all(LasherDataset(store, list(load_list("rgbt234_attributes")["sequences"]), "rgbt234"))


def read_rgbt210(store: Store) -> LasherDataset:
    """210 sequences with one ground truth."""
    return listed_or_all(LasherDataset(store, load_list("rgbt210_sequences"), "rgbt210"))


def infrared_truth(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """RGBT234 has a ground truth per camera; the better of both counts."""
    folder = sequence_folder(dataset, sequence.name)
    return {"second_boxes_xywh": _of_length(read_boxes(dataset.store, f"{folder}/infrared.txt"), len(sequence))}


def _of_length(boxes: Boxes, count: int) -> Boxes:
    if len(boxes) < count:
        raise AnnotationError(f"{len(boxes)} rows in the infrared ground truth for {count} frames")
    return boxes[:count]


class GtotDataset(StoredDataset):
    """`<seq>/v/*.png`, `<seq>/i/*.png` (bmp in Otcbvs); ground truth as two opposite corners in any order."""

    modality = Modality.RGBT

    def __init__(self, store: Store) -> None:
        root = locate_flat(store, ("groundTruth_v.txt",), "gtot", "gtot")
        super().__init__(root, load_list("gtot_sequences"), "gtot")
        listed_or_all(self)

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        boxes = opposite_corners_to_xywh(read_boxes(self.store, f"{name}/groundTruth_v.txt"))
        rgb, aux = paired_by_position(self.store, f"{name}/v", f"{name}/i", len(boxes))
        boxes = boxes[: len(rgb)]
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, rgb, aux, AuxRecipe("picture")))


def gtot_infrared_truth(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """GTOT's second ground truth."""
    corners = read_boxes(dataset.store, f"{sequence.name}/groundTruth_i.txt")
    return {"second_boxes_xywh": _of_length(opposite_corners_to_xywh(corners), len(sequence))}


class VtuavDataset(StoredDataset):
    """`test_ST_001/animal_001/{rgb,ir}/*.jpg`, `rgb.txt` with one row for every tenth frame; the rest is NaN.

    part: "ST" or "LT". Sequences are those of `VTUAV-<part>.txt` in the root, else the published ones, else every
    folder of a folder; named by the second part of their place, as result files are.
    """

    modality = Modality.RGBT

    def __init__(self, store: Store, part: str, name: str) -> None:
        published = load_list("vtuav_sequences")["short_term_test" if part == "ST" else "long_term_test"]
        root = locate_root(store, _holds_vtuav, name, layout_of(name).tree)
        there = [f"{top}/{inner}" for top in sequence_names(root) for inner in folder_names(root.listdir(top))]
        if root.exists(list_file := f"VTUAV-{part}.txt"):
            places = read_names(root, list_file)
        else:
            places = there if set(there).isdisjoint(published) else published
        self._places = {place.rpartition("/")[2]: place for place in places}
        super().__init__(root, list(self._places), name)

    def _read(self, index: int) -> Annotation:
        place = self._places[self.names[index]]
        sparse = read_boxes(self.store, f"{place}/rgb.txt")
        pictures = len(picture_names(self.store.listdir(f"{place}/rgb")))
        rgb, aux = paired_by_position(self.store, f"{place}/rgb", f"{place}/ir", pictures)
        boxes = spread(sparse, len(rgb))
        valid = positive(boxes)
        return Annotation(boxes, valid, valid, FrameFiles(self.store, rgb, aux, AuxRecipe("picture")))


def _holds_vtuav(root: Store) -> bool:
    return any(
        root.exists(f"{top}/{inner}/rgb.txt")
        for top in sequence_names(root)[:8]
        for inner in folder_names(root.listdir(top))[:8]
    )


def spread(sparse: Boxes, count: int) -> Boxes:
    """[count, 4] with the rows of `sparse` at every tenth place, NaN between."""
    wanted = -(-count // VTUAV_STEP)
    if abs(len(sparse) - wanted) > 1:
        raise AnnotationError(f"{len(sparse)} annotation rows for {count} frames, expected {wanted} (every tenth)")
    rows = np.full((count, 4), np.nan)
    rows[::VTUAV_STEP][: len(sparse)] = sparse[:wanted]
    return rows


def vtuav_infrared_truth(dataset: StoredDataset, sequence: Video) -> dict[str, Any]:
    """VTUAV's second ground truth, as sparse as the first."""
    sparse = read_boxes(dataset.store, f"{sequence_folder(dataset, sequence.name)}/ir.txt")
    return {"second_boxes_xywh": spread(sparse, len(sequence)), "scored_every": VTUAV_STEP}


register(
    Benchmark(
        "lasher",
        "LasHeR",
        "lasher_test",
        read_lasher,
        truth_files=("visible.txt",),
        modality=Modality.RGBT,
        aliases=("lasher_test",),
        metric="lasher",
        result_format="float_space",
        attributes="lasher_test_attributes",
        complete=245,
    )
)
register(
    Benchmark(
        "rgbt234",
        "RGBT234",
        "rgbt234",
        read_rgbt234,
        infrared_truth,
        ("visible.txt",),
        Modality.RGBT,
        metric="rgbt234",
        result_format="float_space",
        attributes="rgbt234_attributes",
        complete=234,
    )
)
register(
    Benchmark(
        "rgbt210",
        "RGBT210",
        "rgbt210",
        read_rgbt210,
        truth_files=("init.txt",),
        modality=Modality.RGBT,
        metric="rgbt210",
        result_format="float_space",
        complete=210,
    )
)
register(
    Benchmark(
        "gtot",
        "GTOT",
        "gtot",
        GtotDataset,
        gtot_infrared_truth,
        ("groundTruth_v.txt",),
        Modality.RGBT,
        metric="gtot",
        result_format="float_space",
        complete=50,
    )
)
for _part, _name, _title, _alias, _count in (
    ("ST", "vtuav", "VTUAV short-term", ("vtuav_st", "vtuavst"), 176),
    ("LT", "vtuav_lt", "VTUAV long-term", ("vtuavlt",), 74),
):
    register(
        Benchmark(
            _name,
            _title,
            _name,
            partial(VtuavDataset, part=_part, name=_name),
            vtuav_infrared_truth,
            (),
            Modality.RGBT,
            aliases=_alias,
            metric="rgbt234",
            result_format="float_space",
            complete=_count,
            note="MPR/MSR as on RGBT234, on the annotated frames; not compared with the official MATLAB tool",
        )
    )
