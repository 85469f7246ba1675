"""LaSOT (Fan et al., CVPR 2019): 1120 training and 280 test sequences of 70 classes; also its extension subset."""

from __future__ import annotations

from collections.abc import Sequence as Names

from lib.data.datasets.base import (
    Annotation,
    StoredDataset,
    first_existing,
    locate_root,
    positive,
    read_boxes,
    read_flags,
    shortest,
)
from lib.data.datasets.flat import those_there
from lib.data.datasets.frames import FrameFiles, numbered_files
from lib.data.datasets.registry import DATASETS, Source
from lib.data.lists import load_list
from lib.data.store import Store
from lib.layouts import layout_of


def class_of(name: str) -> str:
    """`airplane-10` -> `airplane`."""
    return name.split("-", 1)[0]


class LasotDataset(StoredDataset):
    """`<class>/<class>-<n>/img/00000001.jpg`, boxes of w, h > 0 valid, visible when neither occluded nor out of view.

    names: sequences; None takes all that the store holds.
    """

    def __init__(self, store: Store, names: Names[str] | None = None, name: str = "lasot") -> None:
        known = None if names is None else {class_of(n) for n in names} | set(names)

        def looks_right(root: Store) -> bool:
            children = root.listdir("")
            return not known.isdisjoint(children) if known is not None else bool(_sequences_below(root, children[:4]))

        root = locate_root(store, looks_right, name, layout_of("lasot").tree)
        super().__init__(root, _sequences_below(root, root.listdir("")) if names is None else names, name)

    def _read(self, index: int) -> Annotation:
        name = self.names[index]
        class_name = class_of(name)
        places = (f"{class_name}/{name}", name, f"{class_name}/{name}/{name}", f"{name}/{name}")
        boxes_key = first_existing(self.store, [f"{place}/groundtruth.txt" for place in places])
        folder = boxes_key.rpartition("/")[0]
        boxes = read_boxes(self.store, boxes_key)
        rows = len(boxes)
        occluded = read_flags(self.store, f"{folder}/full_occlusion.txt", rows)
        outside = read_flags(self.store, f"{folder}/out_of_view.txt", rows)
        rows = shortest(rows, occluded, outside)
        files = numbered_files(self.store, f"{folder}/img", "%08d.jpg", 1, rows)
        n = len(files)
        boxes = boxes[:n]
        valid = positive(boxes)
        visible = valid.copy()
        for flags in (occluded, outside):
            if flags is not None:
                visible &= flags[:n] == 0
        return Annotation(boxes, valid, visible, FrameFiles(self.store, files), object_class=class_name)


def _sequences_below(root: Store, children: Names[str]) -> list[str]:
    found: list[str] = []
    for child in children:
        try:
            found += [name for name in root.listdir(child) if class_of(name) == child and name != child]
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


@DATASETS.register("LASOT")
def build_lasot(source: Source) -> LasotDataset:
    """The 1120 training sequences; of a partial copy those that are there."""
    listed = LasotDataset(source.store("lasot"), load_list("lasot_train"))
    top = listed.store.listdir("")
    return those_there(listed, source.name, there=[*_sequences_below(listed.store, top), *top])
