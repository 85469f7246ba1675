"""A network as exported graphs, one per entry point, and a network whose entry points are computed by them.

A network can be exported if it has ``sample_inputs() -> {entry point: {input: tensor}}`` for its entry points:
``encode_template`` (once per target), ``locate`` (once per frame), ``update_template`` for trackers that renew their
template, and ``refine`` for those that refine the box that they chose. The inputs of an entry point are its method's
arguments in order, under the names that they have in the graph. Pictures are uint8 crops, which the graphs normalise.
Any number of rows is accepted, and row i of a batch gives what it gives alone.

``encode_template`` and ``update_template`` return one tensor, the first input ``tokens`` of ``locate``. ``locate``
returns a dataclass with its `Candidates` in ``candidates``, or `Candidates`. Its other fields are outputs of the graph
only where they are inputs too: the state that a tracker carries from frame to frame. An output that is the next value
of an input has the input's name with "next_" before it. ``refine`` reads maps of the candidates and returns one
tensor, ``changes``.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from lib.deploy.engines import EngineError, LoadedGraph, load_graph, require_packages
from lib.deploy.quantise import onnx_functions
from lib.files import errors_name
from lib.models.heads import Candidates

GRAPH_NAMES = {"encode_template": "template", "locate": "frame", "update_template": "update", "refine": "refine"}
"""Name of the graph of each entry point."""
CHANGES, TOKENS = "changes", "tokens"
"""Output of `refine`; output of `encode_template` and `update_template`, and the first input of `locate`."""
NEXT = "next_"
M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class Exportable(Protocol):
    """A network whose entry points can be exported; see the module's docstring."""

    def sample_inputs(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Example inputs of every entry point, two rows each."""


@dataclass(frozen=True)
class Graph:
    """One module to export, with example tensors by name.

    Attributes:
        module: In eval mode.
        inputs: In the order of `module.forward`'s arguments.
        outputs: What it gives for them.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the module in PyTorch.

        Args:
            inputs: By name, any number of rows.

        Returns:
            Outputs by name.
        """
        return dict(zip(self.outputs, self.module(*(inputs[k] for k in self.inputs)), strict=True))


@dataclass(frozen=True)
class EngineOutput:
    """Output of `locate` when an engine computes it. memory: state for the next frame, if the network has one."""

    candidates: Candidates
    memory: Tensor | None = None


class _EntryPoint(nn.Module):
    """One method of a network with its output as a tuple of tensors, pictures as uint8."""

    def __init__(
        self, network: nn.Module, normalise: nn.Module, method: str, samples: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        super().__init__()
        self.network, self.normalise, self.method, self.inputs = network, normalise, method, samples[method].keys()
        self.tensor = {"update_template": NEXT + TOKENS, "refine": CHANGES}.get(method, TOKENS)
        self.read_later = frozenset(samples.get("refine", ()))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(*inputs).values())

    def named(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        call = getattr(self.network, self.method)
        output = call(*(self.normalise(x) if x.dtype == torch.uint8 else x for x in inputs))
        if isinstance(output, Tensor):
            return {self.tensor: output}
        found = graph_outputs(output.candidates, self.read_later)
        state = self.inputs - {TOKENS}
        return found | {NEXT + f.name: getattr(output, f.name) for f in fields(output) if f.name in state}


def graph_outputs(candidates: Candidates, read_later: frozenset[str]) -> dict[str, Tensor]:
    """Outputs of a frame's graph by name.

    Args:
        candidates: Of a batch.
        read_later: Maps that another graph reads.

    Returns:
        `boxes_cxcywh` [B, 4], the best box by plain score, in units of the crop; the head's maps, or `scores` [B, N] of
        a head of anchors; and, where the head has several boxes, `cell_boxes_cxcywh` [B, 4, N].
    """
    names = {"score_map", "size_map", "offset_map", *read_later}
    found = {"boxes_cxcywh": candidates.best_boxes()} | {k: v for k, v in candidates.maps.items() if k in names}
    if "score_map" not in found:
        found["scores"] = candidates.scores
    return found if candidates.boxes.shape[1] == 1 else found | {"cell_boxes_cxcywh": candidates.boxes.transpose(1, 2)}


def candidates_of(outputs: Mapping[str, Tensor]) -> Candidates:
    """The inverse of `graph_outputs`.

    Args:
        outputs: Of a frame's graph, by name.

    Returns:
        A candidate per cell or anchor where the graph has a box for each, or else the best one alone.
    """
    maps = {k: v for k, v in outputs.items() if k not in ("boxes_cxcywh", "cell_boxes_cxcywh", "scores")}
    scores = outputs["scores"] if "scores" in outputs else maps["score_map"].flatten(1)
    if "cell_boxes_cxcywh" in outputs:
        return Candidates(scores, outputs["cell_boxes_cxcywh"].transpose(1, 2), maps)
    return Candidates(scores.amax(dim=1, keepdim=True), outputs["boxes_cxcywh"][:, None], maps)


@torch.no_grad()
def network_graphs(network: nn.Module, normalise: nn.Module) -> dict[str, Graph]:
    """The graphs of a network's entry points, by entry point; outputs of one are example inputs of the next.

    Args:
        network: In eval mode, usually fused with `FuseOptions(portable=True)`.
        normalise: uint8 crops -> what the network reads; identity where the network reads uint8.

    Raises:
        EngineError: For a network without `sample_inputs`.
    """
    if not isinstance(network, Exportable):
        raise EngineError(f"{type(network).__name__} cannot be exported: it has no sample_inputs()")
    graphs, known, samples = {}, dict[str, Tensor](), network.sample_inputs()
    for method in samples:
        module = _EntryPoint(network, normalise, method, samples).eval()
        inputs = {k: known.get(k, v) for k, v in samples[method].items()}
        graphs[method] = Graph(module, inputs, module.named(*inputs.values()))
        known |= {k.removeprefix(NEXT): v for k, v in graphs[method].outputs.items()}
    return graphs


@torch.no_grad()
def write_graphs(graphs: Mapping[str, Graph], folder: Path, file_format: str = "onnx") -> dict[str, Any]:
    """Write one file per graph, of any batch size; large weights go to a second file.

    Args:
        graphs: By entry point, as `network_graphs` gives them.
        folder: Made if it is missing.
        file_format: "onnx", or "openvino" for OpenVINO's own files (.xml and .bin), with all digits.

    Returns:
        File, inputs and outputs of each graph, by the graph's name; JSON-able.

    Raises:
        EngineError: A package that writes the format is not installed, or it cannot write an operator.
    """
    require_packages("exporting to ONNX", ("onnx", "onnxscript"), "onnx")
    if file_format == "openvino":
        require_packages("writing OpenVINO's files", ("openvino",), "openvino")
    folder.mkdir(parents=True, exist_ok=True)
    batch, found = torch.export.Dim("batch", min=1), dict[str, Any]()
    for method, graph in graphs.items():
        path = folder / f"{GRAPH_NAMES[method]}.onnx"
        inputs = {k: v.clone(memory_format=torch.contiguous_format) for k, v in graph.inputs.items()}
        rows = tuple({0: batch} for _ in inputs)
        with _quiet():
            program = torch.export.export(graph.module, tuple(inputs.values()), dynamic_shapes={"inputs": rows})
            try:
                written = torch.onnx.export(
                    program,
                    dynamo=True,
                    input_names=list(inputs),
                    output_names=list(graph.outputs),
                    verbose=False,
                    custom_translation_table=onnx_functions(),
                )
            except torch.onnx.OnnxExporterError as error:
                raise EngineError(f"PyTorch cannot write {path.name}: {_first_cause(error)}") from error
            assert written is not None
            with errors_name(path):
                written.save(path, external_data=sum(t.nbytes for t in program.state_dict.values()) > 2**27)
        if file_format == "openvino":
            import openvino

            model = openvino.Core().read_model(str(path))
            openvino.save_model(model, str(path.with_suffix(".xml")), compress_to_fp16=False)
            del model  # its weights may be mapped from the files that are removed
            for file in (path, path.with_name(f"{path.name}.data")):
                file.unlink(missing_ok=True)
            path = path.with_suffix(".xml")
        read, given = ({k: _described(t) for k, t in named.items()} for named in (graph.inputs, graph.outputs))
        found[GRAPH_NAMES[method]] = {"file": path.name, "inputs": read, "outputs": given}
    return found


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"shape": ["batch", *tensor.shape[1:]], "dtype": str(tensor.dtype).removeprefix("torch.")}


def _first_cause(error: BaseException) -> BaseException:
    """What an error began with; the exporter wraps it in advice to its developers."""
    return error if error.__cause__ is None else _first_cause(error.__cause__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress messages; its exceptions say what matters."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


def load_graphs(
    folder: Path, description: Mapping[str, Any], runtime: str, threads: int, dtype: torch.dtype = torch.float32
) -> dict[str, LoadedGraph]:
    """Load written graphs into a runtime.

    Args:
        folder: Where they are.
        description: What `write_graphs` returned.
        runtime: "onnx" or "openvino".
        threads: CPU threads of each graph.
        dtype: Number format of products that are not in 8 bits.

    Returns:
        The loaded graphs by entry point.
    """
    files = {m: folder / description[name]["file"] for m, name in GRAPH_NAMES.items() if name in description}
    return {method: load_graph(file, runtime, threads, dtype) for method, file in files.items()}


class _EngineCall:
    """A network's method, computed by a graph. Optional arguments that are missing are zeros."""

    def __init__(self, graph: LoadedGraph, samples: Mapping[str, Tensor]) -> None:
        self.graph, self.samples = graph, samples

    def __call__(self, *arguments: Tensor | None) -> Any:
        given = {k: v for k, v in zip(self.samples, arguments, strict=False) if v is not None}
        rows = len(next(iter(given.values())))
        absent = {k: v.new_zeros(rows, *v.shape[1:]) for k, v in self.samples.items() if k not in given}
        found = {k.removeprefix(NEXT): v for k, v in self.graph.run(given | absent).items()}
        if "boxes_cxcywh" not in found:
            (tensor,) = found.values()
            return tensor
        memory = found.pop("memory", None)
        return EngineOutput(candidates_of(found), memory)


def engine_runtime(network: M, loaded: Mapping[str, LoadedGraph]) -> M:
    """A copy of an exportable network whose entry points are computed by graphs and take uint8 crops.

    Args:
        network: Everything else is shared with it.
        loaded: The graphs by entry point.
    """
    assert isinstance(network, Exportable)
    twin, samples = copy.copy(network), network.sample_inputs()
    twin.__dict__.update({method: _EngineCall(graph, samples[method]) for method, graph in loaded.items()})
    return twin


@torch.no_grad()
def check_parity(
    graphs: Mapping[str, Graph], loaded: Mapping[str, LoadedGraph], tolerance: float, state: bool = True
) -> dict[str, float]:
    """Compare loaded graphs with PyTorch on random pictures, in a batch and row by row.

    Candidates with equal scores up to rounding may change places in candidate elimination and in memories, which shows
    in some values; so up to three sets of pictures are tried, the graphs' own ones first.

    Args:
        graphs, loaded: The same graphs in PyTorch and in a runtime, by entry point.
        tolerance: Largest accepted mean deviation, as a share of the output's largest value.
        state: Also compare outputs that are state for the next frame. Which tokens a memory takes depends on
            comparisons, so it is comparable in float32 only.

    Returns:
        The mean deviation of every output.

    Raises:
        EngineError: If an output deviates by more on all three sets, or holds NaN or infinite values on either side.
    """
    for seed in range(3):
        deviations = _deviations(graphs, loaded, seed, state)
        worst = max(deviations, key=lambda name: deviations[name])
        if deviations[worst] <= tolerance:
            return deviations
    if math.isinf(off := deviations[worst]):
        values = f"{worst}, or PyTorch's, holds values that are not finite"
        raise EngineError(f"the exported network cannot be used: {values}")
    remedy = "use --engine torch, and report this with the configuration's name"
    differs = f"{worst} is off by {off:.2g} of its range, and {tolerance:g} is allowed"
    raise EngineError(f"the exported network does not give what PyTorch gives: {differs}; {remedy}")


def _deviations(
    graphs: Mapping[str, Graph], loaded: Mapping[str, LoadedGraph], seed: int, state: bool
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, float] = {}
    known: dict[str, Tensor] = {}
    for method, graph in graphs.items():
        inputs, expected = graph.inputs, graph.outputs
        if seed:
            inputs = {
                k: torch.randint(0, 256, v.shape, dtype=v.dtype, generator=generator)
                if v.dtype == torch.uint8
                else known.get(k, v)
                for k, v in inputs.items()
            }
            expected = graph.run(inputs)
        run, count = loaded[method].run, len(next(iter(inputs.values())))
        rows = [run({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(count)]
        for got in (run(inputs), {k: torch.cat([r[k] for r in rows]) for k in rows[0]}):
            for output, want in expected.items():
                if not state and output.startswith(NEXT) and output != NEXT + TOKENS:
                    continue
                off = (got[output].float() - want.float()).abs().mean() / want.abs().max().clamp_min(1e-6)
                # NaN on either side is no agreement, and max(0.0, nan) would be 0.0.
                found[output] = max(found.get(output, 0.0), float(off) if off.isfinite() else math.inf)
        known |= {k.removeprefix(NEXT): v for k, v in expected.items()}
    return found
