"""Boxes, labels and captions on RGB pictures (H x W x 3 uint8). Nothing is drawn in place."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from lib.data import Frame, Image
from lib.viz.palette import rgb

FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class BoxMark:
    """A box to draw: x, y, w, h in image pixels, "#RRGGBB", and what to write at its corner."""

    box_xywh: ArrayLike
    colour: str
    label: str = ""
    dashed: bool = False


def draw_boxes(image: Image, marks: Iterable[BoxMark], thickness: int | None = None) -> Image:
    """A copy of the picture with the boxes; boxes that are NaN or empty are left out."""
    out = np.ascontiguousarray(image).copy()
    width = thickness or max(1, round(min(out.shape[:2]) / 200))
    for mark in marks:
        x, y, w, h = (float(v) for v in np.asarray(mark.box_xywh, dtype=np.float64))
        if not np.isfinite([x, y, w, h]).all() or w <= 0 or h <= 0:
            continue
        low, high = _inside(x, y, out), _inside(x + w, y + h, out)
        if mark.dashed:
            _dashed_rectangle(out, low, high, rgb(mark.colour), width)
        else:
            cv2.rectangle(out, low, high, rgb(mark.colour), width)
        if mark.label:
            _label(out, mark.label, (low[0], low[1]), mark.colour)
    return out


def draw_caption(image: Image, text: str) -> Image:
    """A copy of the picture with a dark strip at its top that carries `text` (ASCII)."""
    out = np.ascontiguousarray(image).copy()
    scale = max(0.4, out.shape[0] / 900)
    (_, height), base = cv2.getTextSize(text, FONT, scale, 1)
    strip = out[: height + base + 6]
    strip[:] = (strip * 0.35).astype(np.uint8)
    cv2.putText(out, text, (6, height + 4), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def side_by_side(frame: Frame) -> Image:
    """RGB and aux picture next to each other (of equal height), or RGB alone."""
    if frame.aux is None:
        return frame.rgb
    h, w = frame.rgb.shape[:2]
    aux = frame.aux if frame.aux.shape[:2] == (h, w) else cv2.resize(frame.aux, (w, h))
    return np.ascontiguousarray(np.concatenate([frame.rgb, aux], axis=1))


def fit(image: Image, longest: int) -> Image:
    """The picture made smaller, if need be, until its longer side has at most `longest` pixels."""
    h, w = image.shape[:2]
    factor = longest / max(h, w)
    if factor >= 1:
        return image
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _inside(x: float, y: float, image: Image) -> tuple[int, int]:
    """A corner as whole pixels, not so far outside that OpenCV's drawing overflows."""
    h, w = image.shape[:2]
    return round(min(max(x, -w), 2 * w)), round(min(max(y, -h), 2 * h))


def _dashed_rectangle(
    image: Image, low: tuple[int, int], high: tuple[int, int], colour: tuple[int, int, int], width: int
) -> None:
    corners = [low, (high[0], low[1]), high, (low[0], high[1]), low]
    for a, b in itertools.pairwise(corners):
        pieces = max(2, int(np.hypot(b[0] - a[0], b[1] - a[1]) // 8))
        points = np.round(np.linspace(a, b, 2 * pieces)).astype(int)
        for start, end in zip(points[0::2], points[1::2], strict=True):
            cv2.line(image, tuple(map(int, start)), tuple(map(int, end)), colour, width, cv2.LINE_AA)


def _label(image: Image, text: str, corner: tuple[int, int], colour: str) -> None:
    scale = max(0.35, image.shape[0] / 1200)
    (w, h), base = cv2.getTextSize(text, FONT, scale, 1)
    x = min(max(corner[0], 0), max(0, image.shape[1] - w - 4))
    y = corner[1] - h - base - 2
    y = y if y >= 0 else min(corner[1], image.shape[0] - h - base - 2)
    r, g, b = rgb(colour)
    cv2.rectangle(image, (x, y), (x + w + 4, y + h + base + 2), (r, g, b), -1)
    bright = 0.299 * r + 0.587 * g + 0.114 * b > 140
    cv2.putText(image, text, (x + 2, y + h + 1), FONT, scale, (0, 0, 0) if bright else (255,) * 3, 1, cv2.LINE_AA)
