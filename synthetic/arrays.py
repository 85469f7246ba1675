"""OpenCV's results with the type they have: its own annotations only say that they are arrays of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def u8(picture: Any) -> NDArray[np.uint8]:
    """The same array, known to be uint8."""
    return np.asarray(picture, dtype=np.uint8)


def f32(field: Any) -> NDArray[np.float32]:
    """The same array, known to be float32."""
    return np.asarray(field, dtype=np.float32)
