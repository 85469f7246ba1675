"""Video files through OpenCV."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from lib.data import Image

CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))


class VideoError(RuntimeError):
    """No video could be written; the message names the file."""


class VideoWriter:
    """Write RGB frames to a video file.

    >>> with VideoWriter("out.mp4", fps=30) as video:   # doctest: +SKIP
    ...     video.write(frame)

    The first frame sets the size; later frames of another size are resized to it. Where OpenCV cannot write mp4, an avi
    of the same name is written instead (`path` says which). The file appears when the block ends; after an exception
    nothing is left behind.
    """

    def __init__(self, path: Path | str, fps: float = 30.0) -> None:
        self.path = Path(path)
        self.fps = fps
        self.frames = 0
        self._writer: cv2.VideoWriter | None = None
        self._part = self.path
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, rgb: Image) -> None:
        """Append one H x W x 3 uint8 frame."""
        if self._writer is None:
            self._open(rgb)
        frame = self._even(rgb)
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        assert self._writer is not None
        self._writer.write(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2BGR))
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if kind is None:
            os.replace(self._part, self.path)
        else:
            self._part.unlink(missing_ok=True)

    def _open(self, first: Image) -> None:
        frame = self._even(first)
        self._size = (frame.shape[1], frame.shape[0])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        wanted = self.path.suffix.lower()
        for codec, suffix in sorted(CODECS, key=lambda c: c[1] != wanted):
            part = self.path.with_name(f".{self.path.stem}.part{suffix}")
            writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*codec), self.fps, self._size)
            if writer.isOpened():
                self._writer, self._part, self.path = writer, part, self.path.with_suffix(suffix)
                return
            part.unlink(missing_ok=True)
        raise VideoError(f"{self.path}: OpenCV can write neither mp4 nor avi here")

    @staticmethod
    def _even(image: Image) -> Image:
        """Codecs want even sides: the last row or column goes where one is odd."""
        h, w = image.shape[:2]
        return image[: max(2, h - h % 2), : max(2, w - w % 2)]
