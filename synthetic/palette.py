"""Colours that belong together: materials of outdoor and indoor scenes, and anything goes for objects."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Palette = NDArray[np.uint8]
Lut = NDArray[np.uint8]

# hue (degrees), hue spread, saturation low-high, value low-high (both 0..1)
MATERIALS: dict[str, tuple[float, float, float, float, float, float]] = {
    "grass": (95, 25, 0.25, 0.75, 0.15, 0.75),
    "dry_grass": (48, 14, 0.12, 0.45, 0.25, 0.75),
    "foliage": (110, 30, 0.3, 0.8, 0.06, 0.6),
    "soil": (28, 12, 0.2, 0.55, 0.15, 0.6),
    "sand": (38, 8, 0.15, 0.4, 0.5, 0.95),
    "concrete": (40, 60, 0.0, 0.12, 0.35, 0.8),
    "asphalt": (220, 60, 0.0, 0.12, 0.12, 0.45),
    "sky": (208, 14, 0.1, 0.6, 0.6, 1.0),
    "water": (200, 25, 0.2, 0.7, 0.15, 0.7),
    "wood": (26, 8, 0.3, 0.7, 0.2, 0.75),
    "brick": (12, 10, 0.3, 0.7, 0.25, 0.65),
    "snow": (210, 20, 0.0, 0.08, 0.75, 1.0),
    "wall": (45, 40, 0.02, 0.25, 0.55, 0.95),
    "night": (230, 40, 0.1, 0.5, 0.03, 0.3),
    "skin": (20, 7, 0.25, 0.6, 0.35, 0.95),
    "fur": (28, 12, 0.1, 0.6, 0.08, 0.8),
}


def to_rgb(hsv: NDArray[np.float64]) -> Palette:
    """[K, 3] hue in degrees, saturation and value in 0..1 -> [K, 3] uint8 RGB."""
    x = hsv.astype(np.float32)[None]
    x[..., 0] %= 360.0
    rgb = cv2.cvtColor(x, cv2.COLOR_HSV2RGB)[0]
    return np.clip(rgb * 255.0, 0, 255).astype(np.uint8)


def material(rng: np.random.Generator, name: str, colours: int = 4) -> Palette:
    """[K, 3] uint8 colours of one material, from dark to light."""
    hue, spread, s0, s1, v0, v1 = MATERIALS[name]
    middle = rng.uniform(v0, v1)
    width = rng.uniform(0.1, 0.5) * (v1 - v0)
    hsv = np.stack(
        [
            hue + rng.uniform(-spread, spread) * 0.7 + rng.uniform(-spread, spread, colours) * 0.3,
            np.clip(rng.uniform(s0, s1) + rng.uniform(-0.1, 0.1, colours), 0, 1),
            np.clip(np.sort(middle + rng.uniform(-width, width, colours)), 0.02, 1),
        ],
        axis=1,
    )
    return to_rgb(hsv)


def any_material(rng: np.random.Generator, colours: int = 4) -> Palette:
    return material(rng, list(MATERIALS)[rng.integers(len(MATERIALS))], colours)


def object_palette(rng: np.random.Generator) -> Palette:
    """[3, 3] uint8 main, second and accent colour of an object: vivid, plain white / grey / black, or a material."""
    kind = rng.random()
    if kind < 0.35:
        hue = rng.uniform(0, 360)
        hues = np.array([hue, hue + rng.choice([0.0, 15.0, 120.0, 180.0]), rng.uniform(0, 360)])
        hsv = np.stack([hues, rng.uniform(0.3, 1.0, 3), rng.uniform(0.25, 1.0, 3)], axis=1)
        return to_rgb(hsv)
    if kind < 0.6:
        level = rng.choice([rng.uniform(0.75, 1.0), rng.uniform(0.03, 0.25), rng.uniform(0.3, 0.7)])
        levels = np.clip(level + np.array([0.0, rng.uniform(-0.25, 0.25), rng.uniform(-0.5, 0.5)]), 0.02, 1)
        return to_rgb(np.stack([rng.uniform(0, 360, 3), rng.uniform(0, 0.12, 3), levels], axis=1))
    first = any_material(rng, 3)
    rng.shuffle(first)
    if rng.random() < 0.5:
        first[1] = any_material(rng, 3)[1]
    return first


def near(rng: np.random.Generator, palette: Palette, reach: float) -> Palette:
    """Colours at most about `reach` grey levels from those of `palette`."""
    shift = rng.uniform(-reach, reach) + rng.uniform(-0.3, 0.3, (len(palette), 3)) * reach
    return np.clip(palette.astype(np.float64) + shift, 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _ramp_weights(colours: int) -> NDArray[np.float64]:
    """[256, K]: share of each of K colours along a ramp."""
    at = np.linspace(0, colours - 1, 256)[:, None]
    return np.clip(1 - np.abs(at - np.arange(colours)), 0, 1)


def ramp(colours: Palette) -> Lut:
    """[256, 1, 3] uint8 table that runs through the colours in order (for `cv2.applyColorMap`)."""
    return (_ramp_weights(len(colours)) @ colours).round().astype(np.uint8)[:, None]


def distance(a: Palette, b: Palette) -> float:
    """Difference of two sets of colours: distance of their mean colours in CIE Lab (about 2 is just noticeable)."""
    means = np.stack([a.mean(0), b.mean(0)])[None].round().astype(np.uint8)
    lab = cv2.cvtColor(means, cv2.COLOR_RGB2LAB)[0].astype(np.float64) * (100 / 255, 1, 1)
    return float(np.linalg.norm(lab[0] - lab[1]))
