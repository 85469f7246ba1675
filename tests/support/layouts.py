"""Layouts of data sets that only tests write: ImageNet VID and the RGB-T test sets besides LasHeR.

Importing this module registers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from lib.data import Boxes, Modality
from lib.data.lists import load_list
from synthetic import WRITERS
from synthetic.dataset import three_channels
from synthetic.layout import (
    LayoutWriter,
    WriteTask,
    in_one_step,
    integer_rows,
    lines,
    official,
    write_frames,
    write_rgb,
)
from synthetic.layouts import FlatLayout


class VidLayout(LayoutWriter):
    """ImageNet VID: one XML file per frame, without an object where the target is absent."""

    splits = ("train",)
    part = "VID/train/ILSVRC2015_VID_train_0000"

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return [f"ILSVRC2015_train_{k:08d}" for k in range(len(kinds))]

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / "Annotations" / self.part / name

    def write(self, root: Path, task: WriteTask) -> None:
        in_one_step(root / "Data" / self.part / task.name, lambda folder: write_frames(folder, task, "%06d.JPEG", 0))
        in_one_step(self.mark(root, task.name, task.number, task.split), lambda folder: self._fill(folder, task))

    @staticmethod
    def _fill(folder: Path, task: WriteTask) -> None:
        truth, config = task.cameras.world.truth, task.cameras.world.config
        for t, (x, y, w, h) in enumerate(np.round(task.boxes).astype(int).tolist()):
            target = ""
            if not truth.absent[t]:
                occluded = int(truth.visible_fraction[t] < 0.5)
                target = (
                    f"\t<object>\n\t\t<trackid>0</trackid>\n\t\t<name>{escape(task.kind)}</name>\n\t\t<bndbox>\n"
                    f"\t\t\t<xmax>{x + max(w, 1)}</xmax>\n\t\t\t<xmin>{x}</xmin>\n"
                    f"\t\t\t<ymax>{y + max(h, 1)}</ymax>\n\t\t\t<ymin>{y}</ymin>\n\t\t</bndbox>\n"
                    f"\t\t<occluded>{occluded}</occluded>\n\t\t<generated>0</generated>\n\t</object>\n"
                )
            text = (
                f"<annotation>\n\t<folder>{task.name}</folder>\n\t<filename>{t:06d}</filename>\n"
                f"\t<source>\n\t\t<database>ILSVRC_2015</database>\n\t</source>\n"
                f"\t<size>\n\t\t<width>{config.width}</width>\n\t\t<height>{config.height}</height>\n\t</size>\n"
                f"{target}</annotation>\n"
            )
            (folder / f"{t:06d}.xml").write_text(text)

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:
        (root / "cache.json").unlink(missing_ok=True)  # tracklets that a reader collected before these were there


class PairedLayout(FlatLayout):
    """Two folders of pictures numbered from 1 with the camera's letter behind the number: `00001v.jpg`, `00001i.jpg`.

    folders: of the RGB and the thermal pictures. ending: of the pictures. truth_files: with boxes, commas between.
    """

    modality = Modality.RGBT
    splits: tuple[str, ...] = ("test",)

    def __init__(self, title: str, sequences: Sequence[str], folders: tuple[str, str], ending: str) -> None:
        self.title, self.sequences, self.folders, self.ending = title, sequences, folders, ending
        self.truth_files: tuple[str, ...] = ("init.txt",)

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return official(self.sequences, len(kinds), f"{self.title}'s list")

    def _fill(self, folder: Path, task: WriteTask) -> None:
        rgb, thermal = (folder / name for name in self.folders)
        rgb.mkdir()
        thermal.mkdir()
        for t in range(len(task.cameras.world)):
            write_rgb(rgb / f"{t + 1:05d}v{self.ending}", task.cameras.world.render(t))
            write_rgb(thermal / f"{t + 1:05d}i{self.ending}", three_channels(task.aux(t)))
        self.write_truth(folder, task.boxes)

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


for _name, _layout in {
    "vid": VidLayout(),
    "rgbt234": Rgbt234Layout(),
    "rgbt210": Rgbt210Layout(),
    "gtot": GtotLayout(),
}.items():
    WRITERS.register(_name)(_layout)
