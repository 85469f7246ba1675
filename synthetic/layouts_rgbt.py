"""Layouts of the RGB-T test sets beside LasHeR: RGBT234, RGBT210, GTOT."""

from __future__ import annotations

from collections.abc import Sequence as Names
from pathlib import Path

import numpy as np

from lib.data import Boxes, Modality, three_channels
from lib.data.lists import load_list
from synthetic.layout import Take, integer_rows, lines, official, write_rgb
from synthetic.layouts_rgbx import FlatLayout


class PairedLayout(FlatLayout):
    """Two folders of pictures numbered from 1 with the camera's letter behind the number: `00001v.jpg`, `00001i.jpg`.

    folders: of the RGB and the thermal pictures. ending: of the pictures. truth_files: with boxes, commas between.
    """

    modality = Modality.RGBT
    splits: tuple[str, ...] = ("test",)

    def __init__(self, title: str, sequences: Names[str], folders: tuple[str, str], ending: str) -> None:
        self.title, self.sequences, self.folders, self.ending = title, sequences, folders, ending
        self.truth_files: tuple[str, ...] = ("init.txt",)

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return official(self.sequences, len(kinds), f"{self.title}'s list")

    def _fill(self, folder: Path, take: Take) -> None:
        rgb, thermal = (folder / name for name in self.folders)
        rgb.mkdir()
        thermal.mkdir()
        for t in range(len(take.studio.world)):
            write_rgb(rgb / f"{t + 1:05d}v{self.ending}", take.studio.world.render(t))
            write_rgb(thermal / f"{t + 1:05d}i{self.ending}", three_channels(take.aux(t)))
        self.write_truth(folder, take.boxes)

    def write_truth(self, folder: Path, boxes: Boxes) -> None:
        """The annotation files of one sequence."""
        for file in self.truth_files:
            (folder / file).write_text(integer_rows(boxes))


class Rgbt234Layout(PairedLayout):
    """RGBT234: a ground truth per camera, here the same one."""

    def __init__(self) -> None:
        super().__init__("RGBT234", list(load_list("rgbt234_attributes")["sequences"]), ("visible", "infrared"), ".jpg")
        self.truth_files = ("visible.txt", "infrared.txt", "init.txt")


class Rgbt210Layout(PairedLayout):
    """RGBT210: one ground truth, init.txt."""

    def __init__(self) -> None:
        super().__init__("RGBT210", load_list("rgbt210_sequences"), ("visible", "infrared"), ".jpg")


class GtotLayout(PairedLayout):
    """GTOT: corners `x1 y1 x2 y2` with blanks between, a file per camera; init.txt with tabs."""

    def __init__(self) -> None:
        super().__init__("GTOT", load_list("gtot_sequences"), ("v", "i"), ".png")

    def write_truth(self, folder: Path, boxes: Boxes) -> None:
        whole = np.round(boxes).astype(int)
        corners = np.concatenate([whole[:, :2], whole[:, :2] + whole[:, 2:]], axis=1)
        truth = lines(" ".join(map(str, row)) for row in corners.tolist())
        for camera in ("v", "i"):
            (folder / f"groundTruth_{camera}.txt").write_text(truth)
        (folder / "init.txt").write_text(lines("\t".join(map(str, row)) for row in whole.tolist()))
