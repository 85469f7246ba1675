"""Affine warps with the same pixels whichever OpenCV is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_RAMP, _STEP = np.array([[0, 1]], np.float32), np.array([[1, 0, -1 / 64], [0, 1, 0]])
EXACT = bool(np.asarray(cv2.warpAffine(_RAMP, _STEP, (1, 1))) == 1 / 64)
"""False with OpenCV 4, which rounds coordinates to 1/32 pixel: crops differ by up to 3 grey levels from OpenCV 5's."""


def warp_affine(
    image: NDArray[Any], matrix: NDArray[np.float64], size_wh: tuple[int, int], border: Sequence[float] | None = None
) -> NDArray[Any]:
    """A picture resampled bilinearly, as OpenCV 5 does it.

    Args:
        image: [H, W] or [H, W, C], uint8 or float32.
        matrix: [2, 3] x, y of the picture -> x, y of the result.
        size_wh: Width and height of the result.
        border: [C] colour beyond the picture; None: its border is replicated.

    Returns:
        [height, width, C] of the image's dtype; [height, width] for one channel.
    """
    mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT
    if EXACT:
        return np.asarray(cv2.warpAffine(image, matrix, size_wh, borderMode=mode, borderValue=border or (0.0,)))
    (width, height), channels = size_wh, image.shape[2] if image.ndim == 3 else 1
    across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    low, no_map, shares = np.empty((height, width, 2), np.int16), np.empty(0, np.int16), list[NDArray[np.float32]]()
    for axis, (per_x, per_y, start) in enumerate(cv2.invertAffineTransform(matrix).astype(np.float32)):
        # Without a rotation one row or column stands for all.
        place = across * per_x + (down * per_y + start if per_y else start) if per_x else down * per_y + start
        whole = np.floor(place)
        low[..., axis] = whole.clip(-2, image.shape[1 - axis])
        shares.append(np.repeat(place - whole, channels if place.shape[-1] > 1 else 1, axis=-1))

    def tap(x: int, y: int) -> NDArray[np.float32]:
        """One of the four pixels that are mixed, after a step to it from the one before, [height, width * C]."""
        low[..., 0] += x
        low[..., 1] += y
        taken = cv2.remap(image, low, no_map, cv2.INTER_NEAREST, None, mode, border or (0.0,))
        return np.asarray(taken, np.float32).reshape(height, -1)

    def mixed(one: NDArray[np.float32], other: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
        other -= one
        other *= share
        other += one
        return other

    upper = mixed(tap(0, 0), tap(1, 0), shares[0])
    right = tap(0, 1)
    found = mixed(upper, mixed(tap(-1, 0), right, shares[0]), shares[1])
    found = np.rint(found, out=found) if image.dtype == np.uint8 else found
    return found.astype(image.dtype, copy=False).reshape(height, width, *[channels] * (channels > 1))
