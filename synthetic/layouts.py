"""The layouts of published data sets that `tracking/make_synthetic_data.py` offers.

Layouts that only tests need are in `tests/support/layouts.py`.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data import Mask, Modality
from lib.data.datasets import ALL_CHUNKS
from lib.data.lists import load_list
from lib.files import write_text
from synthetic.dataset import three_channels
from synthetic.forms import FORMS
from synthetic.layout import (
    LayoutWriter,
    WriteTask,
    extend_list,
    float_rows,
    in_one_step,
    integer_rows,
    lines,
    official,
    write_frames,
    write_raw,
    write_rgb,
)


class FlatLayout(LayoutWriter):
    """One folder per sequence below the root."""

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name

    def write(self, root: Path, task: WriteTask) -> None:
        in_one_step(root / task.name, lambda folder: self._fill(folder, task))

    @abstractmethod
    def _fill(self, folder: Path, task: WriteTask) -> None:
        """Write what belongs to one sequence into its new folder."""


def numbered_kinds(kinds: Sequence[str], title: bool = False) -> list[str]:
    """`person-1`, `bag-1`, `person-2`, ..."""
    seen: Counter[str] = Counter()
    names = []
    for kind in kinds:
        seen[kind] += 1
        names.append(f"{kind.title() if title else kind}-{seen[kind]}")
    return names


class SyntheticLayout(LayoutWriter):
    """The benchmark that comes with the project: LaSOT's files, sequences named after what the target is."""

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return numbered_kinds(kinds)

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name.split("-", 1)[0] / name

    def write(self, root: Path, task: WriteTask) -> None:
        in_one_step(self.mark(root, task.name, task.number, task.split), lambda folder: self._fill(folder, task))

    @staticmethod
    def _fill(folder: Path, task: WriteTask) -> None:
        truth = task.cameras.world.truth
        write_frames(folder / "img", task, "%08d.jpg", 1)
        (folder / "groundtruth.txt").write_text(integer_rows(task.boxes))
        (folder / "full_occlusion.txt").write_text(",".join(map(str, truth.covered.astype(int))) + "\n")
        (folder / "out_of_view.txt").write_text(",".join(map(str, truth.out_of_view.astype(int))) + "\n")
        (folder / "nlp.txt").write_text(task.sentence + "\n")


class LasotLayout(SyntheticLayout):
    """LaSOT under its published names."""

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return official(load_list(f"lasot_{split}"), len(kinds), f"LaSOT's {split} list")


class Got10kLayout(FlatLayout):
    """GOT-10k: one part per folder (`got10k/train`, ...); the test part has the first box only."""

    splits = ("train", "val", "test")

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return [f"GOT-10k_{split.title()}_{k + 1:06d}" for k in range(len(kinds))]

    def _fill(self, folder: Path, task: WriteTask) -> None:
        truth, config = task.cameras.world.truth, task.cameras.world.config
        write_frames(folder, task, "%08d.jpg", 1)
        meta = {
            "url": "none",
            "begin": "00:00:00",
            "end": "00:00:00",
            "anno_fps": "10Hz",
            "object_class": task.kind,
            "motion_class": "moving",
            "major_class": "object",
            "root_class": "synthetic",
            "motion_adverb": "smoothly",
            "resolution": f"({config.width}, {config.height})",
        }
        (folder / "meta_info.ini").write_text("[METAINFO]\n" + lines(f"{k}: {v}" for k, v in meta.items()))
        if task.split == "test":
            (folder / "groundtruth.txt").write_text(float_rows(task.boxes[:1], 4))
            return
        cover = np.where(truth.absent, 0, np.clip(np.round(truth.visible_fraction * 8), 1, 8)).astype(int)
        (folder / "groundtruth.txt").write_text(float_rows(task.boxes, 4))
        (folder / "absence.label").write_text(lines(truth.absent.astype(int)))
        (folder / "cover.label").write_text(lines(cover))
        (folder / "cut_by_image.label").write_text(lines((truth.inside < 0.99).astype(int)))

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:
        extend_list(root / "list.txt", names)


class TrackingNetLayout(LayoutWriter):
    """TrackingNet: training videos in turn over all chunks (few leave some empty); TEST has the first box only."""

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return [f"synthetic{split}{k:06d}_0" for k in range(len(kinds))]

    def _chunk(self, root: Path, number: int, split: str) -> Path:
        return root / ("TEST" if split == "test" else f"TRAIN_{number % len(ALL_CHUNKS)}")

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return self._chunk(root, number, split) / "anno" / f"{name}.txt"

    def write(self, root: Path, task: WriteTask) -> None:
        chunk = self._chunk(root, task.number, task.split)
        in_one_step(chunk / "frames" / task.name, lambda folder: write_frames(folder, task, "%d.jpg", 0))
        boxes = task.boxes[:1] if task.split == "test" else task.boxes
        write_text(self.mark(root, task.name, task.number, task.split), float_rows(boxes, 2))

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:
        for number in ALL_CHUNKS:
            for part in ("anno", "frames"):
                (self._chunk(root, number, split) / part).mkdir(parents=True, exist_ok=True)


