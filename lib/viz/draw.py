"""Boxes, labels and captions on copies of RGB images (H x W x 3 uint8), and the colours of trackers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from lib.data import Frame, Image

FONT = cv2.FONT_HERSHEY_SIMPLEX
# Colours that people with any colour vision can tell apart (Okabe and Ito, 2008).
TRUTH = "#009E73"
TRACKERS = ("#D55E00", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F", "#B2DF8A")


def colour(index: int) -> str:
    """Hex colour of the tracker at this position of a table; colours repeat after eight."""
    return TRACKERS[index % len(TRACKERS)]


def rgb(hex_colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour: `"#D55E00"` -> (213, 94, 0).

    Raises:
        ValueError: It does not have the form #RRGGBB.
    """
    red, green, blue = bytes.fromhex(hex_colour.lstrip("#"))
    return red, green, blue


@dataclass(frozen=True, slots=True)
class BoxMark:
    """A box to draw.

    Attributes:
        box_xywh: [4] image pixels; a box that is NaN or empty is left out.
        colour: "#RRGGBB".
        label: Text at its corner.
        dashed: Draw dashed lines.
    """

    box_xywh: ArrayLike
    colour: str
    label: str = ""
    dashed: bool = False


def draw_frame(frame: Frame, marks: Iterable[BoxMark] = (), caption: str = "", longest: int | None = None) -> Image:
    """One image of a frame, for videos, windows and pages.

    Args:
        frame: RGB image and, for RGB-X, the second image, which is shown to the right at the same height.
        marks: Boxes drawn on both images; boxes that are NaN or empty are left out.
        caption: ASCII text on a dark strip at the top.
        longest: The result is made smaller until its longer side has at most so many pixels.
    """
    marks = list(marks)
    drawn = draw_boxes(frame.rgb, marks)
    if frame.aux is not None:
        h, w = drawn.shape[:2]
        aux = frame.aux
        if aux.shape[:2] != (h, w):
            aux = np.asarray(cv2.resize(aux, (w, h)), dtype=np.uint8)
        drawn = np.concatenate([drawn, draw_boxes(aux, marks)], axis=1)
    if longest is not None:
        drawn = shrink(drawn, longest)
    return draw_caption(drawn, caption) if caption else drawn


def draw_boxes(image: Image, marks: Iterable[BoxMark]) -> Image:
    """A copy of the image with the boxes; boxes that are NaN or empty are left out."""
    out = np.ascontiguousarray(image).copy()
    height, width = out.shape[:2]
    thickness = max(1, round(min(height, width) / 200))
    for mark in marks:
        x, y, w, h = (float(v) for v in np.asarray(mark.box_xywh, dtype=np.float64))
        if not np.isfinite([x, y, w, h]).all() or w <= 0 or h <= 0:
            continue
        # Whole pixels, not so far outside that OpenCV's drawing overflows.
        left, right = (round(min(max(v, -width), 2 * width)) for v in (x, x + w))
        top, bottom = (round(min(max(v, -height), 2 * height)) for v in (y, y + h))
        if not mark.dashed:
            cv2.rectangle(out, (left, top), (right, bottom), rgb(mark.colour), thickness)
        else:
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            for a, b in itertools.pairwise(corners):
                dashes = max(2, int(np.hypot(b[0] - a[0], b[1] - a[1]) // 8))
                points = np.round(np.linspace(a, b, 2 * dashes)).astype(int).tolist()
                for start, end in zip(points[0::2], points[1::2], strict=True):
                    cv2.line(out, tuple(start), tuple(end), rgb(mark.colour), thickness, cv2.LINE_AA)
        if mark.label:
            _draw_label(out, mark.label, (left, top), mark.colour)
    return out


def _draw_label(image: Image, text: str, corner: tuple[int, int], colour: str) -> None:
    """Write `text` on a coloured ground above a box's corner, below it where there is no space."""
    scale = max(0.35, image.shape[0] / 1200)
    (w, h), base = cv2.getTextSize(text, FONT, scale, 1)
    x = min(max(corner[0], 0), max(0, image.shape[1] - w - 4))
    y = corner[1] - h - base - 2
    y = y if y >= 0 else min(corner[1], image.shape[0] - h - base - 2)
    r, g, b = rgb(colour)
    cv2.rectangle(image, (x, y), (x + w + 4, y + h + base + 2), (r, g, b), -1)
    bright = 0.299 * r + 0.587 * g + 0.114 * b > 140
    cv2.putText(image, text, (x + 2, y + h + 1), FONT, scale, (0, 0, 0) if bright else (255,) * 3, 1, cv2.LINE_AA)


def draw_caption(image: Image, text: str) -> Image:
    """A copy of the image with a dark strip at its top that carries `text` (ASCII)."""
    out = np.ascontiguousarray(image).copy()
    scale = max(0.4, out.shape[0] / 900)
    (_, height), base = cv2.getTextSize(text, FONT, scale, 1)
    strip = out[: height + base + 6]
    strip[:] = (strip * 0.35).astype(np.uint8)
    cv2.putText(out, text, (6, height + 4), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def shrink(image: Image, longest: int) -> Image:
    """The image, made smaller where its longer side has more than `longest` pixels."""
    h, w = image.shape[:2]
    factor = longest / max(h, w)
    if factor >= 1:
        return image
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
