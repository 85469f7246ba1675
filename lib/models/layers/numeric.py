"""Number formats that a computation needs, and the scale of feature maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def without_autocast(call: Callable[P, R]) -> Callable[P, R]:
    """Decorator that switches autocast off inside a function: products have the number format of its inputs.

    For computations that half precision is too coarse or too small for: least-squares problems, coordinates, sums over
    all places of a map. Autocast takes half precision for products of float32 tensors, too.
    """

    @wraps(call)
    def without(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return call(*args, **kwargs)  # exported graphs know no autocast
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return call(*args, **kwargs)

    return without


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is in float64: scores are compared and boxes decoded in no less."""
    return x if x.dtype == torch.float64 else x.float()


def instance_l2_norm(x: Tensor, scale: float, axes: int = 3) -> Tensor:
    """Scale each map so that the root of its mean square is `scale`.

    Args:
        x: [..., C, H, W], or tokens [..., N, C] with `axes` 2.
        scale: Of the result.
        axes: Number of the last dimensions, which the mean goes over.

    Returns:
        The same shape.
    """
    over = tuple(range(-axes, 0))
    size = x.shape[-axes:].numel()
    return x * (scale * (size / (x.square().sum(dim=over, keepdim=True) + 1e-5)).sqrt())
