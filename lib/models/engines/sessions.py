"""A graph in a runtime: tensors in by name, tensors out by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lib.models.engines.engine import EngineError


class Session(Protocol):
    """One loaded graph. Not thread-safe."""

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """CPU tensors by the graph's input names -> new CPU tensors by its output names."""


class OnnxSession:
    """ONNX Runtime on the CPU."""

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


_PRECISION = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVinoSession:
    """OpenVINO on the CPU. dtype: of the products that are not in 8 bits."""

    def __init__(self, path: Path, threads: int, dtype: torch.dtype = torch.float32) -> None:
        import openvino

        if dtype not in _PRECISION:
            raise EngineError(f"OpenVINO computes in {' or '.join(_PRECISION.values())} here, not in {dtype}")
        core = openvino.Core()
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISION[dtype],
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
        # The request's own memory is written over by the next frame.
        found = [self._request.get_output_tensor(i).data.copy() for i in range(len(self._outputs))]
        return {k: torch.from_numpy(v) for k, v in zip(self._outputs, found, strict=True)}


def open_session(path: Path, runtime: str, threads: int, dtype: torch.dtype = torch.float32) -> Session:
    """A graph file in "onnx" (float32 outside of 8 bits, always) or "openvino"."""
    if runtime == "onnx":
        return OnnxSession(path, threads)
    return OpenVinoSession(path, threads, dtype)
