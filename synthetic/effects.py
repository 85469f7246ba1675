"""From a clean picture to a photograph: light, lens, sensor, compression."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Image
from synthetic.arrays import u8


@dataclass(frozen=True, slots=True)
class PhotoSettings:
    """Light, lens, sensor and compression of one sequence.

    Attributes:
        gains: Colour cast, a factor for each channel.
        gamma: Exponent on 0..1.
        contrast: Factor around mid-grey.
        vignette: Darkening of the corners, 0..1.
        pool: Strength of uneven light over the picture.
        noise: Standard deviation in grey levels.
        defocus: Sigma in pixels.
        shrink: The picture is taken at that share of its size; below 1 loses detail.
        jpeg: Quality, or None.
    """

    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    contrast: float = 1.0
    vignette: float = 0.0
    pool: float = 0.0
    noise: float = 0.0
    defocus: float = 0.0
    shrink: float = 1.0
    jpeg: int | None = None


def draw_photo_settings(rng: np.random.Generator, difficulty: float, dark: bool) -> PhotoSettings:
    rough = 0.4 + 1.2 * difficulty
    return PhotoSettings(
        gains=tuple(np.exp(rng.normal(0, 0.07, 3)).tolist()),
        gamma=float(np.exp(rng.normal(0, 0.18))),
        contrast=float(rng.uniform(0.65, 1.15)),
        vignette=float(rng.uniform(0.1, 0.5)) if rng.random() < 0.3 else 0.0,
        pool=float(rng.uniform(0.1, 0.3)) if rng.random() < 0.3 else 0.0,
        noise=float(rng.uniform(2, 7) if dark else rng.uniform(0.3, 2.5 + 2 * rng.random() ** 3)) * rough,
        defocus=float(rng.uniform(0.5, 1.6)) * rough if rng.random() < 0.3 else 0.0,
        shrink=float(rng.uniform(0.45, 0.9)) if rng.random() < 0.3 else 1.0,
        jpeg=int(rng.integers(25, 80)) if rng.random() < 0.3 else None,
    )


def camcorder(rng: np.random.Generator, look: PhotoSettings) -> PhotoSettings:
    """The same light through a cheaper lens and a coarser codec, mostly."""
    return replace(
        look,
        defocus=float(rng.uniform(0.5, 2.2)) if rng.random() < 0.4 else look.defocus,
        shrink=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.4 else look.shrink,
        jpeg=int(rng.integers(10, 60)) if rng.random() < 0.6 else look.jpeg,
    )


class PhotoEffects:
    """Applies `PhotoSettings`; holds what all frames of a sequence share (tables, maps, a sheet of noise)."""

    def __init__(self, look: PhotoSettings, seed: int, width: int, height: int) -> None:
        self._look = look
        self._seed = seed
        rng = np.random.default_rng(seed)
        grid = np.linspace(0, 1, 256)
        tone = np.clip(0.5 + look.contrast * (grid**look.gamma - 0.5), 0, 1) * 255
        table = np.stack([np.clip(tone * g, 0, 255) for g in look.gains], axis=1)
        self._table = table.round().astype(np.uint8).reshape(1, 256, 3)
        self._shading = self._shade(rng, width, height)
        self._grain = None
        if look.noise > 0.5:
            grain = rng.standard_normal((height + 48, width + 48), dtype=np.float32)
            self._grain = cv2.GaussianBlur(grain, (3, 3), 0.45) * np.float32(look.noise * 1.3)

    def _shade(self, rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32] | None:
        if not self._look.vignette and not self._look.pool:
            return None
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        shade = 1 - np.float32(self._look.vignette) * (x * x + y * y) / 2
        if self._look.pool:
            soft = rng.normal(0, self._look.pool, (3, 4)).astype(np.float32)
            shade = shade * np.exp(cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC))
        return np.asarray(cv2.merge([shade.astype(np.float32)] * 3))

    def develop(self, picture: Image, t: int, light: float) -> Image:
        """The photograph of a clean RGB picture of frame t under `light` times daylight."""
        look = self._look
        height, width = picture.shape[:2]
        if self._shading is not None:
            picture = u8(cv2.multiply(picture, self._shading, scale=light, dtype=cv2.CV_8U))
        elif abs(light - 1) > 0.01:
            picture = u8(cv2.convertScaleAbs(picture, alpha=light))
        if look.defocus > 0.3:
            picture = u8(cv2.GaussianBlur(picture, (0, 0), look.defocus))
        if look.shrink < 1:
            small = (int(width * look.shrink), int(height * look.shrink))
            picture = u8(cv2.resize(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (width, height)))
        picture = u8(cv2.LUT(picture, self._table))
        if self._grain is not None:
            picture = self._add_noise(picture, t)
        if look.jpeg is not None:
            # Red and blue change places in the codec and change back: only the artefacts count.
            coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])[1]
            picture = u8(cv2.imdecode(coded, cv2.IMREAD_COLOR))
        return picture

    def _add_noise(self, picture: Image, t: int) -> Image:
        assert self._grain is not None
        height, width = picture.shape[:2]
        corners = np.random.default_rng([self._seed, t]).integers(0, 48, (3, 2)).tolist()
        layers = [self._grain[y : y + height, x : x + width] for y, x in corners]
        return u8(cv2.add(picture, cv2.merge(layers), dtype=cv2.CV_8U))
