"""Calls of a network as CUDA graphs: all kernels of a frame are launched at once, so few rows cost what they compute.

The kernels and their order are those of the call itself, and so are the results, to the bit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("lib.deploy")
EAGER_CALLS = 2
"""Calls with the same shapes before a graph is captured: they warm the kernels up, and a shape that comes once or twice
at the end of an evaluation costs no capture."""


@dataclass
class _Captured:
    """A captured graph with the memory that it reads and writes.

    Attributes:
        graph: The graph.
        inputs: Leaves of its arguments; the tensors among them are what later ones are copied to.
        output: Output whose tensors the graph overwrites.
    """

    graph: torch.cuda.CUDAGraph
    inputs: list[Any]
    output: Any


class GraphedCall:
    """A function of tensors with fixed weights, captured as one CUDA graph for every set of input shapes.

    All graphs share one memory pool: outputs are copied out before the next call.

    Args:
        call: Takes, by position, and gives tensors, numbers, None, and mappings, dataclasses, lists and tuples of them.
            It may not wait for the device: a call that does is computed kernel by kernel, and the log says so.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._captured: dict[tuple[Any, ...], _Captured] = {}
        self._pool: Any = None
        self._stream: Any = None
        self.capturable = True

    def __call__(self, *arguments: Any) -> Any:
        given = list(leaves(arguments))
        key = tuple((x.dtype, x.shape) if isinstance(x, Tensor) else x for x in given)
        captured = self._captured.get(key)
        if captured is None:
            self._seen[key] += 1
            if self.capturable and self._seen[key] > EAGER_CALLS:
                try:
                    captured = self._captured[key] = self._capture(arguments)
                except RuntimeError as error:
                    self.capturable = False
                    name = getattr(self._call, "__name__", type(self._call).__name__)
                    log.warning("%s is computed kernel by kernel, since it is no CUDA graph: %s", name, error)
            if captured is None:
                return self._call(*arguments)
        for held, value in zip(captured.inputs, given, strict=True):
            if isinstance(value, Tensor):
                held.copy_(value, non_blocking=True)
        captured.graph.replay()
        return map_tensors(captured.output, torch.clone)

    def _capture(self, arguments: tuple[Any, ...]) -> _Captured:
        own, graph = map_tensors(arguments, torch.clone), torch.cuda.CUDAGraph()
        device = next(x.device for x in leaves(own) if isinstance(x, Tensor))
        if self._pool is None:
            # Of the tensors' device: a stream of another one captures an empty graph, without an error.
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)
        # "thread_local": other threads may use the device meanwhile, to decode pictures.
        capture = torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local")
        with torch.cuda.device(device), capture:
            output = self._call(*own)
        return _Captured(graph, list(leaves(own)), output)


def leaves(value: Any) -> Iterator[Any]:
    """The leaves of nested dataclasses, mappings, lists and tuples, in order.

    Args:
        value: One of these, or a leaf itself.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, f.name) for f in fields(value)]
    elif isinstance(value, dict):
        value = [*value, *value.values()]
    if not isinstance(value, (list, tuple)):
        yield value
        return
    for part in value:
        yield from leaves(part)


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
