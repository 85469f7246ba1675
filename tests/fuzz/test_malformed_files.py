"""Malformed files of sixteen kinds: each is read, or refused in a sentence with its name, in seconds; nothing runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import string
import subprocess
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors

from lib.bench import read_boxes, read_cvat, read_label_studio, read_labelme, read_manifest, read_via
from lib.config import Config, from_tree, read_tree
from lib.data import StoredFlow, decode_image, open_store
from lib.data.datasets import CocoDataset, Got10kDataset, LasotDataset, YoutubeVosDataset, build_dataset, read_tracks
from lib.models import read_checkpoint
from lib.paths import Paths

SEED = int(os.environ.get("FUZZ_SEED", "1"))
FILES_PER_KIND = 120
SECONDS_PER_FILE = 10.0
YAML_PARTS = (
    "TRAIN:", "  LR: 0.1", "  EPOCH: !!timestamp x", "&a [*a]", "*b", "<<: *c", "!!bool maybe", "? [a]", "BASE: [1]",
    "!!python/name:os.system", "BASE: a.yaml", "MIXIN: {}", "DATA: {SEARCH: {SIZE: -1}}", "TEST: text", "---",
    "%YAML 9", "\0", "{", "- ]", "\t", "'", "TRAIN: {EPOCH: 1e400}", "MODEL: {BACKBONE: {TYPE: 3}}",
    "A: &x [1, 1]\nB: &y [*x, *x]\nC: [*y, *y]",
)  # fmt: skip
JSON_PARTS = ("{", "}", "[", "]", '"dog-1"', ":", ",", '"a"', "null", "1e999", "NaN", "\ufeff", "\\u0000", "[" * 3000)
TEXT_PARTS = (
    "1,2,3,4",
    "\n",
    "nan",
    "inf",
    "1,,2",
    "1_0",
    "\0",
    "١",
    "1e999",
    "\t",
    " ",
    "x",
    ";",
    "-",
    "\r",
    "1 2 3 4 5",
)
NAME_PARTS = ("dog-1", "\n", "../x", "/etc", "\0", "\\", " ", "ü", "dog-2", "\ufeff", "." * 300)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A file as a broken download or disk leaves it: cut, with bytes changed, swapped, added, or something else."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = rng.randrange(max(1, len(changed)))
        act = rng.randrange(7)
        if act == 0:
            del changed[at:]
        elif act == 1 and changed:
            changed[at] = rng.randrange(256)
        elif act == 2:
            changed[at : at + 4] = rng.choice((b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0" * 4))
        elif act == 3:
            del changed[at : at + rng.randrange(1, 64)]
        elif act == 4:
            changed[at:at] = rng.randbytes(rng.randrange(1, 64))
        elif act == 5:
            changed[:at] = rng.choice(
                (b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n", b"\xef\xbb\xbf")
            )
        else:
            changed[at : at + 200] = changed[:200]
    return bytes(changed)


def text_of(rng: random.Random, parts: tuple[str, ...]) -> bytes:
    """A text of the pieces that readers stumble over, now and then in another encoding or with noise."""
    words = [
        rng.choice(parts) if rng.random() < 0.8 else rng.choice(string.printable) for _ in range(rng.randrange(12))
    ]
    text = rng.choice(("", "\n", " ")).join(words)
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-16")))


class Attack:
    """Asks whoever unpickles it to leave a mark."""

    def __init__(self, mark: Path, kind: int) -> None:
        calls = ((os.system, f"touch {mark}"), (exec, f"open({str(mark)!r}, 'w')"), (open, str(mark), "w"))
        self.call, *self.arguments = (*calls, (subprocess.getoutput, f"touch {mark}"), (os.mkdir, str(mark)))[kind]

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call, tuple(self.arguments)


def checkpoint(rng: random.Random, mark: Path) -> bytes:
    content: object = {"net": {"w": torch.ones(4, 4)}, "epoch": 3}
    if rng.random() < 0.3:
        content = {"net": {"w": torch.ones(2)}, "stats": Attack(mark, rng.randrange(5))}
    elif rng.random() < 0.2:
        content = rng.choice([[1], {"net": 3}, {"net": {"w": "text"}}, {1: torch.ones(1)}, None])
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=rng.random() < 0.5)
    data = buffer.getvalue() if rng.random() < 0.9 else pickle.dumps(content, protocol=rng.randrange(6))
    return data if rng.random() < 0.3 else damaged(rng, data)


def arrays(rng: random.Random) -> bytes:
    values = [np.ones((2, 3)), np.array(["text"]), np.array([{}], dtype=object), np.float32(3), np.ones((1, 1, 1, 1))]
    names = ("cls", "Transformer/posembed_input/pos_embedding", "embedding/kernel", "embedding/bias",
             "Transformer/encoder_norm/scale", "Transformer/encoder_norm/bias")  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, **{name: rng.choice(values) for name in names if rng.random() < 0.9})
    return buffer.getvalue() if rng.random() < 0.5 else damaged(rng, buffer.getvalue())


def archive(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        file.writestr("list.txt", "dog-1\n")
        file.writestr("a/groundtruth.txt", "1,2,3,4\n" * 50)
    return damaged(rng, buffer.getvalue())


def attributes(rng: random.Random, mark: Path) -> bytes:
    plain = json.dumps({"dog-1": ["fast motion", "scale variation"]}).encode()
    return damaged(rng, plain) if rng.random() < 0.3 else text_of(rng, JSON_PARTS)


def picture(rng: random.Random) -> bytes:
    pixels = np.frombuffer(rng.randbytes(40 * 30 * 3), np.uint8).reshape(30, 40, 3)
    return damaged(rng, cv2.imencode(rng.choice((".jpg", ".png")), pixels)[1].tobytes())


def read_attributes(path: Path) -> None:
    """Open a folder in LaSOT's layout with the malformed file at its root."""
    lasot(path.parent, b"1,2,3,4\n")


