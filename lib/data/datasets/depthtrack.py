"""DepthTrack (Yan et al., ICCV 2021): RGB and depth, 150 training and 50 test sequences."""

from __future__ import annotations

from collections.abc import Sequence as Names

from lib.data.datasets.base import Annotation, StoredDataset, positive, read_boxes
from lib.data.datasets.flat import locate_flat, sequence_folder, sequence_names, those_there
from lib.data.datasets.frames import FrameFiles, numbered_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.lists import load_list
from lib.data.modalities import AuxRecipe
from lib.data.store import Store
from lib.data.types import Modality

BOXES = "groundtruth.txt"


class DepthTrackDataset(StoredDataset):
    """`<seq>/color/00000001.jpg`, `<seq>/depth/00000001.png` (16 bit), `<seq>/groundtruth.txt` (nan where absent).

    A box is valid, and visible, when both sides are longer than `min_side` pixels. Depth comes as a clipped colour
    map.
    names: sequences; None takes every folder.
    """

    modality = Modality.RGBD

    def __init__(
        self, store: Store, names: Names[str] | None = None, name: str = "depthtrack", *, min_side: float = 10
    ) -> None:
        root = locate_flat(store, (BOXES,), name, "depthtrack")
        super().__init__(root, sequence_names(root) if names is None else names, name)
        self.min_side = min_side
        self.recipe = AuxRecipe("depth", clip=True, style="colormap")

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        place = sequence_folder(self.store, name, (BOXES,))
        boxes = read_boxes(self.store, f"{place}/{BOXES}")
        rgb = numbered_files(self.store, f"{place}/color", "%08d.jpg", 1, len(boxes))
        aux = numbered_files(self.store, f"{place}/depth", "%08d.png", 1, len(rgb))
        if len(aux) < len(rgb):
            rgb = numbered_files(self.store, f"{place}/color", "%08d.jpg", 1, len(aux))
        boxes = boxes[: len(rgb)]
        valid = positive(boxes, self.min_side)
        frames = FrameFiles(self.store, rgb, aux, self.recipe)
        return Annotation(boxes, valid, valid, frames, object_class=name.split("_", 1)[0])


@DATASETS.register("DepthTrack_train")
def build_depthtrack_train(source: Source) -> DepthTrackDataset:
    """The 146 sequences that SDSTrack and CSTrack train on."""
    listed = DepthTrackDataset(source.store("depthtrack"), load_list("depthtrack_splits")["train_146_used"])
    return those_there(listed, source.name, or_all=True)


@DATASETS.register("DepthTrack_val")
def build_depthtrack_val(source: Source) -> DepthTrackDataset:
    """The 6 sequences kept for validation."""
    listed = DepthTrackDataset(source.store("depthtrack"), load_list("depthtrack_splits")["val_used"])
    return those_there(listed, source.name)
