"""Outlines: closed contours of 64 points in units in which an object is about two across, y downwards."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

POINTS = 64
Contours = NDArray[np.float32]
"""[C, 64, 2]: several contours are filled by the even-odd rule, so that an inner one is a hole."""


def _turns() -> NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, POINTS, endpoint=False)


def _one(x: NDArray[np.float64], y: NDArray[np.float64]) -> Contours:
    return np.stack([x, y], axis=1)[None].astype(np.float32)


def resample(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """[P, 2] corners of a closed polygon -> [64, 2] points at equal steps along it."""
    closed = np.concatenate([points, points[:1]])
    step = np.hypot(*np.diff(closed, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(step)])
    s = np.linspace(0, at[-1], POINTS, endpoint=False)
    return np.stack([np.interp(s, at, closed[:, k]) for k in (0, 1)], axis=1).astype(np.float32)


def ellipse(rx: float = 1.0, ry: float = 1.0, squareness: float = 2.0) -> Contours:
    """Ellipse (squareness 2) up to a rounded rectangle (8)."""
    c, s = np.cos(_turns()), np.sin(_turns())
    e = 2.0 / squareness
    return _one(rx * np.sign(c) * np.abs(c) ** e, ry * np.sign(s) * np.abs(s) ** e)


def blob(rng: np.random.Generator, bumps: int = 5, depth: float = 0.35, ragged: float = 0.0) -> Contours:
    """A random closed Fourier contour; `ragged` adds an uneven (furry, leafy) edge."""
    a = _turns()
    r = np.ones(POINTS)
    for k in range(2, bumps + 2):
        r += depth * rng.uniform(0, 1) / (k - 1) ** 0.7 * np.cos(k * a + rng.uniform(0, 2 * np.pi))
    r += ragged * rng.uniform(-1, 1, POINTS)
    r = np.clip(r, 0.25, None) / r.max()
    return _one(r * np.cos(a), r * np.sin(a))


def polygon(rng: np.random.Generator, corners: int, jitter: float = 0.3) -> Contours:
    a = np.sort((np.arange(corners) + rng.uniform(-jitter, jitter, corners)) * 2 * np.pi / corners)
    r = rng.uniform(1 - jitter, 1, corners)
    return resample(np.stack([r * np.cos(a), r * np.sin(a)], axis=1))[None]


def star(corners: int, inner: float) -> Contours:
    a = np.arange(2 * corners) * np.pi / corners
    r = np.where(np.arange(2 * corners) % 2 == 0, 1.0, inner)
    return resample(np.stack([r * np.sin(a), -r * np.cos(a)], axis=1))[None]


def ring(rng: np.random.Generator) -> Contours:
    outer = ellipse(1.0, rng.uniform(0.6, 1.0))
    return np.concatenate([outer, outer * np.float32(rng.uniform(0.4, 0.75))])


def letter(rng: np.random.Generator) -> Contours:
    """A capital letter or digit, its counters as holes."""
    sign = "ABCDEGHKMPRSTXYZ2345689"[int(rng.integers(23))]
    page = np.zeros((128, 128), np.uint8)
    cv2.putText(page, sign, (24, 100), cv2.FONT_HERSHEY_SIMPLEX, 3.4, 255, int(rng.integers(12, 24)), cv2.LINE_8)
    found, _ = cv2.findContours(page, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    kept = [resample(c[:, 0].astype(np.float64)) for c in found if len(c) > 12]
    contours = np.stack(kept)
    low, high = contours.min((0, 1)), contours.max((0, 1))
    return ((contours - (low + high) / 2) / ((high - low).max() / 2)).astype(np.float32)


def limb(length: float, width: float, taper: float = 0.8) -> Contours:
    """A rounded bar that hangs down from the origin."""
    a = _turns()
    y = (1 - np.cos(a)) / 2 * length
    x = np.sin(a) * 0.5 * width * (1 - (1 - taper) * y / length)
    x = np.sign(x) * np.abs(x / (0.5 * width)) ** 0.5 * 0.5 * width
    return _one(x, y - width * 0.2)


def moved(
    contours: Contours, x: float = 0.0, y: float = 0.0, turn: float = 0.0, sx: float = 1.0, sy: float = 1.0
) -> Contours:
    """Scaled, turned (radians), then shifted."""
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.array([[c * sx, -s * sy], [s * sx, c * sy]], np.float32)
    return (contours @ matrix.T + np.array([x, y], np.float32)).astype(np.float32)