def read_annotation(path: Path) -> None:
    """Read the malformed file as the ground truth of a sequence of LaSOT."""
    lasot(path.parent / "lasot", path.read_bytes())


def lasot(root: Path, truth: bytes) -> None:
    inner = root / "dog" / "dog-1"
    (inner / "img").mkdir(parents=True)
    (inner / "groundtruth.txt").write_bytes(truth)
    (inner / "full_occlusion.txt").write_text("0")
    (inner / "out_of_view.txt").write_text("0")
    (inner / "img" / "00000001.jpg").write_bytes(b"")
    _ = LasotDataset(open_store(root), ["dog-1"])[0]


def read_list(path: Path) -> None:
    """Open a folder in GOT-10k's layout with the malformed file as the list of its sequences."""
    inner = path.parent / "dog-1"
    inner.mkdir()
    (inner / "groundtruth.txt").write_text("1,2,3,4\n")
    (inner / "00000001.jpg").write_bytes(b"")
    data = Got10kDataset(open_store(path.parent))
    for index in range(len(data)):
        try:
            _ = data[index]
        except FileNotFoundError as error:  # of a sequence that is listed and not there
            if data.names[index] not in str(error):
                raise


def read_zip(path: Path) -> None:
    store = open_store(path)
    for name in ("list.txt", "a/groundtruth.txt"):
        store.read(name)
    store.listdir("")


def written(content: object) -> Callable[[random.Random, Path], bytes]:
    """Damages a JSON file: its bytes, or a part of what it says."""

    def changed(rng: random.Random, value: Any) -> Any:
        if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
            return rng.choice((None, [], {}, "x", -1, 1e999, float("nan"), 10**400, [[1]], True, {"a": 1}))
        copied = value.copy()
        key = rng.choice([*(copied if isinstance(copied, dict) else range(len(copied)))])
        copied[key] = changed(rng, copied[key])
        return copied

    def make(rng: random.Random, mark: Path) -> bytes:
        if rng.random() < 0.7:
            return json.dumps(changed(rng, content)).encode()
        return damaged(rng, json.dumps(content).encode()) if rng.random() < 0.7 else text_of(rng, JSON_PARTS)

    return make


