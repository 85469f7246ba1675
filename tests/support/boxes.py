"""Box formats that only tests convert back from."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ArrayT = TypeVar("ArrayT", NDArray[Any], Tensor)


def cxcywh_to_xywh(boxes: ArrayT) -> ArrayT:
    """[..., 4] centre and size -> top-left corner and size."""
    x, y, w, h = (boxes[..., i] for i in range(4))
    parts: Any = [x - w / 2, y - h / 2, w, h]
    return torch.stack(parts, dim=-1) if isinstance(boxes, Tensor) else np.stack(parts, axis=-1)


def xyxy_to_xywh(boxes: ArrayT) -> ArrayT:
    """[..., 4] two corners -> top-left corner and size."""
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    parts: Any = [x1, y1, x2 - x1, y2 - y1]
    return torch.stack(parts, dim=-1) if isinstance(boxes, Tensor) else np.stack(parts, axis=-1)
