"""The two graphs of a tracker's network as ONNX files, and a network that is computed by them.

A network can be exported when it has ``encode_template(template) -> tokens`` (one tensor, one row per sample) and
``locate(tokens, search, mask) -> output`` with ``output.maps`` a `BoxMaps`. Both graphs read uint8 pixels, and any
number of rows: row i of a batch gives what it gives alone.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from lib.models.engines.engine import EngineError, require_packages
from lib.models.engines.sessions import Session
from lib.models.heads.boxes import BoxMaps

TEMPLATE, FRAME = "template", "frame"
M = TypeVar("M", bound=nn.Module)


class HasMaps(Protocol):
    """What `locate` gives."""

    @property
    def maps(self) -> BoxMaps: ...


@runtime_checkable
class TwoStage(Protocol):
    """A network whose work is divided into what is done per target and what is done per frame."""

    def encode_template(self, template: Tensor) -> Tensor: ...

    def locate(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None = None) -> HasMaps: ...


@dataclass(frozen=True)
class Examples:
    """Inputs that show shapes and formats: at least two rows each.

    template [B, C, T, T] and search [B, C, S, S] uint8; tokens [B, ...] what `encode_template` gives; mask [B, N] bool
    where the network takes one.
    """

    template: Tensor
    search: Tensor
    tokens: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Graph:
    """One module to export. inputs: example tensors by name, in the order of `module.forward`'s arguments."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]


class _TemplateGraph(nn.Module):
    def __init__(self, network: nn.Module, normalise: nn.Module) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise

    def forward(self, template: Tensor) -> Tensor:
        return cast("TwoStage", self.network).encode_template(self.normalise(template))


class _FrameGraph(nn.Module):
    def __init__(self, network: nn.Module, normalise: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.normalise, self.outputs = network, normalise, outputs

    def forward(self, tokens: Tensor, search: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        maps = cast("TwoStage", self.network).locate(tokens, self.normalise(search), mask).maps
        return tuple(getattr(maps, name) for name in self.outputs)


@torch.no_grad()
def graphs_of(network: nn.Module, normalise: nn.Module, examples: Examples) -> dict[str, Graph]:
    """The graphs "template" and "frame". normalise: uint8 crops -> what the network reads; identity where that is it.

    Raises EngineError for a network without the two stages.
    """
    if not isinstance(network, TwoStage):
        raise EngineError(
            f"{type(network).__name__} cannot be exported: encode_template(template) and "
            "locate(tokens, search, mask) were expected"
        )
    maps = network.locate(examples.tokens, normalise(examples.search), examples.mask).maps
    outputs = tuple(f.name for f in fields(maps) if getattr(maps, f.name) is not None)
    inputs = {"tokens": examples.tokens, "search": examples.search}
    if examples.mask is not None:
        inputs["mask"] = examples.mask
    return {
        TEMPLATE: Graph(_TemplateGraph(network, normalise), {"template": examples.template}, ("tokens",)),
        FRAME: Graph(_FrameGraph(network, normalise, outputs), inputs, outputs),
    }


def write_onnx(graph: Graph, path: Path) -> None:
    """Write a graph of any batch size. Weights go to a second file beside it, `<path>.data`, when they are large."""
    require_packages("exporting to ONNX", ("onnx", "onnxscript"), "onnx")
    batch = torch.export.Dim("batch", min=1)
    inputs = {k: v.clone() for k, v in graph.inputs.items()}
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            graph.module.eval(), tuple(inputs.values()), dynamic_shapes=tuple({0: batch} for _ in inputs)
        )
        found = torch.onnx.export(
            program, dynamo=True, input_names=list(inputs), output_names=list(graph.outputs), verbose=False
        )
        assert found is not None
        found.save(path, external_data=sum(t.nbytes for t in program.state_dict.values()) > 2**27)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's narration; its exceptions say what matters."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [log.level for log in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for log in loggers:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in zip(loggers, levels, strict=True):
                log.setLevel(level)


@dataclass(frozen=True)
class Located:
    """What a served network's `locate` gives."""

    maps: BoxMaps


class _Pair:
    """Both graphs, called as the network's own methods are."""

    def __init__(self, template: Session, frame: Session) -> None:
        self.template, self.frame = template, frame

    def encode_template(self, template: Tensor) -> Tensor:
        return self.template.run({"template": template})["tokens"]

    def locate(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None = None) -> Located:
        inputs = {"tokens": template_tokens, "search": search}
        if template_mask is not None:
            inputs["mask"] = template_mask
        return Located(BoxMaps(**self.frame.run(inputs)))


def served(network: M, template: Session, frame: Session) -> M:
    """A copy of `network` whose `encode_template` and `locate` are the graphs; they take uint8 pixels.

    Everything else is the network's own and shared with it.
    """
    twin, pair = copy.copy(network), _Pair(template, frame)
    twin.__dict__.update(encode_template=pair.encode_template, locate=pair.locate)
    return twin