COCO = {
    "images": [{"id": 5, "file_name": "5.jpg", "height": 30, "width": 40}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 2, "bbox": [4, 6, 20, 18], "segmentation": [[4, 6, 24, 6, 24, 24]]}
    ],
    "categories": [{"id": 2, "name": "cat"}],
}
MASKS = {"videos": {"abc": {"objects": {"1": {"category": "cat", "frames": ["00000"]}}}}}
CROPS = {"a": {"00": {"000000": [10, 10, 70, 50], "000003": [5, 5, 5, 20]}}}
LABELS = {
    "a": {"00": {"0001": [1, 2, 3, 4, 1, 1, 0, 0, 1], "meta": {"bbox_picked_freq": 1.0, "corner_bbox_freq": 1.0}}}
}


def read_coco(path: Path) -> None:
    """Read the malformed file as COCO's, with the masks of its objects."""
    (path.parent / "annotations").mkdir()
    path.rename(path.parent / "annotations/instances_train2017.json")
    for video in CocoDataset(open_store(path.parent), masks=True):
        video.masks([0])


def read_youtube_vos(path: Path) -> None:
    """Read the malformed file as the list of objects of YouTube-VOS."""
    picture, mask = np.full((6, 8, 3), 90, np.uint8), np.ones((6, 8), np.uint8)
    for folder, pixels, ending in (("JPEGImages", picture, ".jpg"), ("Annotations", mask, ".png")):
        (path.parent / folder / "abc").mkdir(parents=True)
        cv2.imwrite(str(path.parent / folder / f"abc/00000{ending}"), pixels)
    data = YoutubeVosDataset(open_store(path.parent))
    for index in range(len(data)):
        with suppress(FileNotFoundError):  # of a frame that is listed and not there
            data[index].masks([0])


def read_crops(path: Path) -> None:
    """Read the malformed file as the list of PySOT's crops, of which one is there."""
    (path.parent / "a").mkdir()
    (path.parent / "a/000000.00.x.jpg").write_bytes(b"")
    _ = build_dataset(f"PYSOT511:{path}", Paths(*[path.parent] * 4))


TABLES = (
    "frame,x1,y1,x2,y2,label\n1,1,2,3,4,cat\n2,,,,,cat\n",
    "# left top width height\n1.0e0 2 3 4\n",
    "1 1 2 3 4\n2 1 2 3 4\n",
    'filename;x;y;w;h\n"1.jpg";1,5;2;3;4\n',
)
SHAPE = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}
VIA = {"a": {"filename": "a.jpg", "regions": [{"shape_attributes": SHAPE, "region_attributes": {"kind": "cat"}}]}}
KEY = {"frame": 1, "enabled": True, "rotation": 0, "x": 1, "y": 2, "width": 3, "height": 4}
LABEL_STUDIO = [{"annotations": [{"result": [{"value": {"sequence": [KEY, KEY | {"frame": 3}], "labels": ["cat"]}}]}]}]
LABELME = {"imagePath": "a.jpg", "shapes": [{"label": "cat", "points": [[1, 2], [3, 4]], "shape_type": "circle"}]}
CVAT = (
    b'<annotations><track label="cat" id="0"><box frame="0" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    b'<polygon frame="2" points="1,2;3,4;5,6"/></track><image name="a"><box label="x" xtl="1"/></image></annotations>'
)


def read_own(path: Path) -> None:
    """Read the malformed file as the boxes of two pictures of a user's own."""
    (path.parent / "dog-1").mkdir()
    for name in ("1.jpg", "2.jpg"):
        cv2.imwrite(str(path.parent / "dog-1" / name), np.full((6, 8, 3), 90, np.uint8))
    _ = build_dataset(f"FOLDER:{path.parent}", Paths(*[path.parent] * 4))[0]


