"""Sources of a user's own frames: a video file, a folder of pictures, one picture, or a camera."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.data.io import DecodeError, decode_depth, decode_image
from lib.data.listing import PICTURE_SUFFIXES, picture_names
from lib.data.modalities import depth_to_picture
from lib.data.types import Frame, Image
from lib.files import errors_name, sentence, user_path

log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0
VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".flv", ".ts", ".gif",
)  # fmt: skip
JPEG_QUALITY = 95


class SourceError(ValueError):
    """A source that cannot be opened; the message says what it was read as."""


@dataclass(frozen=True)
class Grab:
    """One moment of a source.

    Attributes:
        index: Counted from 0.
        frame: The frame, or None if it could not be read.
        problem: The reason for that.
    """

    index: int
    frame: Frame | None
    problem: str = ""


class FrameSource:
    """An iterable of `Grab`s, to be read once.

    Attributes:
        name: For messages and file names.
        fps: Of the source, or a guess.
        length: Frames as the source states them, None for a camera.
        unread: Frames at the end that a file states but that could not be read, known after the last one.
    """

    def __init__(self, name: str, length: int | None, grabs: Iterator[Grab], fps: float = DEFAULT_FPS) -> None:
        self.name, self.length, self.fps, self.unread = name, length, fps, 0
        self._grabs = grabs

    def __iter__(self) -> Iterator[Grab]:
        return self._grabs


Source = str | Path | int | Iterable[Image | str | Path]
"""A video file, a folder of pictures (in the order of their numbers), a picture, a camera's number, or a list of
pictures: H x W x 3 uint8 in RGB order, or their files."""


def open_source(source: Source, aux: Source | None = None) -> FrameSource:
    """Open a user's frames.

    Args:
        source: Frames, see `Source`.
        aux: Folder, video or pictures of the second modality, one picture per frame; 16-bit pictures are taken as depth
            in mm.

    Raises:
        SourceError: Either cannot be opened, or the two differ in length.
    """
    first = _open(source)
    if aux is None:
        return first
    second = _open(aux, depth=True)
    if first.length != second.length:
        lengths = [f"{s.name} has {s.length or 'an unknown number of'} frames" for s in (first, second)]
        raise SourceError(f"{' and '.join(lengths)}; one aux picture per frame expected")
    return _paired(first, second)


def _open(source: Source, depth: bool = False) -> FrameSource:
    """One source. depth: 16-bit pictures are depth."""
    if not isinstance(source, str | Path | int):
        if isinstance(source, bytes | Mapping) or not isinstance(source, Iterable):
            kinds = "a video file, a folder of pictures, a picture, a camera's number or a list of pictures"
            raise SourceError(f"source: expected {kinds}, not {type(source).__name__}")
        grabs = (_given(index, picture) for index, picture in enumerate(source))
        return FrameSource("frames", len(source) if isinstance(source, Sized) else None, grabs)
    path = user_path(str(source))
    if re.fullmatch(r"\d+", str(source)) and not path.exists():
        return _captured(int(str(source)))
    if not path.exists() or source == "":
        raise SourceError(f"{source!r}: no such video, folder or picture, and not the number of a camera")
    if not path.is_dir():
        return _pictures(path, [path], depth) if path.suffix.lower() in PICTURE_SUFFIXES else _captured(path)
    inside = sorted(entry.name for entry in path.iterdir())
    found = [path / name for name in picture_names(inside)]
    if not found:
        names = ", ".join(inside[:5]) or "nothing"
        raise SourceError(f"{path}: no pictures ({', '.join(PICTURE_SUFFIXES)}) in this folder, which holds {names}")
    return _pictures(path, found, depth)


def _given(index: int, picture: Image | str | Path, is_depth: bool = False) -> Grab:
    """A picture in memory or in a file. is_depth: turn 16 bits into a colour picture."""
    if not isinstance(picture, str | Path):
        return Grab(index, Frame(picture))
    try:
        data, name = user_path(picture).read_bytes(), str(picture)
        decoded = depth_to_picture(decode_depth(data, name)) if is_depth else decode_image(data, name)
    except (DecodeError, OSError) as error:
        return Grab(index, None, sentence(error))
    return Grab(index, Frame(decoded))


def _pictures(path: Path, files: list[Path], depth: bool) -> FrameSource:
    """A folder's pictures in order, or one picture. depth: turn 16-bit pictures into colour pictures."""
    first = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED) if depth else None
    is_depth = first is not None and first.dtype.itemsize == 2 and first.ndim == 2
    return FrameSource(path.stem, len(files), (_given(i, file, is_depth) for i, file in enumerate(files)))


