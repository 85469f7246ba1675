"""A folder with both graphs of a network and what a program needs to know to use them (`graphs.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.files import write_text
from lib.models.engines.engine import EngineError, require_packages
from lib.models.engines.graphs import FRAME, TEMPLATE, Graph, write_onnx
from lib.models.engines.sessions import Session, open_session

DESCRIPTION = "graphs.json"
FORMATS = ("onnx", "openvino")
_SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


def write_graphs(graphs: Mapping[str, Graph], folder: Path, file_format: str = "onnx") -> dict[str, Any]:
    """Write the graphs' files and return their description: file, inputs and outputs of each, JSON-able.

    file_format: "onnx", or "openvino" for OpenVINO's own files (.xml and .bin).
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, graph in graphs.items():
        path = folder / f"{name}.onnx"
        write_onnx(graph, path)
        if file_format == "openvino":
            path = _to_openvino(path)
        with torch.no_grad():
            outputs = _outputs(graph)
        found[name] = {"file": path.name, "inputs": _shapes(graph.inputs), "outputs": _shapes(outputs)}
    return found


def _to_openvino(path: Path) -> Path:
    """The same graph in OpenVINO's files, all digits kept; the ONNX files are removed."""
    require_packages("writing OpenVINO's files", ("openvino",), "openvino")
    import openvino

    target = path.with_suffix(_SUFFIX["openvino"])
    openvino.save_model(openvino.Core().read_model(str(path)), str(target), compress_to_fp16=False)
    for file in (path, path.with_name(f"{path.name}.data")):
        file.unlink(missing_ok=True)
    return target


def _outputs(graph: Graph) -> dict[str, Tensor]:
    found = graph.module(*graph.inputs.values())
    return dict(zip(graph.outputs, [found] if isinstance(found, Tensor) else found, strict=True))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The first dimension of all is the number of samples."""
    return {
        k: {"shape": ["batch", *v.shape[1:]], "dtype": str(v.dtype).removeprefix("torch.")} for k, v in tensors.items()
    }


def write_description(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write `graphs.json`; returns its path."""
    path = folder / DESCRIPTION
    write_text(path, json.dumps(values, indent=1) + "\n")
    return path


def open_graphs(
    folder: Path, graphs: Mapping[str, Any], runtime: str, threads: int, dtype: torch.dtype = torch.float32
) -> tuple[Session, Session]:
    """Sessions of the template's graph and the frame's. graphs: what `write_graphs` returned."""
    template, frame = (
        open_session(folder / graphs[name]["file"], runtime, threads, dtype) for name in (TEMPLATE, FRAME)
    )
    return template, frame


@torch.no_grad()
def check_parity(graphs: Mapping[str, Graph], sessions: tuple[Session, Session], tolerance: float) -> dict[str, float]:
    """How far the sessions' outputs are from PyTorch's: mean deviation, as a share of the greatest value.

    Random pictures are given in a batch and as single rows. With elimination, two candidates that are equal up to
    rounding may change places, which shows in some cells; so up to three sets of pictures are tried.
    Raises EngineError when an output deviates by more than `tolerance` on all of them.
    """
    for seed in range(3):
        deviations = _deviations(graphs, sessions, seed)
        worst = max(deviations, key=lambda name: deviations[name])
        if deviations[worst] <= tolerance:
            return deviations
    raise EngineError(
        f"the exported network does not give what PyTorch gives: {worst} is off by {deviations[worst]:.2g} of its "
        f"range, and {tolerance:g} is allowed; use --engine torch, and report this with the configuration's name"
    )


def _deviations(graphs: Mapping[str, Graph], sessions: tuple[Session, Session], seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, float] = {}
    tokens: Tensor | None = None
    for name, session in zip((TEMPLATE, FRAME), sessions, strict=True):
        graph = graphs[name]
        inputs = {k: _random_pixels(v, generator) for k, v in graph.inputs.items()}
        if tokens is not None:
            inputs["tokens"] = tokens
        expected = _outputs(Graph(graph.module, inputs, graph.outputs))
        rows = [
            session.run({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(len(next(iter(inputs.values()))))
        ]
        for got in (session.run(inputs), {k: torch.cat([r[k] for r in rows]) for k in rows[0]}):
            for output, want in expected.items():
                off = (got[output].float() - want.float()).abs().mean() / want.abs().max().clamp_min(1e-6)
                found[output] = max(found.get(output, 0.0), float(off))
        tokens = expected.get("tokens", tokens)
    return found


def _random_pixels(example: Tensor, generator: torch.Generator) -> Tensor:
    if example.dtype != torch.uint8:
        return example
    return torch.randint(0, 256, example.shape, dtype=torch.uint8, generator=generator)
