"""Cost of a computation, on any device: multiply-accumulates and dispatched operations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

aten = torch.ops.aten

# Operations that start no computation although they are no views of their input.
_FREE = {"aten.empty", "aten.empty_strided", "aten._unsafe_view", "aten.lift_fresh", "aten.detach", "aten.new_empty"}
_ACTIVATION_PRODUCTS = ("attention", "bmm")


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Shapes [B, heads, N, d]: both products of one attention, two operations per multiply-accumulate."""
    batch, heads, rows, depth = query
    return 2 * batch * heads * rows * key[2] * (depth + value[3])


def _linear_flops(x: Sequence[int], *shapes: Any, out_shape: Sequence[int], **_: Any) -> int:
    """oneDNN's fused linear layer [..., K] -> [..., N]; a second input that is added comes before the weight."""
    return 2 * math.prod(out_shape) * x[-1]


def _convolution_flops(x: Sequence[int], *shapes: Any, out_shape: Sequence[int], **_: Any) -> int:
    """oneDNN's fused convolution [B, C, H, W] -> [B, N, H', W'] with packed weights [N, C / groups, kh, kw].

    A second map that is added comes before the weights.
    """
    weight = [s for s in shapes if isinstance(s, torch.Size) and len(s) == 4][-1]
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def _addmm_flops(_: Sequence[int], a: Sequence[int], b: Sequence[int], **__: Any) -> int:
    return 2 * a[0] * a[1] * b[1]


_FUSED_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    aten._scaled_dot_product_attention_math_for_mps: _attention_flops,
}
"""Fused attention that PyTorch's own counter passes over."""
_FUSED_PRODUCTS: dict[Any, Callable[..., int]] = {aten.addmm_: _addmm_flops}
if torch.backends.mkldnn.is_available():
    fused = torch.ops.mkldnn
    _FUSED_PRODUCTS |= {fused._linear_pointwise: _linear_flops, fused._convolution_pointwise: _convolution_flops}


@dataclass
class Cost:
    """Cost of a computation.

    Attributes:
        macs_by_operation: Operation -> multiply-accumulates.
        kernels_by_operation: Operation -> number of times that it was dispatched; views are left out.
        uncounted: Attention operations whose products are not in the multiply-accumulates.
    """

    macs_by_operation: dict[str, int] = field(default_factory=dict)
    kernels_by_operation: dict[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operations."""
        return sum(self.macs_by_operation.values())

    @property
    def attention_macs(self) -> int:
        """Those of products between activations, which counters of layers (thop) leave out."""
        return sum(v for k, v in self.macs_by_operation.items() if any(p in k for p in _ACTIVATION_PRODUCTS))

    @property
    def kernels(self) -> int:
        """Number of dispatched operations."""
        return sum(self.kernels_by_operation.values())

    def __add__(self, other: Cost) -> Cost:
        macs = Counter(self.macs_by_operation) + Counter(other.macs_by_operation)
        kernels = Counter(self.kernels_by_operation) + Counter(other.kernels_by_operation)
        return Cost(dict(macs), dict(kernels), tuple(sorted({*self.uncounted, *other.uncounted})))


class _KernelCounter(TorchDispatchMode):
    """Counts operations as they reach a backend: composites are taken apart, views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.uncounted: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in _FUSED_ATTENTION:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        name = str(packet)
        if not func.is_view and name not in _FREE:
            self.seen[name] += 1
            if "attention" in name and packet not in flop_registry and packet not in _FUSED_ATTENTION:
                self.uncounted.add(name)
        return func(*args, **kwargs)


@contextmanager
def counting() -> Iterator[Cost]:
    """Count what is computed inside the block.

    Yields:
        The cost, which is filled when the block ends.
    """
    cost, kernels = Cost(), _KernelCounter()
    with FlopCounterMode(display=False, custom_mapping={**_FUSED_ATTENTION, **_FUSED_PRODUCTS}) as flops, kernels:
        yield cost
    cost.macs_by_operation = {str(k): int(v) // 2 for k, v in flops.get_flop_counts().get("Global", {}).items()}
    cost.kernels_by_operation = dict(kernels.seen)
    cost.uncounted = tuple(sorted(kernels.uncounted))