class CocoLayout(LayoutWriter):
    """COCO 2017: the first frame of every world, all its objects annotated with boxes and polygons."""

    splits = ("train", "val")

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return [f"{k + 1:012d}" for k in range(len(kinds))]

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / "images" / f"{split}2017" / f"{name}.jpg"

    def write(self, root: Path, task: WriteTask) -> None:
        path = self.mark(root, task.name, task.number, task.split)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.part.jpg")
        write_rgb(part, task.cameras.world.render(0))
        part.replace(path)

    def summary(self, task: WriteTask) -> dict[str, Any]:
        config = task.cameras.world.config
        objects = []
        for figure in task.cameras.world.figures:
            outlines = [part[0] for part in figure.outlines(0.0)]
            points = np.concatenate(outlines)
            (x0, y0), (x1, y1) = (
                np.clip(p, 0, (config.width, config.height)) for p in (points.min(0), points.max(0) + 1)
            )
            if x1 - x0 >= 1 and y1 - y0 >= 1:
                polygons = [np.round(outline, 2).ravel().tolist() for outline in outlines]
                box = np.round([x0, y0, x1 - x0, y1 - y0], 2).tolist()
                objects.append({"kind": figure.kind, "bbox": box, "segmentation": polygons})
        return {"width": config.width, "height": config.height, "objects": objects}

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:
        categories = [{"id": k + 1, "name": n, "supercategory": "synthetic"} for k, n in enumerate(FORMS)]
        number_of = {c["name"]: c["id"] for c in categories}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for name, summary in zip(names, summaries, strict=True):
            size = {"width": summary["width"], "height": summary["height"]}
            images.append({"id": int(name), "file_name": f"{name}.jpg", **size})
            for found in summary["objects"]:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": int(name),
                        "category_id": number_of[found["kind"]],
                        "bbox": found["bbox"],
                        "area": round(found["bbox"][2] * found["bbox"][3], 2),
                        "iscrowd": 0,
                        "segmentation": found["segmentation"],
                    }
                )
        table = {"images": images, "annotations": annotations, "categories": categories}
        write_text(root / "annotations" / f"instances_{split}2017.json", json.dumps(table))


class YoutubeVosLayout(LayoutWriter):
    """YouTube-VOS: every fifth frame, the target's visible pixels as object 1; other objects are not annotated."""

    splits = ("train",)
    STEP = 5

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return [f"{k:010x}" for k in range(len(kinds))]

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / split / "Annotations" / name

    def write(self, root: Path, task: WriteTask) -> None:
        world, part = task.cameras.world, root / task.split
        frames = range(0, world.config.length, self.STEP)

        def pictures(folder: Path) -> None:
            for t in frames:
                write_rgb(folder / f"{t:05d}.jpg", world.render(t))

        def masks(folder: Path) -> None:
            for t in frames:
                write_raw(folder / f"{t:05d}.png", world.visible_mask(t).astype(np.uint8))

        in_one_step(part / "JPEGImages" / task.name, pictures)
        in_one_step(self.mark(root, task.name, task.number, task.split), masks)

    def summary(self, task: WriteTask) -> dict[str, Any]:
        frames = range(0, task.cameras.world.config.length, self.STEP)
        return {"category": task.kind, "frames": [f"{t:05d}" for t in frames]}

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:
        videos = {name: {"objects": {"1": summary}} for name, summary in zip(names, summaries, strict=True)}
        write_text(root / split / "meta.json", json.dumps({"videos": videos}))


class Tnl2kLayout(FlatLayout):
    """TNL2K: pictures by their sorted listing, a sentence in language.txt."""

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return [f"{kind}_synthetic_{k:04d}" for k, kind in enumerate(kinds)]

    def _fill(self, folder: Path, task: WriteTask) -> None:
        write_frames(folder / "imgs", task, "%05d.jpg", 1)
        (folder / "groundtruth.txt").write_text(integer_rows(task.boxes))
        (folder / "language.txt").write_text(task.sentence + "\n")


