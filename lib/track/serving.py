"""A tracker's network handed to an engine, or written down for one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from lib.models.engines import (
    TORCH,
    Engine,
    EngineError,
    Graph,
    Session,
    check_parity,
    get_engine,
    open_graphs,
    write_graphs,
)
from lib.track.inference import CalibrationClip, Inference


class Servable(Protocol):
    """A tracker that can have its network computed elsewhere."""

    device: torch.device

    def graphs(self, int8: bool, clips: Sequence[CalibrationClip] = ()) -> dict[str, Graph]:
        """The network's graphs "template" and "frame"; in 8 bits, after looking at the clips, where that is wanted."""

    def use(self, template: Session, frame: Session) -> None:
        """Let these graphs do the network's work from now on."""


def serve(tracker: Servable, how: Inference) -> None:
    """Hand the network's work to `how.engine`, after a check that it gives what PyTorch gives. Raises EngineError."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        _, sessions, _ = _written(tracker, Path(folder), how, "onnx")
    tracker.use(*sessions)


def export(tracker: Servable, folder: Path, how: Inference, file_format: str = "onnx") -> dict[str, Any]:
    """Write both graphs into `folder`; returns files, inputs, outputs, and how far they are from PyTorch.

    The network that the tracker has afterwards is the one that was written, and is not prepared for PyTorch.
    """
    graphs, _, parity = _written(tracker, folder, how, file_format)
    return {"graphs": graphs, "engine": how.engine, "parity": parity}


def _written(
    tracker: Servable, folder: Path, how: Inference, file_format: str
) -> tuple[dict[str, Any], tuple[Session, Session], dict[str, float]]:
    engine = _engine(tracker, how)
    graphs = tracker.graphs(engine.int8, how.clips)
    described = write_graphs(graphs, folder, file_format)
    sessions = open_graphs(folder, described, engine.runtime, torch.get_num_threads(), how.dtype)
    return described, sessions, check_parity(graphs, sessions, engine.tolerance(how.dtype))


def _engine(tracker: Servable, how: Inference) -> Engine:
    engine = get_engine(how.engine)
    if engine is None:
        raise EngineError(f"{TORCH} is no engine to export for")
    if tracker.device.type != "cpu":
        raise EngineError(f"engine {engine.name} computes on the CPU, not on {tracker.device}; add --device cpu")
    if how.compiled:
        raise EngineError(f"engine {engine.name} compiles by itself; leave --compile out")
    engine.require()
    return engine
