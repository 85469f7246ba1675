"""Boxes over the frames of a video: tracks, video files, and a window on the screen. Only the window needs a screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Box, Boxes, Image, Video, corners_to_xywh, iou_xywh
from lib.files import errors_name, temporary_file
from lib.viz.draw import TRUTH, BoxMark, colour, draw_frame

CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
MAX_SIDE = 1280
QUIT_KEYS = (ord("q"), 27)


@dataclass(frozen=True, slots=True)
class Track:
    """Boxes of one tracker, or the true ones, over frames.

    Attributes:
        name: For legends and labels.
        colour: "#RRGGBB".
        boxes_xywh: [F, 4] in image pixels, NaN for no box.
        values: [F] overlap with the true box, NaN where unknown; None for the true boxes.
        dashed: Draw dashed lines.
    """

    name: str
    colour: str
    boxes_xywh: NDArray[np.float64]
    values: NDArray[np.float64] | None = None
    dashed: bool = False


def video_tracks(video: Video, boxes: Mapping[str, Boxes], colours: Mapping[str, str] | None = None) -> list[Track]:
    """The ground truth and the boxes of each tracker as tracks over all N frames of a video.

    Args:
        video: Gives the true boxes; none where the target is absent.
        boxes: Tracker -> [M, 4] x, y, w, h or [M, 8] corners; missing rows become NaN.
        colours: Tracker -> colour; by position where not given.
    """
    frames = len(video)
    truth = np.where(video.visible[:, None], video.boxes_xywh, np.nan)
    tracks = [Track("ground truth", TRUTH, truth, dashed=True)]
    known = video.visible & video.valid
    for i, (name, given) in enumerate(boxes.items()):
        rows = np.full((frames, 4), np.nan)
        rows[: len(given)] = corners_to_xywh(given[:frames]) if given.shape[1] == 8 else given[:frames]
        overlap = np.where(known, iou_xywh(rows, video.boxes_xywh), np.nan)
        tracks.append(Track(name, (colours or {}).get(name, colour(i)), rows, overlap))
    return tracks


def write_video(path: Path, video: Video, tracks: Sequence[Track]) -> Path:
    """Write a video file with the boxes of all tracks on every frame; returns its path.

    Images larger than 1280 pixels are made smaller. RGB-X shows both images side by side.
    """
    with VideoWriter(path, fps=30.0) as writer:
        for i in range(len(video)):
            marks = [BoxMark(t.boxes_xywh[i], t.colour, t.name, t.dashed) for t in tracks]
            writer.write(draw_frame(video.read_frame(i), marks, f"{video.name}  {i}/{len(video) - 1}", MAX_SIDE))
    return writer.path


class VideoWriter:
    """Write RGB frames to a video file.

    >>> with VideoWriter("out.mp4", fps=30) as video:   # doctest: +SKIP
    ...     video.write(frame)

    The first frame sets the size; later frames of another size are resized to it. The codec is H.264 where PyAV is
    installed (the `video` extra), else OpenCV's MPEG-4; where that cannot be written either, an avi of the same name
    (`path` names it). The file appears when the block ends; after an exception nothing is left.

    Attributes:
        note: A sentence where the file is none that browsers play; "" else.
    """

    note = ""

    def __init__(self, path: Path | str, fps: float = 30.0) -> None:
        self.path = Path(path)
        self.fps = fps
        self.frames = 0
        self._writer: cv2.VideoWriter | _H264Writer | None = None
        self._part = self.path
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, rgb: Image) -> None:
        """Append one H x W x 3 uint8 frame."""
        # Codecs need even sides: the last row or column is cut off where one is odd.
        h, w = rgb.shape[:2]
        frame = rgb[: max(2, h - h % 2), : max(2, w - w % 2)]
        if self._writer is None:
            self._size = (frame.shape[1], frame.shape[0])
            self._part = temporary_file(self.path.with_name(f".{self.path.name}"), "mp4")
            with errors_name(self.path, self._part):
                self._writer = self._open()
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        with errors_name(self.path, self._part):
            self._writer.write(_bgr(frame))
        self.frames += 1

    def _open(self) -> cv2.VideoWriter | _H264Writer:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        suffix = self.path.suffix.lower()
        self._part.touch()  # codecs open their file late, and do not say why they cannot
        if suffix != ".avi":
            with suppress(ImportError):
                h264 = _H264Writer(self._part, self.fps, self._size)
                self.path = self.path.with_suffix(".mp4")
                return h264
        self.note = "its codec is one that browsers do not play; after `pip install av` it is H.264"
        for codec, ending in sorted(CODECS, key=lambda c: c[1] != suffix):
            part = self._part.with_suffix(ending)
            writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*codec), self.fps, self._size)
            if writer.isOpened():
                if part != self._part:
                    self._part.unlink()
                self._part, self.path = part, self.path.with_suffix(ending)
                return writer
            part.unlink(missing_ok=True)
        raise RuntimeError(f"{self.path}: OpenCV can write neither mp4 nor avi here")

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            with errors_name(self.path, self._part):
                writer.release()
                if kind is None:
                    os.replace(self._part, self.path)
        finally:
            self._part.unlink(missing_ok=True)


class _H264Writer:
    """The interface of OpenCV's writer on PyAV.

    Raises:
        ImportError: PyAV is not installed, or has no H.264.
    """

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int]) -> None:
        import av

        if "libx264" not in av.codecs_available:
            raise ImportError("PyAV without libx264")
        self._file = av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream = self._file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        self._stream.width, self._stream.height = size_wh
        self._stream.pix_fmt = "yuv420p"
        self._picture = av.VideoFrame.from_ndarray

    def write(self, bgr: Image) -> None:
        self._file.mux(self._stream.encode(self._picture(bgr, format="bgr24")))

    def release(self) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()


def require_display(purpose: str) -> None:
    """Raise RuntimeError, in a sentence that names `purpose`, where no window can be opened.

    OpenCV's window library ends the whole program when it finds no screen, so this is checked first.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise RuntimeError(f"{purpose} needs a screen, and there is none here (DISPLAY is not set)")
    build = [line.strip() for line in cv2.getBuildInformation().splitlines()]
    if any(line.startswith("GUI:") and "NONE" in line for line in build):
        raise RuntimeError(f"{purpose} needs windows, which this build of OpenCV (headless) does not have")


def draw_box_with_mouse(image: Image) -> Box:
    """Let the user draw a box over an RGB image.

    Returns:
        x, y, w, h in image pixels.

    Raises:
        RuntimeError: there is no screen.
        ValueError: no box was drawn.
    """
    require_display("drawing a box with the mouse")
    title = "draw a box, then press Enter"
    x, y, w, h = cv2.selectROI(title, _bgr(image), showCrosshair=True)
    cv2.destroyWindow(title)
    if w <= 0 or h <= 0:
        raise ValueError("no box was drawn")
    return float(x), float(y), float(w), float(h)


def show_frame(image: Image, title: str) -> bool:
    """Show an RGB image in a window; False once the user has pressed q or Escape."""
    cv2.imshow(title, _bgr(image))
    return cv2.waitKey(1) & 0xFF not in QUIT_KEYS


def _bgr(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), dtype=np.uint8)
