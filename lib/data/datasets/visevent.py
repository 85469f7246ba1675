"""VisEvent (Wang et al., TCyb 2023): RGB and event pictures, 500 training and 320 test sequences."""

from __future__ import annotations

from collections.abc import Sequence as Names

from lib.data.datasets.base import (
    Annotation,
    StoredDataset,
    positive,
    read_boxes,
    read_flags,
    read_names,
    shortest,
)
from lib.data.datasets.flat import locate_flat, sequence_folder, sequence_names, those_there
from lib.data.datasets.frames import FrameFiles, Listed, listed_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.io import AnnotationError
from lib.data.listing import natural_order, picture_names
from lib.data.modalities import AuxRecipe
from lib.data.store import Store
from lib.data.types import Modality

BOXES = "groundtruth.txt"


class VisEventDataset(StoredDataset):
    """`<seq>/vis_imgs/frame0000.bmp`, the event picture of its name in `event_imgs`, `groundtruth.txt`.

    Numbering may start above 0. A box is valid when both sides are longer than `min_side` pixels, visible when
    absent_label says 1 (present) besides.
    names: sequences; None takes `list_file` of the root, or every folder where there is none.
    reuse_missing_events: show the previous event picture where one is missing; otherwise reading that frame is an
    error.
    """

    modality = Modality.RGBE

    def __init__(
        self,
        store: Store,
        names: Names[str] | None = None,
        name: str = "visevent",
        *,
        min_side: float = 5,
        reuse_missing_events: bool = False,
        list_file: str = "trainlist.txt",
    ) -> None:
        root = locate_flat(store, (BOXES,), name, "visevent")
        if names is None:
            names = read_names(root, list_file) if root.exists(list_file) else sequence_names(root)
        super().__init__(root, names, name)
        self.min_side = min_side
        self.reuse_missing_events = reuse_missing_events

    def _read(self, index: int) -> Annotation:
        place = sequence_folder(self.store, self.names[index], (BOXES,))
        boxes = read_boxes(self.store, f"{place}/{BOXES}")
        present = read_flags(self.store, f"{place}/absent_label.txt", len(boxes))
        rgb, events = self._paired_by_name(place, shortest(len(boxes), present))
        n = len(rgb)
        boxes = boxes[:n]
        valid = positive(boxes, self.min_side)
        visible = valid if present is None else valid & (present[:n] != 0)
        return Annotation(boxes, valid, visible, FrameFiles(self.store, rgb, events, AuxRecipe("picture")))

    def _paired_by_name(self, place: str, rows: int) -> tuple[Listed, Listed]:
        """RGB pictures by position, each with the event picture of its name (in any picture format)."""
        rgb_folder, event_folder = f"{place}/vis_imgs", f"{place}/event_imgs"
        rgb_names = picture_names(self.store.listdir(rgb_folder))
        events = {_stem(name): name for name in picture_names(self.store.listdir(event_folder))}
        known = {_stem(name) for name in rgb_names}
        alone = [stem for stem in natural_order(events) if stem not in known]
        if alone and len(rgb_names) < rows:
            missing = f"{rgb_folder}/{alone[0]}.{rgb_names[0].rpartition('.')[2] if rgb_names else 'bmp'}"
            raise AnnotationError(f"{self.store.describe(missing)} is missing: only its event picture is there")
        rgb = listed_files(self.store, rgb_folder, rgb_names, rows)
        paired: list[str] = []
        for name in map(str, rgb.names):
            partner = events.get(_stem(name))
            if partner is None and self.reuse_missing_events and (paired or events):
                partner = paired[-1] if paired else next(iter(events.values()))
            paired.append(partner or name)
        return rgb, Listed.of(event_folder, paired)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


@DATASETS.register("VisEvent")
def build_visevent(source: Source) -> VisEventDataset:
    """The training sequences: those of trainlist.txt, or every folder where there is no such file."""
    return those_there(VisEventDataset(source.store("visevent")), source.name)
