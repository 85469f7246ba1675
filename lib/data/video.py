"""Sources of a user's own frames: a video file, a folder of pictures, one picture, or a camera."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data.io import DecodeError, decode_depth, decode_image
from lib.data.modalities import depth_to_picture
from lib.data.types import Frame, Image

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
DEFAULT_FPS = 25.0


class SourceError(ValueError):
    """A source that cannot be opened; the message says what it was read as."""


@dataclass(frozen=True)
class Grab:
    """One moment of a source: a frame, or None and the problem. index counts from 0."""

    index: int
    frame: Frame | None
    problem: str = ""


class FrameSource(Protocol):
    """An iterable of `Grab`s, to be read once.

    Attributes:
        name: For messages and file names.
        fps: Of the source, or a guess.
        length: Frames as the source states them, None for a camera.
        unread: Frames at the end that a file states but that could not be read, known after the last one.
    """

    name: str
    fps: float
    length: int | None
    unread: int

    def __iter__(self) -> Iterator[Grab]: ...


def open_source(source: str, aux: str | None = None) -> FrameSource:
    """`source`: a video file, a folder of pictures (in the order of their numbers), a picture, or a camera's number.

    aux: folder or video of the second modality, one picture per frame; 16-bit pictures are taken as depth in mm.
    Raises SourceError when either cannot be opened or the two differ in length.
    """
    first = _open(source)
    if aux is None:
        return first
    second = _open(aux, depth=True)
    if first.length != second.length:
        raise SourceError(
            f"{source} has {_frames(first)} and {aux} {_frames(second)}; one aux picture per frame expected"
        )
    return _Paired(first, second)


def _frames(source: FrameSource) -> str:
    return "no known length" if source.length is None else f"{source.length} frames"


def _open(source: str, depth: bool = False) -> FrameSource:
    path = Path(source)
    if re.fullmatch(r"\d+", source) and not path.exists():
        return _Camera(int(source))
    if path.is_dir():
        return _Pictures(path, _pictures_in(path), depth)
    if not path.exists():
        raise SourceError(f"{source}: no such video, folder or picture, and not the number of a camera")
    if path.suffix.lower() in PICTURES:
        return _Pictures(path, [path], depth)
    return _VideoFile(path)


def _pictures_in(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    if not found:
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise SourceError(f"{folder}: no pictures ({', '.join(PICTURES)}) in this folder, which holds {inside}")
    return sorted(found, key=lambda p: [(int(t), "") if t.isdigit() else (-1, t) for t in re.split(r"(\d+)", p.name)])


class _Pictures:
    """A folder's pictures. depth: 16-bit ones are turned into colour pictures."""

    def __init__(self, path: Path, files: list[Path], depth: bool) -> None:
        self.name, self.fps, self.unread = path.stem, DEFAULT_FPS, 0
        self.length: int | None = len(files)
        self._files = files
        self._depth = depth and _is_16_bit(files[0])

    def __iter__(self) -> Iterator[Grab]:
        for index, file in enumerate(self._files):
            try:
                data = file.read_bytes()
                picture = self._decode(data, str(file))
            except (DecodeError, OSError) as error:
                yield Grab(index, None, str(error))
                continue
            yield Grab(index, Frame(picture))

    def _decode(self, data: bytes, name: str) -> Image:
        return depth_to_picture(decode_depth(data, name)) if self._depth else decode_image(data, name)


def _is_16_bit(file: Path) -> bool:
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return picture is not None and picture.dtype.itemsize == 2 and picture.ndim == 2


class _VideoFile:
    """A video file through OpenCV. A frame that fails between good ones is a broken frame; at the end, the end."""

    def __init__(self, path: Path) -> None:
        self._path, self._capture = path, cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(f"{path}: OpenCV cannot read this as a video; it is damaged, cut short, or no video")
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.name, self.fps, self.unread = path.stem, _sane_fps(self._capture), 0
        self.length = stated if stated > 0 else None

    def __iter__(self) -> Iterator[Grab]:
        index = failed = 0
        while True:
            good, bgr = self._capture.read()
            if good:
                for _ in range(failed):
                    yield Grab(index, None, f"{self._path}: frame {index} (from 0) cannot be decoded")
                    index += 1
                failed = 0
                yield Grab(index, Frame(_rgb(bgr)))
                index += 1
                continue
            if self.length is None or index + failed >= self.length:
                break
            failed += 1
        self.unread = failed
        self._capture.release()


class _Camera:
    """A camera, without an end."""

    def __init__(self, number: int) -> None:
        self.name, self.unread = f"camera{number}", 0
        self.length: int | None = None
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise SourceError(f"camera {number} cannot be opened; is it there, free, and may this program use it?")
        self.fps = _sane_fps(self._capture)

    def __iter__(self) -> Iterator[Grab]:
        index = 0
        try:
            while True:
                good, bgr = self._capture.read()
                if not good:
                    return
                yield Grab(index, Frame(_rgb(bgr)))
                index += 1
        finally:
            self._capture.release()


class _Paired:
    """Two sources frame by frame; a frame that either lacks is broken."""

    def __init__(self, first: FrameSource, second: FrameSource) -> None:
        self.name, self.fps, self.length, self.unread = first.name, first.fps, first.length, 0
        self._first, self._second = first, second

    def __iter__(self) -> Iterator[Grab]:
        for one, other in zip(self._first, self._second, strict=False):
            if one.frame is None or other.frame is None:
                yield Grab(one.index, None, one.problem or other.problem)
                continue
            yield Grab(one.index, Frame(one.frame.rgb, other.frame.rgb))
        self.unread = max(self._first.unread, self._second.unread)


def _rgb(bgr: NDArray[Any]) -> Image:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _sane_fps(capture: cv2.VideoCapture) -> float:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if math.isfinite(fps) and 1 <= fps <= 1000 else DEFAULT_FPS
