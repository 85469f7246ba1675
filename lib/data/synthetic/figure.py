"""Objects of the world: outlines with joints and swings, posed in the picture by a matrix for every moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.data.synthetic.palette import Palette
from lib.data.synthetic.shapes import Contours
from lib.data.synthetic.signals import STILL, Array, Signal

Matrices = NDArray[np.float64]
"""[T, 2, 3]: one affine map per moment."""


def compose(outer: Matrices, inner: Matrices) -> Matrices:
    """The map `inner` first, then `outer`."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    shift = np.einsum("tij,tj->ti", outer[:, :, :2], inner[:, :, 2]) + outer[:, :, 2]
    return np.concatenate([linear, shift[:, :, None]], axis=2)


def inverse(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2, 3] -> [2, 3]."""
    linear = np.linalg.inv(m[:, :2])
    return np.concatenate([linear, -linear @ m[:, 2:]], axis=1)


def turn_and_scale(angle: Array, sx: Array, sy: Array, x: Array, y: Array) -> Matrices:
    """[T, 2, 3]: scale along the axes, turn by `angle` (radians), shift to (x, y)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c * sx, -s * sy, x], -1), np.stack([s * sx, c * sy, y], -1)], axis=-2)


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera looks on the canvas; ``image = turn . zoom . (canvas - pan) + frame centre + shake``."""

    width: int
    height: int
    pan_x: Signal
    pan_y: Signal
    log_zoom: Signal = STILL
    angle: Signal = STILL
    shake_x: Signal = STILL
    shake_y: Signal = STILL

    def matrices(self, ts: ArrayLike) -> Matrices:
        """[T, 2, 3] canvas pixels -> image pixels."""
        t = np.asarray(ts, dtype=np.float64)
        zoom = np.exp(self.log_zoom(t))
        x = self.width / 2 + self.shake_x(t)
        y = self.height / 2 + self.shake_y(t)
        m = turn_and_scale(self.angle(t), zoom, zoom, x, y)
        pan = np.stack([self.pan_x(t), self.pan_y(t)], -1)
        m[:, :, 2] -= np.einsum("tij,tj->ti", m[:, :, :2], pan)
        return m


@dataclass(frozen=True, slots=True)
class Skin:
    """How a part looks: a texture in the object's colours, shaded as if lit from one side."""

    texture: str
    colours: Palette
    seed: int
    scale: float = 0.4
    shade: float = 0.5
    folds: float = 0.0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One outline around its own joint; it may swing about the joint and morph into a second outline.

    contours: [C, 64, 2] in units of the object, relative to the joint; joint: (x, y) in the object.
    """

    contours: Contours
    skin: Skin
    joint: tuple[float, float] = (0.0, 0.0)
    swing: Signal = STILL
    other: Contours | None = None
    morph: Signal = STILL

    def outline(self, t: Array) -> NDArray[np.float64]:
        """[T, C, 64, 2] in units of the object."""
        points = self.contours[None].astype(np.float64)
        if self.other is not None:
            points = points + self.morph(t)[:, None, None, None] * (self.other - self.contours)[None]
        angle = self.swing(t)
        c, s = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
        x, y = points[..., 0], points[..., 1]
        return np.stack([c * x - s * y + self.joint[0], s * x + c * y + self.joint[1]], axis=-1)

    def extent(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 around every outline the part can take, relative to the joint."""
        both = self.contours if self.other is None else np.concatenate([self.contours, self.other])
        (x0, y0), (x1, y1) = both.min((0, 1)), both.max((0, 1))
        return float(x0), float(y0), float(x1), float(y1)


@dataclass(frozen=True, slots=True)
class Wave:
    """A bend that runs through an object: two shears along sines, so that it can be undone exactly."""

    dx: Signal = STILL
    dy: Signal = STILL
    kx: float = 2.0
    ky: float = 2.0

    @property
    def still(self) -> bool:
        return self.dx == STILL and self.dy == STILL

    def bend(self, points: NDArray[np.float64], t: Array) -> NDArray[np.float64]:
        """[T, ..., 2] straight -> bent."""
        shape = (len(t),) + (1,) * (points.ndim - 2)
        x = points[..., 0] + self.dx(t).reshape(shape) * np.sin(self.ky * points[..., 1])
        y = points[..., 1] + self.dy(t).reshape(shape) * np.sin(self.kx * x)
        return np.stack([x, y], axis=-1)

    def straighten(
        self, x: NDArray[np.float32], y: NDArray[np.float32], t: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Coordinate grids, bent -> straight."""
        y = y - np.float32(self.dy.at(t)) * np.sin(np.float32(self.kx) * x)
        return x - np.float32(self.dx.at(t)) * np.sin(np.float32(self.ky) * y), y


@dataclass(frozen=True, slots=True)
class Figure:
    """An object: parts from back to front, and its pose over time.

    x, y, scale (pixels per unit, as logarithm), aspect (logarithm of width over height), angle (radians) are in image
    pixels, or in canvas pixels when a `camera` is given (then the object stands in the scene).
    depth: distance relative to the target (below 1 is in front of it); heat: 0..1 on the thermal picture.
    """

    parts: tuple[Part, ...]
    x: Signal
    y: Signal
    log_scale: Signal
    log_aspect: Signal = STILL
    angle: Signal = STILL
    wave: Wave = field(default_factory=Wave)
    camera: Camera | None = None
    depth: float = 1.0
    heat: float = 0.5
    opacity: float = 1.0
    shadow: float = 0.0
    softness: float = 0.6

    def matrices(self, ts: ArrayLike) -> Matrices:
        """[T, 2, 3] units of the object -> image pixels."""
        t = np.asarray(ts, dtype=np.float64)
        scale, half = np.exp(self.log_scale(t)), self.log_aspect(t) / 2
        m = turn_and_scale(self.angle(t), scale * np.exp(half), scale * np.exp(-half), self.x(t), self.y(t))
        return m if self.camera is None else compose(self.camera.matrices(t), m)

    def outlines(self, ts: ArrayLike) -> list[NDArray[np.float64]]:
        """Per part [T, C, 64, 2] in image pixels."""
        t = np.asarray(ts, dtype=np.float64)
        m = self.matrices(t)
        linear, shift = np.swapaxes(m[:, :, :2], 1, 2)[:, None], m[:, None, None, :, 2]
        found = []
        for part in self.parts:
            points = part.outline(t)
            if not self.wave.still:
                points = self.wave.bend(points, t)
            found.append(points @ linear + shift)
        return found

    def bounds(self, ts: ArrayLike) -> NDArray[np.float64]:
        """[T, 4] x0, y0, x1, y1 of the whole silhouette, in image pixels, not clipped."""
        outlines = self.outlines(ts)
        low = np.min([o.min(axis=(1, 2)) for o in outlines], axis=0)
        high = np.max([o.max(axis=(1, 2)) for o in outlines], axis=0)
        return np.concatenate([low, high], axis=1)
