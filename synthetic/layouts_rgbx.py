"""Layouts of the RGB-X data sets: LasHeR (thermal), DepthTrack and VOT-RGBD2022 (depth), VisEvent (events)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Names
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data import Mask, Modality, three_channels
from lib.data.lists import load_list
from synthetic.layout import (
    LayoutWriter,
    Take,
    extend_list,
    float_rows,
    in_one_step,
    integer_rows,
    lines,
    official,
    write_raw,
    write_rgb,
)


class FlatLayout(LayoutWriter):
    """One folder per sequence below the root."""

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name

    def write(self, root: Path, take: Take) -> None:
        in_one_step(root / take.name, lambda folder: self._fill(folder, take))

    @abstractmethod
    def _fill(self, folder: Path, take: Take) -> None:
        """Write what belongs to one sequence into its new folder."""


class LasherLayout(FlatLayout):
    """LasHeR: `visible/v0000.jpg` and `infrared/i0000.jpg`, three equal box files, zeros where the target is absent."""

    modality = Modality.RGBT
    splits: tuple[str, ...] = ("train", "val", "test")

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        part = {"train": "train_881_sdstrack", "val": "val_97", "test": "test_official_245"}[split]
        return official(load_list("lasher_splits")[part], len(kinds), f"LasHeR's {split} list")

    def _fill(self, folder: Path, take: Take) -> None:
        for part in ("visible", "infrared"):
            (folder / part).mkdir()
        for t in range(len(take.studio.world)):
            write_rgb(folder / f"visible/v{t:04d}.jpg", take.studio.world.render(t))
            write_rgb(folder / f"infrared/i{t:04d}.jpg", three_channels(take.aux(t)))
        for file in ("visible.txt", "infrared.txt", "init.txt"):
            (folder / file).write_text(integer_rows(take.boxes))


class DepthTrackLayout(FlatLayout):
    """DepthTrack: `color/00000001.jpg`, 16-bit `depth/00000001.png`, nan where the target is absent.

    The test part also has what the VOT toolkit wants: a file `sequence` in each folder, and list.txt.
    """

    modality = Modality.RGBD
    splits: tuple[str, ...] = ("train", "val", "test")

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        part = {"train": "train_146_used", "val": "val_used", "test": "test_50"}[split]
        return official(load_list("depthtrack_splits")[part], len(kinds), f"DepthTrack's {split} list")

    def _fill(self, folder: Path, take: Take) -> None:
        world = take.studio.world
        for part in ("color", "depth"):
            (folder / part).mkdir()
        for t in range(len(world)):
            write_rgb(folder / f"color/{t + 1:08d}.jpg", world.render(t))
            write_raw(folder / f"depth/{t + 1:08d}.png", take.aux(t))
        boxes = np.where(world.truth.absent[:, None], np.nan, take.boxes)
        (folder / "groundtruth.txt").write_text(float_rows(boxes, 2))
        if take.split == "test":
            keys = {
                "channel.default": "color",
                "channels.color": "color/%08d.jpg",
                "channels.depth": "depth/%08d.png",
                "format": "rgbd",
                "fps": "30",
                "name": take.name,
            }
            (folder / "sequence").write_text(lines(f"{k}={v}" for k, v in keys.items()))

    def finish(self, root: Path, split: str, names: Names[str], summaries: Names[dict[str, Any]]) -> None:
        if split == "test":
            extend_list(root / "list.txt", names)


class VotRgbdLayout(DepthTrackLayout):
    """VOT-RGBD2022: DepthTrack's files and `anchor.value`, the frames that runs start on."""

    splits: tuple[str, ...] = ("test",)
    between = 50

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return [f"{kind}{k:03d}" for k, kind in enumerate(kinds, 1)]

    def _fill(self, folder: Path, take: Take) -> None:
        super()._fill(folder, take)
        present = ~take.studio.world.truth.absent & (take.boxes[:, 2:] > 0).all(1)
        (folder / "anchor.value").write_text(lines(anchors(present, self.between).tolist()))


def anchors(present: Mask, between: int) -> NDArray[np.int64]:
    """[N] 1 where a run starts forward, -1 backward, 0 elsewhere: `between` frames apart or, in a short sequence, a
    third of it; each on the next frame with a target, and each run goes the longer way, as in VOT2020.
    """
    count = len(present)
    values = np.zeros(count, dtype=np.int64)
    usable = np.flatnonzero(present)
    for wanted in {*range(0, count, max(1, min(between, count // 3))), count - 1}:
        frame = usable[np.abs(usable - wanted).argmin()]
        values[frame] = 1 if frame < count / 2 else -1
    return values


class VisEventLayout(FlatLayout):
    """VisEvent: `vis_imgs/frame0000.bmp`, `event_imgs/frame0000.bmp`, absent_label.txt with 1 for present."""

    modality = Modality.RGBE

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        if split == "test":
            return official(load_list("visevent_splits")["test_320"], len(kinds), "VisEvent's test list")
        return [f"dvSave-synthetic_{kind}_{k:04d}" for k, kind in enumerate(kinds)]

    def _fill(self, folder: Path, take: Take) -> None:
        world = take.studio.world
        for part in ("vis_imgs", "event_imgs"):
            (folder / part).mkdir()
        for t in range(len(world)):
            write_rgb(folder / f"vis_imgs/frame{t:04d}.bmp", world.render(t))
            write_rgb(folder / f"event_imgs/frame{t:04d}.bmp", take.aux(t))
        (folder / "groundtruth.txt").write_text(float_rows(take.boxes, 2))
        (folder / "absent_label.txt").write_text(lines((~world.truth.absent).astype(int)))

    def finish(self, root: Path, split: str, names: Names[str], summaries: Names[dict[str, Any]]) -> None:
        extend_list(root / f"{split}list.txt", names)
