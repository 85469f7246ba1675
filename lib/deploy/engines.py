"""Runtimes that compute an exported network outside PyTorch, on the CPU: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor

from lib.registry import suggest

TORCH = "torch"
AUTO = "auto"
"""PyTorch; on a CPU the quickest way that the protocol allows, by timing."""


class EngineError(ValueError):
    """An engine that is unknown, not installed, or cannot do what was requested."""


@dataclass(frozen=True)
class Engine:
    """A runtime and its number format, as named by `--engine`.

    Attributes:
        name: "onnx", "onnx-int8", "openvino", "openvino-int8".
        runtime: "onnx" or "openvino".
        int8: Most products are computed in 8 bits.
        packages: Python packages that must be importable.
    """

    name: str
    runtime: str
    int8: bool
    packages: tuple[str, ...]

    def require(self) -> None:
        """Check that the runtime is installed.

        Raises:
            EngineError: Names the missing packages and the command that installs them.
        """
        require_packages(f"engine {self.name}", self.packages, self.runtime)

    def tolerance(self, dtype: torch.dtype) -> float:
        """Largest accepted mean deviation of an output from PyTorch's, as a share of the output's range.

        Values close to a rounding boundary may round to the other side, and later layers amplify the difference.
        """
        return 0.05 if self.int8 or dtype != torch.float32 else 1e-4


ENGINES = {
    name: Engine(name, runtime, name.endswith("-int8"), ("onnx", "onnxscript", package))
    for runtime, package in (("onnx", "onnxruntime"), ("openvino", "openvino"))
    for name in (runtime, f"{runtime}-int8")
}


def get_engine(name: str) -> Engine | None:
    """The engine of a name as `--engine` takes it; None for PyTorch itself, and where it is not chosen yet.

    Raises:
        EngineError: The name is unknown.
    """
    known = (AUTO, TORCH, *ENGINES)
    if name not in known:
        raise EngineError(f"engine {name!r} is unknown{suggest(name, known)} (known: {', '.join(known)})")
    return ENGINES.get(name)


def require_packages(what: str, packages: tuple[str, ...], extra: str) -> None:
    """Check that packages are installed.

    Args:
        what: What needs them, for the message.
        packages: Their import names.
        extra: The extra of this project that installs them.

    Raises:
        EngineError: One of them is missing.
    """
    if missing := [p for p in packages if importlib.util.find_spec(p) is None]:
        they = "a package that is" if len(missing) == 1 else "packages that are"
        remedy = f"bash install.sh {extra} (or: pip install -c scripts/pins.txt -e '.[{extra}]')"
        raise EngineError(f"{what} needs {they} not installed ({', '.join(missing)}); install with: {remedy}")


class LoadedGraph(Protocol):
    """One graph loaded into a runtime. Not thread-safe."""

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the graph: CPU tensors by input name -> new CPU tensors by output name."""


class OnnxGraph:
    """A graph in ONNX Runtime, in float32 except for what the graph itself holds in 8 bits.

    Args:
        path: The `.onnx` file.
        threads: Of one operator.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._outputs = [o.name for o in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        feed = {k: v.contiguous().numpy() for k, v in inputs.items() if k in self._inputs}
        found = self._session.run(self._outputs, feed)
        return {k: torch.from_numpy(v) for k, v in zip(self._outputs, found, strict=True)}


class OpenVinoGraph:
    """A graph in OpenVINO.

    Args:
        path: The `.onnx` or `.xml` file.
        threads: Of the whole graph.
        dtype: Of the products that are not in 8 bits: float32 or bfloat16.

    Raises:
        EngineError: For another dtype.
    """

    def __init__(self, path: Path, threads: int, dtype: torch.dtype = torch.float32) -> None:
        import openvino

        precision = {torch.float32: "f32", torch.bfloat16: "bf16"}.get(dtype)
        if precision is None:
            raise EngineError(f"OpenVINO computes in f32 or bf16 here, not in {dtype}")
        core = openvino.Core()
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        model: Any = core.compile_model(core.read_model(str(path)), "CPU", options)
        self._inputs = [i.get_any_name() for i in model.inputs]
        self._outputs = [o.get_any_name() for o in model.outputs]
        self._request: Any = model.create_infer_request()

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self._request.infer([inputs[k].contiguous().numpy() for k in self._inputs], share_inputs=True)
        # Copied, because the next call overwrites the request's own memory.
        found = [self._request.get_output_tensor(i).data.copy() for i in range(len(self._outputs))]
        return {k: torch.from_numpy(v) for k, v in zip(self._outputs, found, strict=True)}


def load_graph(path: Path, runtime: str, threads: int, dtype: torch.dtype = torch.float32) -> LoadedGraph:
    """Load a graph file (.onnx or OpenVINO's .xml) into the runtime "onnx" or "openvino"."""
    graph = OnnxGraph(path, threads) if runtime == "onnx" else OpenVinoGraph(path, threads, dtype)
    _kept_in_forks().add(graph)
    return graph


@cache
def _kept_in_forks() -> WeakSet[LoadedGraph]:
    """The loaded graphs; forked processes, such as data workers, never free theirs.

    The runtimes' destructors wait for their threads, and a fork has none of them: it would hang when a tracker is
    collected there, and at its exit.
    """
    graphs: WeakSet[LoadedGraph] = WeakSet()

    def keep() -> None:
        for graph in graphs:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(graph))
        library = ctypes.CDLL(None)
        if hasattr(library, "on_exit"):  # glibc: _exit gets the exit code, once Python is done and before destructors
            library.on_exit(library._exit, None)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=keep)
    return graphs