def flow_file(rng: random.Random, mark: Path) -> bytes:
    """A damaged flow, with a header as numpy writes it."""
    buffer = io.BytesIO()
    shape = rng.choice([(6, 8, 2), (6, 8), (8, 6, 2)])
    np.save(buffer, np.zeros(shape, rng.choice(["f4", "f8", "c8", "U3", "i2", "f4,f4"])))
    data = buffer.getvalue()
    return data.replace(b"(6, 8", b"(9" + b"9" * rng.randrange(9)) if rng.random() < 0.3 else damaged(rng, data)


KINDS: dict[str, tuple[str, Callable[[random.Random, Path], bytes], Callable[[Path], object]]] = {
    "yaml": ("a.yaml", lambda rng, _: text_of(rng, YAML_PARTS), lambda path: from_tree(Config, read_tree(path))),
    "checkpoint": ("a.pt", checkpoint, read_checkpoint),
    "safetensors": (
        "a.safetensors",
        lambda rng, _: damaged(rng, save_safetensors({"w": torch.ones(3, 3), "b": torch.zeros(2)})),
        read_checkpoint,
    ),
    "npz": ("a.npz", lambda rng, _: arrays(rng), read_checkpoint),
    "attributes": ("attributes.json", attributes, read_attributes),
    "manifest": ("manifest.json", lambda rng, _: text_of(rng, JSON_PARTS), lambda path: read_manifest(path.parent)),
    "annotation": ("groundtruth.txt", lambda rng, _: text_of(rng, TEXT_PARTS), read_annotation),
    "list": ("list.txt", lambda rng, _: text_of(rng, NAME_PARTS), read_list),
    "picture": ("a.jpg", lambda rng, _: picture(rng), lambda path: decode_image(path.read_bytes(), str(path))),
    "result": ("dog-1.txt", lambda rng, _: text_of(rng, TEXT_PARTS), read_boxes),
    "coco": ("instances_train2017.json", written(COCO), read_coco),
    "youtube_vos": ("meta.json", written(MASKS), read_youtube_vos),
    "crops": ("train.json", written(CROPS), read_crops),
    "labels": ("train.json", written(LABELS), read_tracks),
    "flow": ("0001.npy", flow_file, lambda path: StoredFlow(path.parent, ["0001"], (8, 6))(0)),
    "zip": ("a.zip", lambda rng, _: archive(rng), read_zip),
    "table": ("dog-1.csv", lambda rng, _: damaged(rng, rng.choice(TABLES).encode()), read_own),
    "via": ("via.json", written(VIA), read_via),
    "label_studio": ("export.json", written(LABEL_STUDIO), lambda path: read_label_studio(path, (6, 8))),
    "labelme": ("a.json", written(LABELME), lambda path: read_labelme(path.parent)),
    "cvat": ("a.xml", lambda rng, _: damaged(rng, CVAT), read_cvat),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_malformed_file_is_read_or_named_in_one_sentence(tmp_path: Path, kind: str) -> None:
    name, make, read = KINDS[kind]
    mark = tmp_path / "mark"
    wrong, refused = [], 0
    for i in range(FILES_PER_KIND):
        folder = tmp_path / str(i)
        folder.mkdir()
        content = make(random.Random(f"{SEED} {kind} {i}"), mark)
        (folder / name).write_bytes(content)
        began = time.monotonic()
        try:
            read(folder / name)
        except (ValueError, OSError, RuntimeError) as error:  # what commands print as a sentence (lib.command)
            refused += 1
            shown = str(error)
            if (
                isinstance(error, RecursionError | NotImplementedError | UnicodeError)
                or "\n" in shown
                or name not in shown
            ):
                wrong.append(f"file {i}: {type(error).__name__}: {shown[:300]!r}")
        except Exception as error:
            wrong.append(f"file {i}: {type(error).__name__}: {str(error)[:300]!r}")
        if time.monotonic() - began > SECONDS_PER_FILE:
            wrong.append(f"file {i}: {time.monotonic() - began:.0f} s")
        assert not mark.exists(), f"file {i} ran code"
    assert not wrong, f"{len(wrong)} of {FILES_PER_KIND}:\n" + "\n".join(wrong[:10])
    assert refused > FILES_PER_KIND // 5