class VastTrackLayout(LayoutWriter):
    """VastTrack: `<Class>/<Class>-<n>`, a capital G in Groundtruth.txt; the test part has published names."""

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        if split == "test":
            return official(load_list("vasttrack_test"), len(kinds), "VastTrack's test list")
        return numbered_kinds(kinds, title=True)

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name.rpartition("-")[0] / name

    def write(self, root: Path, task: WriteTask) -> None:
        in_one_step(self.mark(root, task.name, task.number, task.split), lambda folder: self._fill(folder, task))

    @staticmethod
    def _fill(folder: Path, task: WriteTask) -> None:
        write_frames(folder / "imgs", task, "%05d.jpg", 1)
        (folder / "Groundtruth.txt").write_text(integer_rows(task.boxes))
        (folder / "nlp.txt").write_text(task.sentence + "\n")


class LasherLayout(FlatLayout):
    """LasHeR: `visible/v0000.jpg` and `infrared/i0000.jpg`, three equal box files, zeros where the target is absent."""

    modality = Modality.RGBT
    splits: tuple[str, ...] = ("train", "val", "test")

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        part = {"train": "train_881_sdstrack", "val": "val_97", "test": "test_official_245"}[split]
        return official(load_list("lasher_splits")[part], len(kinds), f"LasHeR's {split} list")

    def _fill(self, folder: Path, task: WriteTask) -> None:
        for part in ("visible", "infrared"):
            (folder / part).mkdir()
        for t in range(len(task.cameras.world)):
            write_rgb(folder / f"visible/v{t:04d}.jpg", task.cameras.world.render(t))
            write_rgb(folder / f"infrared/i{t:04d}.jpg", three_channels(task.aux(t)))
        for file in ("visible.txt", "infrared.txt", "init.txt"):
            (folder / file).write_text(integer_rows(task.boxes))


class DepthTrackLayout(FlatLayout):
    """DepthTrack: `color/00000001.jpg`, 16-bit `depth/00000001.png`, nan where the target is absent.

    The test part also has what the VOT toolkit wants: a file `sequence` in each folder, and list.txt.
    """

    modality = Modality.RGBD
    splits: tuple[str, ...] = ("train", "val", "test")

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        part = {"train": "train_146_used", "val": "val_used", "test": "test_50"}[split]
        return official(load_list("depthtrack_splits")[part], len(kinds), f"DepthTrack's {split} list")

    def _fill(self, folder: Path, task: WriteTask) -> None:
        world = task.cameras.world
        for part in ("color", "depth"):
            (folder / part).mkdir()
        for t in range(len(world)):
            write_rgb(folder / f"color/{t + 1:08d}.jpg", world.render(t))
            write_raw(folder / f"depth/{t + 1:08d}.png", task.aux(t))
        boxes = np.where(world.truth.absent[:, None], np.nan, task.boxes)
        (folder / "groundtruth.txt").write_text(float_rows(boxes, 2))
        if task.split == "test":
            keys = {
                "channel.default": "color",
                "channels.color": "color/%08d.jpg",
                "channels.depth": "depth/%08d.png",
                "format": "rgbd",
                "fps": "30",
                "name": task.name,
            }
            (folder / "sequence").write_text(lines(f"{k}={v}" for k, v in keys.items()))

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:
        if split == "test":
            extend_list(root / "list.txt", names)


class VotRgbdLayout(DepthTrackLayout):
    """VOT-RGBD2022: DepthTrack's files and `anchor.value`, the frames that runs start on."""

    splits: tuple[str, ...] = ("test",)
    between = 50

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        return [f"{kind}{k:03d}" for k, kind in enumerate(kinds, 1)]

    def _fill(self, folder: Path, task: WriteTask) -> None:
        super()._fill(folder, task)
        present = ~task.cameras.world.truth.absent & (task.boxes[:, 2:] > 0).all(1)
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

    def names(self, split: str, kinds: Sequence[str]) -> list[str]:
        if split == "test":
            return official(load_list("visevent_splits")["test_320"], len(kinds), "VisEvent's test list")
        return [f"dvSave-synthetic_{kind}_{k:04d}" for k, kind in enumerate(kinds)]

    def _fill(self, folder: Path, task: WriteTask) -> None:
        world = task.cameras.world
        for part in ("vis_imgs", "event_imgs"):
            (folder / part).mkdir()
        for t in range(len(world)):
            write_rgb(folder / f"vis_imgs/frame{t:04d}.bmp", world.render(t))
            write_rgb(folder / f"event_imgs/frame{t:04d}.bmp", task.aux(t))
        (folder / "groundtruth.txt").write_text(float_rows(task.boxes, 2))
        (folder / "absent_label.txt").write_text(lines((~world.truth.absent).astype(int)))

    def finish(self, root: Path, split: str, names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> None:
        extend_list(root / f"{split}list.txt", names)
