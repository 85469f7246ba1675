"""A tiny RGB-D data set in the VOT toolkit's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIZE_HW = (40, 60)
SMALL = {"a": [1, 0, 0, 0, -1, 0, 0, -1], "b": [1, 0, 0, -1, 0]}
"""Sequence -> its anchors, one number per frame."""


def write_sequence(folder: Path, anchors: Sequence[int], absent: Sequence[int] = ()) -> None:
    """Pictures of changing brightness, a box that moves one pixel per frame, `nan` on the frames `absent`."""
    for part in ("color", "depth"):
        (folder / part).mkdir(parents=True)
    for i in range(len(anchors)):
        cv2.imwrite(str(folder / f"color/{i + 1:08d}.jpg"), np.full((*SIZE_HW, 3), 60 + 5 * i, np.uint8))
        cv2.imwrite(str(folder / f"depth/{i + 1:08d}.png"), np.full(SIZE_HW, 1000 + i, np.uint16))
    rows = ["nan,nan,nan,nan" if i in absent else f"{5 + i}.25,8,12,10" for i in range(len(anchors))]
    (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
    (folder / "anchor.value").write_text("\n".join(map(str, anchors)) + "\n")


def write_tree(root: Path) -> Path:
    """The sequences of `SMALL` with `list.txt`."""
    for name, anchors in SMALL.items():
        write_sequence(root / name, anchors)
    (root / "list.txt").write_text("".join(f"{name}\n" for name in SMALL))
    return root
