"""Warps have the pixels of their definition, whichever OpenCV is installed and whichever of the two ways is taken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.data import warp_affine


def defined(
    image: NDArray[Any], matrix: NDArray[np.float64], size: int, border: tuple[float, ...] | None
) -> NDArray[np.float64]:
    """[size, size, C] by the formula of bilinear interpolation, pixel by pixel."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    height, width, channels = image.shape
    found = np.zeros((size, size, channels))
    for v, u in np.ndindex(size, size):
        x, y, _ = back @ [u, v, 1]
        for i in (math.floor(x), math.floor(x) + 1):
            for j in (math.floor(y), math.floor(y) + 1):
                inside = border is None or (0 <= i < width and 0 <= j < height)
                colour = image[np.clip(j, 0, height - 1), np.clip(i, 0, width - 1)] if inside else border
                found[v, u] += (1 - abs(x - i)) * (1 - abs(y - j)) * np.asarray(colour, np.float64)
    return found


COS, SIN = math.cos(0.4), math.sin(0.4)
MATRICES = {
    "shrunk": [[0.83, 0, -7.123], [0, 0.61, -3.456]],
    "enlarged": [[2.37, 0, 5.301], [0, 1.91, -14.77]],
    "rotated": [[COS, SIN, -6.2], [-SIN, COS, 13.9]],
    "a quarter turn": [[0, 1, -3.3], [-1, 0, 35.6]],
    "far away": [[1, 0, -500.5], [0, 1, 900.5]],
}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("border", [None, (90.0, 7.0, 250.0)])
@pytest.mark.parametrize("kind", MATRICES)
def test_pixels_are_those_of_the_definition(
    kind: str, border: tuple[float, ...] | None, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr("lib.data.affine.EXACT", False)
    matrix, size = np.array(MATRICES[kind]), 23
    image = np.random.default_rng(5).integers(0, 256, (41, 53, 3), dtype=np.uint8)
    whole = defined(image, matrix, size, border)
    for channels in (3, 1):
        given, beyond = image[..., :channels], None if border is None else border[:channels]
        expected = whole if channels == 3 else whole[..., 0]
        for picture in (given, given.astype(np.float32)):
            found = warp_affine(picture, matrix, (size, size), beyond)
            assert (found.dtype, found.shape) == (picture.dtype, expected.shape)
            np.testing.assert_allclose(found, expected, rtol=0, atol=0.51 if picture.dtype == np.uint8 else 0.01)


def test_the_two_ways_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(6).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    matrix = np.array([[0.713, 0, -40.123], [0, 0.577, 12.987]])
    first = warp_affine(image, matrix, (255, 200), (123.675, 116.28, 103.53))
    monkeypatch.setattr("lib.data.affine.EXACT", False)
    second = warp_affine(image, matrix, (255, 200), (123.675, 116.28, 103.53))
    assert np.abs(first.astype(int) - second).max() <= 1
    assert (first != second).mean() < 1e-3
