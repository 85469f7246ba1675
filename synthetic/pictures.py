"""Photographs and cut-outs for worlds: scenes, surfaces and silhouettes that nobody drew by formula."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Image
from synthetic.arrays import f32, u8
from synthetic.figure import FigurePart, Skin
from synthetic.palette import Palette
from synthetic.shapes import Contours, resample

CUTOUT = "cutout"
"""The form of a target whose silhouette is that of a cut-out."""


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """A folder with photographs in `photos/` and pictures with transparency in `cutouts/`.

    Attributes:
        photos, cutouts: Files, in the order of their names: the same folder gives the same worlds.
    """

    photos: tuple[str, ...]
    cutouts: tuple[str, ...]

    def dress(self, rng: np.random.Generator, parts: tuple[FigurePart, ...]) -> tuple[FigurePart, ...]:
        """Give about half of the surfaces of an object a piece of a photograph; those that share a skin stay alike."""
        photo, share = self.photos[rng.integers(len(self.photos))], rng.choice([0.0, 0.5, 1.0])
        chosen = {part.skin.seed: rng.random() < share for part in parts}
        return tuple(
            replace(part, skin=replace(part.skin, picture=photo)) if chosen[part.skin.seed] else part for part in parts
        )

    def cutout(self, rng: np.random.Generator, skin: Skin) -> tuple[FigurePart, ...]:
        """An object with the silhouette of a cut-out, and mostly its picture."""
        file = self.cutouts[rng.integers(len(self.cutouts))]
        look = replace(skin, picture=file, whole=True, mark="") if rng.random() < 0.6 else skin
        return (FigurePart(read_cutout(file)[1] * np.array([rng.choice([-1, 1]), 1], np.float32), look),)


@lru_cache(maxsize=4)
def open_pictures(folder: str) -> PictureFolder:
    """The pictures of a folder; ValueError where it has none."""
    found = [tuple(sorted(str(p) for p in (Path(folder) / kind).glob("*.*"))) for kind in ("photos", "cutouts")]
    if not all(found):
        raise ValueError(
            f"pictures {folder!r}: expected photographs in {folder}/photos and pictures with transparency in "
            f"{folder}/cutouts; python scripts/collect_pictures.py fills such a folder from free packages"
        )
    return PictureFolder(*found)


@lru_cache(maxsize=128)
def read_photo(file: str) -> Image:
    """[H, W, 3] RGB."""
    picture = cv2.imread(file, cv2.IMREAD_COLOR)
    if picture is None:
        raise OSError(f"{file} is no picture that OpenCV reads")
    return u8(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


@lru_cache(maxsize=512)
def read_cutout(file: str) -> tuple[Image, Contours]:
    """[H, W, 3] RGB of a cut-out, transparent parts filled from the nearest edge, and outlines, two units across."""
    picture = cv2.imread(file, cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        raise OSError(f"{file} is no picture with transparency")
    solid = u8(picture[..., 3] > 127)
    outlines = [c for c in cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0] if len(c) > 8]
    if not outlines:
        raise OSError(f"{file} is transparent")
    corners = np.concatenate(outlines).reshape(-1, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    _, nearest = cv2.distanceTransformWithLabels(1 - solid, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    rows = np.zeros(int(nearest.max()) + 1, np.int64)
    rows[nearest[solid > 0]] = np.flatnonzero(solid)
    filled = picture[..., 2::-1].reshape(-1, 3)[rows[nearest]]
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    shapes = np.stack([resample(c.reshape(-1, 2).astype(np.float64)) for c in outlines])
    box = filled[low[1] : high[1] + 1, low[0] : high[0] + 1]
    return np.ascontiguousarray(box), ((shapes - middle) / half).astype(np.float32)


def piece(rng: np.random.Generator, photo: Image, h: int, w: int, share: tuple[float, float]) -> Image:
    """[h, w, 3] some part of a photograph, mirrored or not, in other light.

    Args:
        rng: Draws it.
        photo: [H, W, 3].
        h: Height in pixels.
        w: Width in pixels.
        share: Least and largest part of what fits.
    """
    high, wide = photo.shape[:2]
    scale = min(high / h, wide / w) * rng.uniform(*share)
    ch, cw = max(2, int(h * scale)), max(2, int(w * scale))
    y, x = (int(rng.uniform(0, 1) * (most - cut)) for most, cut in ((high, ch), (wide, cw)))
    part = photo[y : y + ch, x : x + cw]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return tint(rng, u8(cv2.resize(part, (w, h), interpolation=method)))


def tint(rng: np.random.Generator, picture: Image) -> Image:
    """Other colours: hue, saturation and light."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float32)
    turn = rng.uniform(0, 180) if rng.random() < 0.25 else rng.normal(0, 6)
    hsv[..., 0] = (hsv[..., 0] + np.float32(turn)) % 180
    factors = np.array([np.exp(rng.normal(-0.1, 0.35)), np.exp(rng.normal(0, 0.25))], np.float32)
    hsv[..., 1:] = np.minimum(hsv[..., 1:] * factors, 255)
    return u8(cv2.cvtColor(u8(hsv), cv2.COLOR_HSV2RGB))


def paint_skin(rng: np.random.Generator, skin: Skin, h: int, w: int, pad: float) -> Image:
    """[h, w, 3] the surface of a part from its picture, moved a little towards the object's colours.

    Args:
        rng: Draws it.
        skin: With a picture.
        h: Height in pixels.
        w: Width in pixels.
        pad: Margin on each side as a share of the longer one, around the outline of a cut-out.
    """
    if skin.whole:
        edge = round(pad / (1 + 2 * pad) * max(h, w))
        inner = cv2.resize(read_cutout(skin.picture)[0], (max(1, w - 2 * edge), max(1, h - 2 * edge)))
        picture = u8(cv2.copyMakeBorder(inner, edge, h - inner.shape[0] - edge, edge, w - inner.shape[1] - edge, 1))
    else:
        picture = piece(rng, read_photo(skin.picture), h, w, (0.08, 0.6))
    shift = f32(skin.colours).mean(axis=0) - f32(picture).mean(axis=(0, 1))
    towards = np.float32(0.15 if skin.whole else rng.choice([0.2, 0.9]))
    return u8(np.clip(picture + towards * shift, 0, 255))


def colours_of(rng: np.random.Generator, picture: Image) -> Palette:
    """[4, 3] colours of some of its pixels, from dark to light."""
    pixels: NDArray[np.uint8] = picture.reshape(-1, 3)
    chosen = pixels[rng.integers(len(pixels), size=4)]
    return chosen[chosen.sum(axis=1).argsort()]
