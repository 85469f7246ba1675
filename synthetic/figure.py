"""Objects of the world: outlines with joints and swings, posed in the picture by a matrix for every moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthetic.palette import Palette
from synthetic.shapes import Contours
from synthetic.signals import STILL, Array, Signal

Moment = float | Array
"""One time in frames, or [T] of them; results then have a leading axis T."""
Matrices = NDArray[np.float64]
"""[2, 3] or [T, 2, 3]: affine maps."""


def lift(value: float | Array, axes: int) -> float | Array:
    """[T] -> [T, 1, ..., 1] with `axes` ones; a number stays one."""
    return value.reshape(-1, *(1,) * axes) if isinstance(value, np.ndarray) else value


def compose(outer: Matrices, inner: Matrices) -> Matrices:
    """The map `inner` first, then `outer`."""
    out = outer[..., :2] @ inner
    out[..., 2] += outer[..., 2]
    return np.asarray(out)


def inverse(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2, 3] -> [2, 3]."""
    (a, b, x), (c, d, y) = m.tolist()
    k = 1.0 / (a * d - b * c)
    a, b, c, d = d * k, -b * k, -c * k, a * k
    return np.array([[a, b, -a * x - b * y], [c, d, -c * x - d * y]])


def turn_and_scale(angle: Moment, sx: Moment, sy: Moment, x: Moment, y: Moment) -> Matrices:
    """Scale along the axes, turn by `angle` (radians), shift to (x, y)."""
    c, s = np.cos(angle), np.sin(angle)
    m = np.array([[c * sx, -s * sy, x], [s * sx, c * sy, y]], dtype=np.float64)
    return m if m.ndim == 2 else np.moveaxis(m, -1, 0)


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

    def matrices(self, t: Moment) -> Matrices:
        """Canvas pixels -> image pixels."""
        zoom = np.exp(self.log_zoom(t))
        x = self.width / 2 + self.shake_x(t)
        y = self.height / 2 + self.shake_y(t)
        m = turn_and_scale(self.angle(t), zoom, zoom, x, y)
        pan_x, pan_y = lift(self.pan_x(t), 1), lift(self.pan_y(t), 1)
        m[..., 2] -= m[..., 0] * pan_x + m[..., 1] * pan_y
        return m


@dataclass(frozen=True, slots=True)
class Skin:
    """Appearance of a part, shaded as if lit from one side.

    Attributes:
        texture: Name of a texture, painted in the object's colours.
        colours: Of the object.
        seed: Of the painting.
        scale: Size of the texture's features.
        shade: Strength of the light from one side.
        folds: Strength of folds.
        mark: What is on it.
        picture: File that the surface is cut from, in place of a texture.
        whole: The picture is a cut-out that covers the part.
    """

    texture: str
    colours: Palette
    seed: int
    scale: float = 0.4
    shade: float = 0.5
    folds: float = 0.0
    mark: str = ""
    picture: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class FigurePart:
    """One outline around its own joint; it may swing about the joint and morph into a second outline.

    Attributes:
        contours: [C, 64, 2] in units of the object, relative to the joint.
        skin: Texture and shading.
        joint: (x, y) in the object.
        swing: Angle about the joint, radians.
        other: Second outline, like `contours`.
        morph: Share of the second outline.
    """

    contours: Contours
    skin: Skin
    joint: tuple[float, float] = (0.0, 0.0)
    swing: Signal = STILL
    other: Contours | None = None
    morph: Signal = STILL

    def outline(self, t: Moment) -> NDArray[np.float64]:
        """[C, 64, 2] or [T, C, 64, 2] in units of the object."""
        points: NDArray[np.float64] = self.contours.astype(np.float64)
        if self.other is not None:
            points = points + lift(self.morph(t), 3) * (self.other - self.contours)
        angle = lift(self.swing(t), 2)
        c, s = np.cos(angle), np.sin(angle)
        x, y = points[..., 0], points[..., 1]
        return np.stack([c * x - s * y + self.joint[0], s * x + c * y + self.joint[1]], axis=-1)

    def extent(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 around every outline the part can task, relative to the joint."""
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

    def bend(self, points: NDArray[np.float64], t: Moment) -> NDArray[np.float64]:
        """Outlines, straight -> bent."""
        x = points[..., 0] + lift(self.dx(t), 2) * np.sin(self.ky * points[..., 1])
        y = points[..., 1] + lift(self.dy(t), 2) * np.sin(self.kx * x)
        return np.stack([x, y], axis=-1)

    def straighten(
        self, x: NDArray[np.float32], y: NDArray[np.float32], t: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Coordinate grids, bent -> straight."""
        y = y - np.float32(self.dy(t)) * np.sin(np.float32(self.kx) * x)
        return x - np.float32(self.dx(t)) * np.sin(np.float32(self.ky) * y), y


@dataclass(frozen=True, slots=True)
class Figure:
    """An object: parts from back to front, and its pose over time.

    Positions are in image pixels, or in canvas pixels if a `camera` is given (then the object stands in the scene).

    Attributes:
        parts: From back to front.
        x: Position of the centre.
        y: Position of the centre.
        log_scale: Logarithm of the pixels per unit.
        log_aspect: Logarithm of width over height.
        angle: Radians.
        wave: A bend that runs through the object.
        camera: The camera of the scene that it stands in.
        depth: Distance relative to the target; below 1 is in front of it.
        heat: 0..1 on the thermal picture.
        opacity: Share of what is behind that is hidden.
        shadow: Strength of the shadow on the ground.
        softness: Blur of the outline in pixels.
        kind: The form that it was built from.
    """

    parts: tuple[FigurePart, ...]
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
    kind: str = ""

    def matrices(self, t: Moment) -> Matrices:
        """Units of the object -> image pixels."""
        scale, stretch = np.exp(self.log_scale(t)), np.exp(self.log_aspect(t) / 2)
        m = turn_and_scale(self.angle(t), scale * stretch, scale / stretch, self.x(t), self.y(t))
        return m if self.camera is None else compose(self.camera.matrices(t), m)

    def outlines(self, t: Moment) -> list[NDArray[np.float64]]:
        """Per part [C, 64, 2] or [T, C, 64, 2] in image pixels."""
        m = self.matrices(t)
        linear, shift = np.swapaxes(m[..., :2], -1, -2), m[..., 2]
        if m.ndim == 3:
            linear, shift = linear[:, None], shift[:, None, None]
        found = []
        for part in self.parts:
            points = part.outline(t)
            if not self.wave.still:
                points = self.wave.bend(points, t)
            found.append(points @ linear + shift)
        return found


def bounds(outlines: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """[4] or [T, 4]: x0, y0, x1, y1 around all the outlines of a figure, not clipped."""
    low = np.min([o.min(axis=(-3, -2)) for o in outlines], axis=0)
    high = np.max([o.max(axis=(-3, -2)) for o in outlines], axis=0)
    return np.concatenate([low, high], axis=-1)
