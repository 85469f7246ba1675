"""Calls of a network as CUDA graphs: all kernels of a frame are launched at once, so few rows cost what they compute.

The kernels and their order are those of the call itself, and so are the results, to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

EAGER_CALLS = 2
"""Calls with the same shapes before a graph is captured: they warm the kernels up, and a shape that comes once or twice
at the end of an evaluation costs no capture."""
Key = tuple[tuple[torch.Size, torch.dtype] | None, ...]


@dataclass
class _Captured:
    """A captured graph with the memory that it reads and writes.

    Attributes:
        graph: The graph.
        inputs: Tensors that arguments are copied to.
        output: Output whose tensors the graph overwrites.
    """

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor | None]
    output: Any


class GraphedCall:
    """A function of tensors with fixed weights, captured as one CUDA graph for every set of input shapes.

    All graphs share one memory pool: outputs are copied out before the next call.

    Args:
        call: Takes tensors or None by position; gives tensors, mappings and dataclasses of them. It may not wait for
            the device.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._seen: Counter[Key] = Counter()
        self._captured: dict[Key, _Captured] = {}
        self._pool: Any = None

    def __call__(self, *arguments: Tensor | None) -> Any:
        key: Key = tuple(None if a is None else (a.shape, a.dtype) for a in arguments)
        captured = self._captured.get(key)
        if captured is None:
            self._seen[key] += 1
            if self._seen[key] <= EAGER_CALLS:
                return self._call(*arguments)
            captured = self._captured[key] = self._capture(arguments)
        for held, given in zip(captured.inputs, arguments, strict=True):
            if held is not None and given is not None:
                held.copy_(given, non_blocking=True)
        captured.graph.replay()
        return map_tensors(captured.output, torch.clone)

    def _capture(self, arguments: tuple[Tensor | None, ...]) -> _Captured:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        inputs = [None if a is None else a.clone() for a in arguments]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = self._call(*inputs)
        return _Captured(graph, inputs, output)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of nested dataclasses, mappings, lists and tuples with `change` applied to every tensor.

    Args:
        value: What to copy; anything else is kept as it is.
        change: Applied to each tensor.
    """
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{f.name: map_tensors(getattr(value, f.name), change) for f in fields(value)})
    if isinstance(value, dict):
        return {k: map_tensors(v, change) for k, v in value.items()}
    return type(value)(map_tensors(v, change) for v in value) if isinstance(value, (list, tuple)) else value
