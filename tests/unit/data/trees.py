"""Small data set trees, written as a folder, a zip archive or an LMDB."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import lmdb
import numpy as np

Tree = dict[str, str | bytes]


def picture(seed: int, suffix: str = ".png", size: tuple[int, int] = (24, 32)) -> bytes:
    """An encoded picture of random grey levels; PNG and BMP keep them exactly."""
    pixels = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def pixels_of(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """What a lossless `picture(seed)` decodes to, RGB."""
    return np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)[..., ::-1]


def as_folder(tree: Tree, path: Path) -> Path:
    for key, value in tree.items():
        file = path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value.encode() if isinstance(value, str) else value)
    return path


def as_zip(tree: Tree, path: Path, top: str = "", compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = path.with_suffix(".zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for key, value in tree.items():
            archive.writestr(f"{top}/{key}" if top else key, value)
    return path


def as_lmdb(tree: Tree, path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, value in tree.items():
            transaction.put(key.encode(), value.encode() if isinstance(value, str) else value)
    return path


WRITERS = {"folder": as_folder, "zip": as_zip, "lmdb": as_lmdb}
