"""Augmentation of a tracker's first frame: crops of one enlarged patch, from which an online filter learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Pixels, warp_affine
from lib.ranges import CountOrNone, NotNegative, Range, Rate

Signed = Annotated[float, Range(-10, 10)]
Degrees = Annotated[float, Range(-360, 360)]


@dataclass(frozen=True)
class FirstFrameAugment:
    """Samples that are made of the first frame besides the target as it is, in this order; TrDiMP's values.

    Attributes:
        relative_shift: Translations [y, x] in units of half the crop's side.
        flip: One crop is mirrored; the target is in its middle.
        blur: Standard deviations [y, x] of Gaussians in pixels.
        rotate: Angles in degrees.
        dropout: Copies of the first sample's features with channels left out.
        dropout_rate: Share of the channels that are left out.
        expansion: Side of the patch over that of a crop.
        random_shift: Flipped, blurred and rotated crops are moved by up to half of this share of the crop's side.
    """

    relative_shift: tuple[tuple[Signed, ...], ...] = ((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6))
    flip: bool = True
    blur: tuple[tuple[NotNegative, ...], ...] = ((3.0, 1.0), (1.0, 3.0), (2.0, 2.0))
    rotate: tuple[Degrees, ...] = (10.0, -10.0, 45.0, -45.0)
    dropout: CountOrNone = 2
    dropout_rate: Rate = 0.2
    expansion: Annotated[float, Range(1, 8)] = 2.0
    random_shift: NotNegative = 1 / 3

    def __post_init__(self) -> None:
        for key, pairs in (("RELATIVE_SHIFT", self.relative_shift), ("BLUR", self.blur)):
            if any(len(pair) != 2 for pair in pairs):
                raise ValueError(f"{key} needs a list of pairs [y, x], not {[list(pair) for pair in pairs]}")

    @property
    def crops(self) -> int:
        """Number of crops, the first one as it is."""
        return 1 + len(self.relative_shift) + self.moved

    @property
    def samples(self) -> int:
        """Number of samples: crops and their copies with channels left out."""
        return self.crops + self.dropout

    @property
    def moved(self) -> int:
        """Number of crops that are moved at random."""
        return int(self.flip) + len(self.blur) + len(self.rotate)

    @property
    def draws(self) -> int:
        """Random numbers that `shifts` needs."""
        return 2 * self.moved if self.random_shift else 0

    def shifts(self, size: int, uniform: NDArray[np.floating]) -> NDArray[np.int64]:
        """Translations of the crops, whole pixels.

        Args:
            size: Side of a crop.
            uniform: [draws] random numbers in 0..1.

        Returns:
            [crops, 2] y, x.
        """
        fixed = [(0.0, 0.0), *((y * size / 2, x * size / 2) for y, x in self.relative_shift)]
        # In single precision, since whole numbers depend on it.
        drawn = (uniform.astype(np.float32) - np.float32(0.5)) * np.float32(size) * np.float32(self.random_shift)
        drawn = drawn.reshape(-1, 2) if len(drawn) else np.zeros((self.moved, 2), np.float32)
        return np.concatenate([np.array(fixed), drawn]).astype(np.int64)

    def crop(self, patch: Pixels, size: int, shifts: NDArray[np.int64]) -> Pixels:
        """The crops of an enlarged patch.

        Args:
            patch: [P, P, 3] float32, the target in its middle.
            size: Side of the crops.
            shifts: [crops, 2] y, x of `shifts`.

        Returns:
            [crops, size, size, 3].
        """
        patches = [patch] * (1 + len(self.relative_shift))
        patches += [np.asarray(cv2.flip(patch, 1))] * self.flip
        patches += [_blurred(patch, sigmas) for sigmas in self.blur]
        patches += [_rotated(patch, degrees) for degrees in self.rotate]
        return np.stack([_moved(p, size, y, x) for p, (y, x) in zip(patches, shifts.tolist(), strict=True)])


def _blurred(patch: Pixels, sigmas: Sequence[float]) -> Pixels:
    """Gaussian blur with zeros beyond the patch."""
    kernels = []
    for sigma in sigmas:
        radius = math.ceil(2 * sigma)
        line = np.exp(-(np.arange(-radius, radius + 1, dtype=np.float64) ** 2) / (2 * max(sigma, 1e-6) ** 2))
        kernels.append((line / line.sum()).astype(np.float32))
    vertical, horizontal = kernels
    return np.asarray(cv2.sepFilter2D(patch, -1, horizontal, vertical, borderType=cv2.BORDER_CONSTANT))


def _rotated(patch: Pixels, degrees: float) -> Pixels:
    """Rotation around the patch's middle, its border replicated."""
    angle, middle = math.radians(degrees), np.array([[(len(patch) - 1) / 2]] * 2)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = np.concatenate([turn, middle - turn @ middle], axis=1)
    return warp_affine(patch, matrix, (patch.shape[1], patch.shape[0]))


def _moved(patch: Pixels, size: int, y: int, x: int) -> Pixels:
    """The middle of the patch after a translation, its border replicated."""
    first = -math.floor(-(len(patch) - size) / 2)
    rows, columns = (np.arange(first - s, first - s + size).clip(0, len(patch) - 1) for s in (y, x))
    return np.asarray(patch[rows[:, None], columns])
