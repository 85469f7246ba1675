"""Layouts of the RGB data sets: LaSOT, GOT-10k, TrackingNet, COCO, ImageNet VID, TNL2K, VastTrack."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence as Names
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from lib.data.datasets import ALL_CHUNKS
from lib.data.lists import load_list
from lib.files import write_text
from synthetic.forms import FORMS
from synthetic.layout import (
    LayoutWriter,
    Take,
    extend_list,
    float_rows,
    in_one_step,
    integer_rows,
    lines,
    official,
    write_frames,
    write_rgb,
)


def numbered_kinds(kinds: Names[str], title: bool = False) -> list[str]:
    """`person-1`, `bag-1`, `person-2`, ..."""
    seen: Counter[str] = Counter()
    names = []
    for kind in kinds:
        seen[kind] += 1
        names.append(f"{kind.title() if title else kind}-{seen[kind]}")
    return names


class SyntheticLayout(LayoutWriter):
    """The benchmark that comes with the project: LaSOT's files, sequences named after what the target is."""

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return numbered_kinds(kinds)

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name.split("-", 1)[0] / name

    def write(self, root: Path, take: Take) -> None:
        in_one_step(self.mark(root, take.name, take.number, take.split), lambda folder: self._fill(folder, take))

    @staticmethod
    def _fill(folder: Path, take: Take) -> None:
        truth = take.studio.world.truth
        write_frames(folder / "img", take, "%08d.jpg", 1)
        (folder / "groundtruth.txt").write_text(integer_rows(take.boxes))
        (folder / "full_occlusion.txt").write_text(",".join(map(str, truth.covered.astype(int))) + "\n")
        (folder / "out_of_view.txt").write_text(",".join(map(str, truth.out_of_view.astype(int))) + "\n")
        (folder / "nlp.txt").write_text(take.sentence + "\n")


class LasotLayout(SyntheticLayout):
    """LaSOT under its published names."""

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return official(load_list(f"lasot_{split}"), len(kinds), f"LaSOT's {split} list")


class Got10kLayout(LayoutWriter):
    """GOT-10k: one part per folder (`got10k/train`, ...); the test part has the first box only."""

    splits = ("train", "val", "test")

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return [f"GOT-10k_{split.title()}_{k + 1:06d}" for k in range(len(kinds))]

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name

    def write(self, root: Path, take: Take) -> None:
        in_one_step(root / take.name, lambda folder: self._fill(folder, take))

    @staticmethod
    def _fill(folder: Path, take: Take) -> None:
        truth, config = take.studio.world.truth, take.studio.world.config
        write_frames(folder, take, "%08d.jpg", 1)
        meta = {
            "url": "none",
            "begin": "00:00:00",
            "end": "00:00:00",
            "anno_fps": "10Hz",
            "object_class": take.kind,
            "motion_class": "moving",
            "major_class": "object",
            "root_class": "synthetic",
            "motion_adverb": "smoothly",
            "resolution": f"({config.width}, {config.height})",
        }
        (folder / "meta_info.ini").write_text("[METAINFO]\n" + lines(f"{k}: {v}" for k, v in meta.items()))
        if take.split == "test":
            (folder / "groundtruth.txt").write_text(float_rows(take.boxes[:1], 4))
            return
        cover = np.where(truth.absent, 0, np.clip(np.round(truth.visible_fraction * 8), 1, 8)).astype(int)
        (folder / "groundtruth.txt").write_text(float_rows(take.boxes, 4))
        (folder / "absence.label").write_text(lines(truth.absent.astype(int)))
        (folder / "cover.label").write_text(lines(cover))
        (folder / "cut_by_image.label").write_text(lines((truth.inside < 0.99).astype(int)))

    def finish(self, root: Path, split: str, names: Names[str], summaries: Names[dict[str, Any]]) -> None:
        extend_list(root / "list.txt", names)


class TrackingNetLayout(LayoutWriter):
    """TrackingNet: training videos in turn over all chunks (few leave some empty); TEST has the first box only."""

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return [f"synthetic{split}{k:06d}_0" for k in range(len(kinds))]

    def _chunk(self, root: Path, number: int, split: str) -> Path:
        return root / ("TEST" if split == "test" else f"TRAIN_{number % len(ALL_CHUNKS)}")

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return self._chunk(root, number, split) / "anno" / f"{name}.txt"

    def write(self, root: Path, take: Take) -> None:
        chunk = self._chunk(root, take.number, take.split)
        in_one_step(chunk / "frames" / take.name, lambda folder: write_frames(folder, take, "%d.jpg", 0))
        boxes = take.boxes[:1] if take.split == "test" else take.boxes
        write_text(self.mark(root, take.name, take.number, take.split), float_rows(boxes, 2))

    def finish(self, root: Path, split: str, names: Names[str], summaries: Names[dict[str, Any]]) -> None:
        for number in ALL_CHUNKS:
            for part in ("anno", "frames"):
                (self._chunk(root, number, split) / part).mkdir(parents=True, exist_ok=True)