def _captured(source: Path | int) -> FrameSource:
    """A video file or a camera through OpenCV.

    A frame of a file that fails between good ones is a broken frame; at the end, it is the end.
    """
    camera = isinstance(source, int)
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if not capture.isOpened():
        if camera:
            raise SourceError(f"camera {source} cannot be opened; is it there, free, and may this program use it?")
        raise SourceError(f"{source}: OpenCV cannot read this as a video; it is damaged, cut short, or no video")
    stated, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), float(capture.get(cv2.CAP_PROP_FPS))
    length = stated if stated > 0 and not camera else None

    def grabs() -> Iterator[Grab]:
        index = failed = 0
        try:
            while True:
                good, bgr = capture.read()
                if not good:
                    if length is None or index + failed >= length:
                        break
                    failed += 1
                    continue
                for _ in range(failed):
                    yield Grab(index, None, f"{source}: frame {index} (from 0) cannot be decoded")
                    index += 1
                failed = 0
                yield Grab(index, Frame(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)))
                index += 1
            if not index and not camera:
                codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")
                raise SourceError(
                    f"{source}: OpenCV decodes not one frame of it (codec {codec!r}); "
                    f"`ffmpeg -i {(path := Path(str(source))).name} -c:v libx264 {path.stem}_h264.mp4` converts it"
                )
        finally:
            found.unread = failed
            capture.release()

    name = source.stem if isinstance(source, Path) else f"camera{source}"
    found = FrameSource(name, length, grabs(), fps if math.isfinite(fps) and 1 <= fps <= 1000 else DEFAULT_FPS)
    return found


def _paired(first: FrameSource, second: FrameSource) -> FrameSource:
    """Two sources frame by frame; a frame that either lacks is broken."""

    def grabs() -> Iterator[Grab]:
        for one, other in zip(first, second, strict=False):
            if one.frame is None or other.frame is None:
                yield Grab(one.index, None, one.problem or other.problem)
                continue
            yield Grab(one.index, Frame(one.frame.rgb, other.frame.rgb))
        both.unread = max(first.unread, second.unread)

    both = FrameSource(first.name, first.length, grabs(), first.fps)
    return both


def unpack_video(video: Path, folder: Path) -> None:
    """Write a video's frames as `00000001.jpg`, ..., if that was not done since the video changed.

    Videos cannot be read quickly and exactly in any other order than from the start, as training reads them. A frame
    that cannot be decoded repeats the one before it.

    Args:
        video: The video file.
        folder: For its frames; appears when it is complete.

    Raises:
        SourceError: The file is no video, or not one frame can be read.
        OSError: The folder cannot be written.
    """
    if folder.is_dir():
        if folder.stat().st_mtime >= video.stat().st_mtime:
            return
        shutil.rmtree(folder)
    source = _captured(video)
    log.info("%s: frames are unpacked into %s, once", video, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with errors_name(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part") as part:
        last = None
        for grab in source:
            last = grab.frame or last
            if last is not None:
                (Path(part) / f"{grab.index + 1:08d}.jpg").write_bytes(encode_picture(last.rgb))
        with suppress(OSError):  # another process was quicker
            os.rename(part, folder)
            os.mkdir(part)  # for the context to remove


def encode_picture(rgb: Image, quality: int = JPEG_QUALITY) -> bytes:
    """A picture as JPEG.

    Args:
        rgb: [H, W, 3] uint8.
        quality: From 0 to 100.
    """
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
