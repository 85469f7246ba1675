"""GOT-10k (Huang, Zhao and Huang, TPAMI 2021): 9335 training, 180 validation, 180 test sequences at 10 fps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lib.data.datasets.base import Annotation, first_box_only, first_existing, read_names, read_text
from lib.data.datasets.folders import FolderDataset, Labels, Pictures
from lib.data.store import Store
from lib.data.types import Boxes, Mask

META_KEYS = ("object_class", "motion_class", "major_class", "root_class", "motion_adverb")
_FULL_TRAIN = 9335


class Got10kDataset(FolderDataset):
    """`<seq>/00000001.jpg`; visible when not absent and the cover label exceeds 0.

    Args:
        store: Folder with the sequences and list.txt; `train`, `val` and `test` are also found one level below.
        names: Sequences, or 0-based positions in list.txt as splits publish them; None takes list.txt, or without it
            the sorted folders.
        part: Name of the folder that may be one level below.
        first_box_only: For the test part, which publishes one row; the other boxes are NaN, one per picture.
    """

    key = "got10k"
    pictures = Pictures(("",), "%08d.jpg")
    label_files = ("absence.label", "cover.label")
    list_file = "list.txt"

    def __init__(
        self,
        store: Store,
        names: Sequence[str] | Sequence[int] | None = None,
        name: str = "",
        *,
        part: str = "train",
        first_box_only: bool = False,
    ) -> None:
        self.below = (part,)
        self.first_box_only = first_box_only
        positions = names is not None and len(names) > 0 and isinstance(names[0], int)
        super().__init__(store, None if positions else cast("Sequence[str] | None", names), name)
        if positions:
            self.chosen_by_name = True
            listed = read_names(self.store, self.list_file) if self.store.exists(self.list_file) else []
            if len(listed) < _FULL_TRAIN:  # a partial copy, whose positions are not those of the published list
                listed = [f"GOT-10k_Train_{number:06d}" for number in range(1, _FULL_TRAIN + 1)]
            self.names = [listed[position] for position in cast(Sequence[int], names)]

    def looks_right(self, root: Store, names: Sequence[str] | None) -> bool:
        return root.exists(self.list_file) or super().looks_right(root, names)

    def object_meta(self, index: int) -> dict[str, str | None]:
        """Object class, motion class, major and root class, and motion adverb of a sequence, from `meta_info.ini`.

        Args:
            index: Number of the sequence.

        Returns:
            One entry for each of `META_KEYS`; None if the file does not have it.
        """
        folder = first_existing(self.store, self.truth_keys(self.names[index])).rpartition("/")[0]
        try:
            text = read_text(self.store, f"{folder}/meta_info.ini")
        except FileNotFoundError:
            return dict.fromkeys(META_KEYS)
        values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        return {key: values.get(key) or None for key in META_KEYS}

    def labels(self, boxes: Boxes, valid: Mask, flags: list[NDArray[np.float64] | None]) -> Labels:
        absent, cover = flags
        visible = valid.copy()
        if absent is not None:
            visible &= absent == 0
        if cover is not None:
            visible &= cover > 0
        return Labels(visible, None, None if cover is None else cover / 8)

    def class_of(self, name: str) -> str | None:
        return self.object_meta(self.position(name))["object_class"]

    def _read(self, index: int) -> Annotation:
        if not self.first_box_only:
            return super()._read(index)
        key = first_existing(self.store, self.truth_keys(self.names[index]))
        folder, pictures = key.rpartition("/")[0], self.pictures
        return first_box_only(self.store, folder, pictures.pattern, pictures.first, self.read_truth(key))
