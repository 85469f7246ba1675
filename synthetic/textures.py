"""Families of procedural textures: a random stream, a size and a colour ramp become an H x W x 3 uint8 picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Image
from synthetic.arrays import f32, u8
from synthetic.palette import Lut

Field = NDArray[np.float32]
Grey = NDArray[np.uint8]
Texture = Callable[[np.random.Generator, int, int, Lut, float], Image]


def fractal(rng: np.random.Generator, h: int, w: int, coarse: float, roughness: float, stretch: float = 1.0) -> Field:
    """[h, w] float32 of mean 0 and deviation 1: octaves of noise from cells of `coarse` pixels down to single ones.

    roughness: amplitude of each octave relative to the coarser one (0.5 is a 1/f-like field, 1 nearly white);
    stretch: cells are that many times longer across than down.
    """
    octaves = max(1, int(np.log2(max(2.0, coarse))))
    field: Field | None = None
    gain = 1.0
    for k in range(octaves, -1, -1):
        rows, columns = max(2, -(-h // 2**k)), max(2, int(-(-w // (2**k * stretch))))
        fine = rng.random((rows, columns), dtype=np.float32) * gain
        if field is None:
            field = fine
        else:
            field = f32(cv2.resize(field, (columns, rows), interpolation=cv2.INTER_LINEAR))
            field += fine
        gain *= roughness
    assert field is not None
    if field.shape != (h, w):
        field = f32(cv2.resize(field, (w, h), interpolation=cv2.INTER_LINEAR))
    mean, deviation = cv2.meanStdDev(field)
    return (field - np.float32(mean[0, 0])) * np.float32(1.0 / max(float(deviation[0, 0]), 1e-6))


def paint(field: Field, lut: Lut, spread: float = 50.0) -> Image:
    """Colours for a field of mean 0 and deviation 1."""
    return u8(cv2.applyColorMap(cv2.convertScaleAbs(np.clip(field * spread + 127.5, 0, 255)), lut))


def axes(h: int, w: int, angle: float) -> tuple[Field, Field]:
    """Pixel coordinates along and across the direction `angle` (radians)."""
    y, x = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * c + y * s, y * c - x * s


def cloud(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    return paint(fractal(rng, h, w, scale * 4, rng.uniform(0.4, 0.95)), lut, rng.uniform(25, 65))


def streaks(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    field = fractal(rng, h, w, scale * 2, rng.uniform(0.5, 0.9), stretch=rng.uniform(4, 14))
    if rng.random() < 0.5:
        field = np.ascontiguousarray(cv2.resize(field, (h, w)).T) if h != w else np.ascontiguousarray(field.T)
    return paint(field, lut)


def gravel(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    fine = rng.random((h, w), dtype=np.float32)
    field = cv2.GaussianBlur(fine, (0, 0), float(np.clip(scale / 12, 0.6, 2.5)))
    mean, deviation = cv2.meanStdDev(field)
    return paint((field - mean[0, 0]).astype(np.float32) / max(float(deviation[0, 0]), 1e-6), lut, rng.uniform(20, 60))


def gradient(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    along, _ = axes(h, w, rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.4:
        cx, cy = rng.uniform(0, w), rng.uniform(0, h)
        along = np.hypot(np.arange(w, dtype=np.float32)[None] - cx, np.arange(h, dtype=np.float32)[:, None] - cy)
    low, high = float(along.min()), float(along.max())
    return u8(cv2.applyColorMap(cv2.convertScaleAbs((along - low) * (255.0 / max(high - low, 1e-6))), lut))


def stripes(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    along, across = axes(h, w, rng.uniform(0, np.pi))
    bend = rng.uniform(0, 1.5) * np.sin(across * np.float32(2 * np.pi / (scale * rng.uniform(3, 8))))
    wave = np.sin(along * np.float32(2 * np.pi / scale) + bend)
    sharp = rng.uniform(1, 8)
    return u8(cv2.applyColorMap(cv2.convertScaleAbs(127.5 + 127.5 * np.tanh(sharp * wave)), lut))


def checks(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    along, across = axes(h, w, rng.uniform(0, np.pi))
    k = np.float32(2 * np.pi / scale)
    a, b = np.sin(along * k), np.sin(across * (k * np.float32(rng.uniform(0.6, 1.4))))
    wave = a * b if rng.random() < 0.5 else np.maximum(a, b) * 2 - 0.6
    tone = np.clip(127.5 + 127.5 * np.tanh(rng.uniform(2, 8) * wave), 0, 255)
    return u8(cv2.applyColorMap(cv2.convertScaleAbs(tone), lut))


def cells(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    """Voronoi cells: flat, with dark seams, or domed (pebbles)."""
    hh, ww = -(-h // 2), -(-w // 2)
    count = int(np.clip(4 * hh * ww / scale**2, 6, 1500))
    mask = np.full((hh, ww), 255, np.uint8)
    mask[rng.integers(0, hh, count), rng.integers(0, ww, count)] = 0
    reach, label = cv2.distanceTransformWithLabels(mask, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    tone = rng.integers(20, 236, int(label.max()) + 1).astype(np.float32)[label]
    style = rng.random()
    if style < 0.4:
        tone = tone - reach * np.float32(rng.uniform(60, 200) / scale)
    elif style < 0.7:
        tone = reach * np.float32(380.0 / scale) + tone * 0.2
    grey = cv2.resize(np.clip(tone, 0, 255).astype(np.uint8), (w, h), interpolation=cv2.INTER_LINEAR)
    return u8(cv2.applyColorMap(grey, lut))


def bricks(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    high, wide = max(4.0, scale * 0.5), max(6.0, scale * rng.uniform(0.8, 1.6))
    rows, columns = int(h / high) + 2, int(w / wide) + 2
    tone = rng.integers(90, 236, (rows, columns + 1), dtype=np.uint8)
    y = (np.arange(h) / high).astype(np.int64)
    shift = (y % 2) * 0.5 * (rng.random() < 0.7)
    x = np.arange(w)[None] / wide + shift[:, None]
    grey = tone[y[:, None], x.astype(np.int64)]
    seam = max(1.0, scale * rng.uniform(0.03, 0.12))
    dark = ((x % 1.0) * wide < seam) | ((np.arange(h)[:, None] % high) < seam)
    grey[dark] = rng.integers(0, 60)
    return u8(cv2.applyColorMap(grey, lut))


def _dabs(rng: np.random.Generator, h: int, w: int, lut: Lut, count: int, base: int) -> tuple[Image, Image]:
    canvas = np.empty((h, w, 3), np.uint8)
    canvas[:] = lut[base, 0]
    return canvas, lut[rng.integers(0, 256, count), 0]


def blobs(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    count = int(np.clip(1.5 * h * w / scale**2, 8, 500))
    canvas, colours = _dabs(rng, h, w, lut, count, int(rng.integers(256)))
    xs, ys = rng.integers(0, w, count).tolist(), rng.integers(0, h, count).tolist()
    radii = np.maximum(1, scale * rng.uniform(0.1, 0.5, count)).astype(int).tolist()
    for x, y, r, c in zip(xs, ys, radii, colours.tolist(), strict=True):
        cv2.circle(canvas, (x, y), r, c, -1, cv2.LINE_AA)
    return canvas


def blades(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    """Strokes in one main direction: grass, hair, straw, twigs."""
    count = int(np.clip(14 * h * w / scale**2, 60, 1300))
    canvas = cloud(rng, h, w, lut, scale)
    colours = lut[rng.integers(0, 256, count), 0].tolist()
    start = rng.uniform(0, 1, (count, 2)) * (w, h)
    angle = rng.uniform(0, np.pi) + rng.normal(0, rng.uniform(0.1, 0.8), count)
    reach = scale * rng.uniform(0.3, 1.0, count)
    end = start + np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None]
    thick = 1 if scale < 24 else 2
    for p, q, c in zip(start.astype(int).tolist(), end.astype(int).tolist(), colours, strict=True):
        cv2.line(canvas, p, q, c, thick)
    return canvas


def leaves(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    """Overlapping leaves, the deeper ones darker."""
    count = int(np.clip(7 * h * w / scale**2, 40, 700))
    canvas, _ = _dabs(rng, h, w, lut, 1, 0)
    tone = np.clip(np.linspace(30, 220, count) + rng.normal(0, 30, count), 0, 255).astype(int)
    colours = lut[tone, 0].tolist()
    xs, ys = rng.integers(0, w, count).tolist(), rng.integers(0, h, count).tolist()
    long = np.maximum(2, scale * rng.uniform(0.2, 0.5, count)).astype(int).tolist()
    turn = rng.uniform(0, 180, count).tolist()
    for x, y, r, a, c in zip(xs, ys, long, turn, colours, strict=True):
        cv2.ellipse(canvas, (x, y), (r, max(1, r // 3)), a, 0, 360, c, -1)
    return canvas


def script(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    """Lines of letters and numbers, as on signs, shirts and packaging."""
    canvas, _ = _dabs(rng, h, w, lut, 1, int(rng.integers(160, 256)))
    letters = np.array(list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789abdeghkmnpqrstuy&?!-+"))
    size = float(np.clip(scale / 22.0, 0.3, 3.0))
    font = int(rng.integers(0, 8))
    y = float(rng.uniform(0, scale))
    while y < h + scale:
        line = "".join(rng.choice(letters, int(rng.integers(3, 14))))
        colour = lut[int(rng.integers(0, 110)), 0].tolist()
        at = (int(rng.uniform(-scale, w * 0.5)), int(y))
        cv2.putText(canvas, line, at, font, size, colour, max(1, int(size * 2)), cv2.LINE_AA)
        y += scale * rng.uniform(1.0, 2.5)
    return canvas


def windows(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    """A facade or a shelf: a grid of framed boxes, each in its own tone."""
    canvas, _ = _dabs(rng, h, w, lut, 1, int(rng.integers(256)))
    dy, dx = scale * rng.uniform(1.0, 2.2), scale * rng.uniform(0.8, 2.2)
    fill_y, fill_x = rng.uniform(0.4, 0.9, 2)
    fixed = int(rng.integers(256)) if rng.random() < 0.5 else None
    for y in np.arange(rng.uniform(-dy, 0), h, dy):
        for x in np.arange(rng.uniform(-dx, 0), w, dx):
            tone = int(rng.integers(256)) if fixed is None else int(np.clip(fixed + rng.normal(0, 25), 0, 255))
            corner = (int(x + dx * fill_x), int(y + dy * fill_y))
            cv2.rectangle(canvas, (int(x), int(y)), corner, lut[tone, 0].tolist(), -1)
    return canvas


def smooth(rng: np.random.Generator, h: int, w: int, lut: Lut, scale: float) -> Image:
    """Hardly any texture: soft shading only."""
    field = cv2.resize(rng.standard_normal((3, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    return paint(f32(field), lut, rng.uniform(8, 40))


TEXTURES: dict[str, Texture] = {
    "cloud": cloud,
    "streaks": streaks,
    "gravel": gravel,
    "gradient": gradient,
    "stripes": stripes,
    "checks": checks,
    "cells": cells,
    "bricks": bricks,
    "blobs": blobs,
    "blades": blades,
    "leaves": leaves,
    "script": script,
    "windows": windows,
    "smooth": smooth,
}


def draw(rng: np.random.Generator, name: str, h: int, w: int, lut: Lut, scale: float) -> Image:
    """The texture `name` with features of about `scale` pixels."""
    return TEXTURES[name](rng, h, w, lut, scale)