class CocoLayout(LayoutWriter):
    """COCO 2017: the first frame of every world, all its objects annotated with boxes and polygons."""

    splits = ("train", "val")

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return [f"{k + 1:012d}" for k in range(len(kinds))]

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / "images" / f"{split}2017" / f"{name}.jpg"

    def write(self, root: Path, take: Take) -> None:
        path = self.mark(root, take.name, take.number, take.split)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.part.jpg")
        write_rgb(part, take.studio.world.render(0))
        part.replace(path)

    def summary(self, take: Take) -> dict[str, Any]:
        config = take.studio.world.config
        objects = []
        for figure in take.studio.world.figures:
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

    def finish(self, root: Path, split: str, names: Names[str], summaries: Names[dict[str, Any]]) -> None:
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


class VidLayout(LayoutWriter):
    """ImageNet VID: one XML file per frame, without an object where the target is absent."""

    splits = ("train",)
    part = "VID/train/ILSVRC2015_VID_train_0000"

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return [f"ILSVRC2015_train_{k:08d}" for k in range(len(kinds))]

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / "Annotations" / self.part / name

    def write(self, root: Path, take: Take) -> None:
        in_one_step(root / "Data" / self.part / take.name, lambda folder: write_frames(folder, take, "%06d.JPEG", 0))
        in_one_step(self.mark(root, take.name, take.number, take.split), lambda folder: self._fill(folder, take))

    @staticmethod
    def _fill(folder: Path, take: Take) -> None:
        truth, config = take.studio.world.truth, take.studio.world.config
        for t, (x, y, w, h) in enumerate(np.round(take.boxes).astype(int).tolist()):
            target = ""
            if not truth.absent[t]:
                occluded = int(truth.visible_fraction[t] < 0.5)
                target = (
                    f"\t<object>\n\t\t<trackid>0</trackid>\n\t\t<name>{escape(take.kind)}</name>\n\t\t<bndbox>\n"
                    f"\t\t\t<xmax>{x + max(w, 1)}</xmax>\n\t\t\t<xmin>{x}</xmin>\n"
                    f"\t\t\t<ymax>{y + max(h, 1)}</ymax>\n\t\t\t<ymin>{y}</ymin>\n\t\t</bndbox>\n"
                    f"\t\t<occluded>{occluded}</occluded>\n\t\t<generated>0</generated>\n\t</object>\n"
                )
            text = (
                f"<annotation>\n\t<folder>{take.name}</folder>\n\t<filename>{t:06d}</filename>\n"
                f"\t<source>\n\t\t<database>ILSVRC_2015</database>\n\t</source>\n"
                f"\t<size>\n\t\t<width>{config.width}</width>\n\t\t<height>{config.height}</height>\n\t</size>\n"
                f"{target}</annotation>\n"
            )
            (folder / f"{t:06d}.xml").write_text(text)

    def finish(self, root: Path, split: str, names: Names[str], summaries: Names[dict[str, Any]]) -> None:
        (root / "cache.json").unlink(missing_ok=True)  # tracklets that a reader collected before these were there


class Tnl2kLayout(LayoutWriter):
    """TNL2K: pictures by their sorted listing, a sentence in language.txt."""

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        return [f"{kind}_synthetic_{k:04d}" for k, kind in enumerate(kinds)]

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name

    def write(self, root: Path, take: Take) -> None:
        in_one_step(root / take.name, lambda folder: self._fill(folder, take))

    @staticmethod
    def _fill(folder: Path, take: Take) -> None:
        write_frames(folder / "imgs", take, "%05d.jpg", 1)
        (folder / "groundtruth.txt").write_text(integer_rows(take.boxes))
        (folder / "language.txt").write_text(take.sentence + "\n")


class VastTrackLayout(LayoutWriter):
    """VastTrack: `<Class>/<Class>-<n>`, a capital G in Groundtruth.txt; the test part has published names."""

    def names(self, split: str, kinds: Names[str]) -> list[str]:
        if split == "test":
            return official(load_list("vasttrack_test"), len(kinds), "VastTrack's test list")
        return numbered_kinds(kinds, title=True)

    def mark(self, root: Path, name: str, number: int, split: str) -> Path:
        return root / name.rpartition("-")[0] / name

    def write(self, root: Path, take: Take) -> None:
        in_one_step(self.mark(root, take.name, take.number, take.split), lambda folder: self._fill(folder, take))

    @staticmethod
    def _fill(folder: Path, take: Take) -> None:
        write_frames(folder / "imgs", take, "%05d.jpg", 1)
        (folder / "Groundtruth.txt").write_text(integer_rows(take.boxes))
        (folder / "nlp.txt").write_text(take.sentence + "\n")
