"""RGB with a second camera: thermal (LasHeR, RGBT234, RGBT210, GTOT, VTUAV), depth (DepthTrack, VOT-RGBD), events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data.boxes import corners_to_xywh
from lib.data.datasets.base import Annotation, positive, read_boxes
from lib.data.datasets.folders import FolderDataset, Labels, Pictures
from lib.data.datasets.frames import (
    Files,
    FrameFiles,
    Listed,
    cut_rows,
    first_gap,
    listed_files,
    paired_by_position,
    unpaired,
)
from lib.data.io import AnnotationError
from lib.data.listing import folder_names, natural_order, number_in, picture_names
from lib.data.modalities import AuxRecipe
from lib.data.store import Store
from lib.data.types import Boxes, Mask, Modality


class LasherDataset(FolderDataset):
    """LasHeR (Li et al., TIP 2022), RGBT234 (PR 2019), RGBT210 (MM 2017): `<seq>/visible/*`, `<seq>/infrared/*`.

    File names are irregular and differ between the two cameras: pictures are paired by position. The other arguments
    are those of `FolderDataset`.

    Args:
        second_truth: Annotation file of the thermal camera to read as well; "" for that of the class, if any.
    """

    key = "lasher"
    modality = Modality.RGBT
    truth: tuple[str, ...] = ("visible.txt", "init.txt")
    picture_folders = ("visible", "infrared")
    second_truth = ""
    recipe = AuxRecipe("picture")

    def __init__(self, *args: Any, second_truth: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.second_truth = second_truth or self.second_truth

    def find_pictures(self, folder: str, rows: int) -> tuple[Files, Files | None]:
        rgb, thermal = (f"{folder}/{name}" for name in self.picture_folders)
        return paired_by_position(self.store, rgb, thermal, rows)

    def _read(self, index: int) -> Annotation:
        found = super()._read(index)
        if not self.second_truth:
            return found
        key = f"{found.folder}/{self.second_truth}"
        second, frames = self.read_truth(key), len(found.boxes_xywh)
        if len(second) < frames:
            raise AnnotationError(f"{len(second)} rows in {self.store.describe(key)} for {frames} frames")
        if len(second) > (found.rows or 0):
            second = cut_rows(second, frames, self.store.describe(key))
        return replace(found, second_boxes_xywh=second[:frames])


class GtotDataset(LasherDataset):
    """GTOT (Li et al., TIP 2016): `<seq>/{v,i}/*`, ground truth as two opposite corners in any order."""

    key = "gtot"
    truth = ("groundTruth_v.txt",)
    picture_folders = ("v", "i")
    second_truth = "groundTruth_i.txt"

    def read_truth(self, key: str) -> Boxes:
        return corners_to_xywh(read_boxes(self.store, key))


class VtuavDataset(LasherDataset):
    """VTUAV (Zhang et al., CVPR 2022): `test_ST_001/animal_001/{rgb,ir}/*.jpg`, a row for every tenth frame, else NaN.

    Args:
        names: Places such as `test_ST_001/animal_001`; sequences are named by the second part, as result files are.
    """

    key = "vtuav"
    truth = ("rgb.txt",)
    picture_folders = ("rgb", "ir")
    second_truth = "ir.txt"
    step = 10

    def __init__(self, *args: Any, **options: Any) -> None:
        self._places: dict[str, str] = {}
        super().__init__(*args, **options)
        self._places |= {place.rpartition("/")[2]: place for place in self.names if "/" in place}
        self.names = [place.rpartition("/")[2] for place in self.names]

    def find_names(self, root: Store) -> list[str]:
        tops = folder_names(root.listdir(""))
        places = [f"{top}/{inner}" for top in tops for inner in folder_names(root.listdir(top))]
        found = {place.rpartition("/")[2]: place for place in places}
        self._places |= found
        return list(found)

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        self.find_names(root)
        return any(root.exists(f"{place}/rgb.txt") for place in list(self._places.values())[:64])

    def _read(self, index: int) -> Annotation:
        folder = self._places[self.names[index]]
        names = [picture_names(self.store.listdir(f"{folder}/{part}")) for part in self.picture_folders]
        rgb, thermal = self.find_pictures(folder, len(names[0]))
        expected = -(-len(rgb) // self.step)
        # Row k is picture 10k, so that one picture less moves all rows behind it.
        missing = next((gap for listed in names if (gap := first_gap(listed))), None)
        if missing or number_in(names[0][0]) != number_in(names[1][0]):
            reason = f"{missing} is missing" if missing else f"thermal pictures begin with {names[1][0]}"
            raise unpaired(self.store, f"{folder}/rgb", names[0], expected, reason)
        modalities = []
        for file in (*self.truth, self.second_truth):
            sparse = read_boxes(self.store, f"{folder}/{file}")
            if abs(len(sparse) - expected) > 1:
                reason = f"every tenth picture has a row, which makes {expected}"
                raise unpaired(self.store, f"{folder}/rgb", names[0], len(sparse), reason)
            boxes = np.full((len(rgb), 4), np.nan)
            sparse = cut_rows(sparse, expected, self.store.describe(f"{folder}/{file}"))
            boxes[:: self.step][: len(sparse)] = sparse
            modalities.append(boxes)
        boxes, second = modalities
        valid = positive(boxes)
        frames = FrameFiles(self.store, rgb, thermal, self.recipe)
        return Annotation(boxes, valid, valid, frames, second_boxes_xywh=second, folder=folder)


class DepthTrackDataset(FolderDataset):
    """DepthTrack (Yan et al., ICCV 2021) and VOT-RGBD2022: `<seq>/color/00000001.jpg`, 16-bit `depth/00000001.png`.

    Boxes are nan where the target is absent. Depth is clipped and shown as a colour map.
    """

    key = "depthtrack"
    modality = Modality.RGBD
    min_side = 10
    below = ("sequences",)
    recipe = AuxRecipe("depth", clip=True, style="colormap")
    colour, depth = Pictures(("color",), "%08d.jpg"), Pictures(("depth",), "%08d.png")
    class_pattern = "([^_]*)"

    def find_pictures(self, folder: str, rows: int) -> tuple[Files, Files | None]:
        rgb = self.colour.find(self.store, folder, rows)
        aux = self.depth.find(self.store, folder, len(rgb))
        return (rgb if len(aux) == len(rgb) else self.colour.find(self.store, folder, len(aux))), aux


class VisEventDataset(FolderDataset):
    """VisEvent (Wang et al., TCyb 2023): `<seq>/vis_imgs/frame0000.bmp`, the event picture of its name in `event_imgs`.

    Numbering may start above 0. Visible: `absent_label.txt` has 1 (present) and the box is valid.

    The other arguments are those of `FolderDataset`.

    Args:
        reuse_missing_events: Show the previous event picture if one is missing; otherwise reading that frame is an
            error.
    """

    key = "visevent"
    modality = Modality.RGBE
    min_side = 5
    list_file = "trainlist.txt"
    label_files = ("absent_label.txt",)
    recipe = AuxRecipe("picture")

    def __init__(self, *args: Any, reuse_missing_events: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.reuse_missing_events = reuse_missing_events

    def labels(self, boxes: Boxes, valid: Mask, flags: list[NDArray[np.float64] | None]) -> Labels:
        present = None if flags[0] is None else flags[0] != 0
        return Labels(valid if present is None else valid & present, present)

    def find_pictures(self, folder: str, rows: int) -> tuple[Files, Files | None]:
        """RGB pictures by position, each with the event picture of its name (in any picture format).

        Args:
            folder: The sequence folder.
            rows: Number of annotation rows.

        Raises:
            AnnotationError: An RGB picture is missing while its event picture is there, or there are none.
        """
        rgb_folder, event_folder = f"{folder}/vis_imgs", f"{folder}/event_imgs"
        rgb_names = picture_names(self.store.listdir(rgb_folder))
        events = {name.rpartition(".")[0]: name for name in picture_names(self.store.listdir(event_folder))}
        known = {name.rpartition(".")[0] for name in rgb_names}
        alone = [stem for stem in natural_order(events) if stem not in known]
        if alone and len(rgb_names) < rows:
            missing = f"{rgb_folder}/{alone[0]}.{rgb_names[0].rpartition('.')[2] if rgb_names else 'bmp'}"
            raise AnnotationError(f"{self.store.describe(missing)} is missing: only its event picture is there")
        rgb = listed_files(self.store, rgb_folder, rgb_names, rows)
        paired: list[str] = []
        for name in map(str, rgb.names):
            partner = events.get(name.rpartition(".")[0])
            if partner is None and self.reuse_missing_events and (paired or events):
                partner = paired[-1] if paired else next(iter(events.values()))
            paired.append(partner or name)
        return rgb, Listed.of(event_folder, paired)
