"""Trackers prepared for inference: networks fused, compiled, under autocast, or handed to an engine.

Trackers know nothing of this: these are functions over a tracker and its network's `sample_inputs()`. They leave the
tracker that they are given, which may go on learning, as it was.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from lib.data import Frame, Normalise
from lib.deploy.cuda_graphs import GraphedCall
from lib.deploy.engines import ENGINES, TORCH, Engine, EngineError, LoadedGraph, get_engine
from lib.deploy.graphs import check_parity, engine_runtime, load_graphs, network_graphs, write_graphs
from lib.deploy.quantise import CalibrationClip, calibrate, quantise
from lib.files import write_text
from lib.models import require_finite
from lib.models.layers import FuseOptions, fuse_module, packed_products_win, packing_works
from lib.track import OneStreamTracker, Prediction, StagedTracker, State, Tracker, TrackerSession, WrappedTracker

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T", bound=Tracker)
S = TypeVar("S", bound=StagedTracker)
OneStream = TypeVar("OneStream", bound=OneStreamTracker)


@dataclass(frozen=True)
class Inference:
    """Options for computing a tracker's network.

    Attributes:
        dtype: Number format of the network's products.
        compiled: Hand the network to `torch.compile`.
        engine: Name of the engine, see `lib.deploy.engines`.
        clips: Gives sample data for the ranges of an engine in 8 bits; called where it is exported from scratch.
        cuda_graph: On a CUDA device, replay the network's work per frame as one CUDA graph per batch size.
        folder: Where an engine's graphs of just this network are kept for the next start; None: never kept.
    """

    dtype: torch.dtype = torch.float32
    compiled: bool = False
    engine: str = TORCH
    clips: Callable[[], Sequence[CalibrationClip]] = tuple
    cuda_graph: bool = False
    folder: Path | None = None


GRAPHS_FILE = "graphs.json"
"""Describes the graphs of its folder."""
KEPT_FOLDERS = 6
"""Folders of graphs that are kept alongside each other: those of a ViT-B take 400 MB."""
LONGEST_EXPORT = 86_400
"""Seconds after which a temporary folder belongs to a run that was killed."""
PLAIN = Inference()
"""PyTorch in float32, not compiled."""


def fuse_network(network: M, options: FuseOptions | None = None) -> M:
    """A copy of the network for inference, equal up to rounding.

    Every part that has a fused form (`fuse_for_inference`) takes it, everything else is converted to the options'
    number format. Weights that need no change are shared with `network`, so memory is not doubled while both live.

    Args:
        network: In eval mode, loaded, on its device.
        options: Number format, packing and normalisation; None: float32, packed.

    Returns:
        A network with other parameter names, which can be neither trained nor saved.

    Raises:
        ValueError: The network is in training mode.
    """
    if network.training:
        raise ValueError("only a network in eval mode can be prepared for inference")
    options = options or FuseOptions()
    on_cpu = all(p.device.type == "cpu" for p in network.parameters())
    with torch.no_grad():
        if pack := options.pack and on_cpu and packing_works(options.dtype):
            options = replace(options, pack_products=options.pack_products and packed_products_win(options.dtype))
        options = replace(options, pack=pack)
        return cast("M", fuse_module(network, options))


def reads_pixels(network: nn.Module) -> bool:
    """True if normalisation was fused into the network, so that it reads uint8 pictures."""
    return any(getattr(m, "reads_pixels", False) for m in network.modules())


def prepare(tracker: Tracker, inference: Inference = PLAIN) -> Tracker:
    """A copy of the tracker for fixed weights: quicker, boxes equal up to rounding (of the number format).

    float16, and half formats of trackers that are no `StagedTracker`, are left to autocast.

    Args:
        tracker: Its network is in eval mode and on its device.
        inference: Number format, compilation and engine.

    Raises:
        EngineError: See `export`.
        TypeError: It is what `unitrack.load` returns, whose tracker is prepared already.
        ValueError: There is no network to compile.
    """
    if isinstance(tracker, TrackerSession):
        raise TypeError(f"expected a lib.track.Tracker, found a {type(tracker).__name__}, whose tracker is prepared")
    if inference.engine != TORCH:
        return _compute_by_engine(tracker, inference)
    if isinstance(tracker, StagedTracker) and inference.dtype in (torch.float32, torch.bfloat16):
        prepared = fuse_tracker(tracker, FuseOptions(inference.dtype, pack=not inference.compiled, grid=tracker.grid))
        for name in [n for n in tracker.frame_calls if hasattr(prepared.network, n)] or ["forward"]:
            plain = getattr(prepared.network, name)
            call = torch.compile(plain) if inference.compiled else plain
            call = GraphedCall(call) if inference.cuda_graph and tracker.device.type == "cuda" else call
            if call is not plain:
                setattr(prepared.network, name, call)
        return prepared
    network = getattr(tracker, "network", None)
    if inference.compiled:
        if network is None:
            raise ValueError(f"{type(tracker).__name__} has no network that could be compiled")
        network.compile()
    if inference.dtype == torch.float32:
        return copy.copy(tracker)
    first = None if network is None else next(network.parameters(), None)
    return AutocastTracker(tracker, "cpu" if first is None else first.device.type, inference.dtype)


def _compute_by_engine(tracker: Tracker, inference: Inference) -> Tracker:
    """The tracker computed by graphs that an earlier start left in `inference.folder`, or by new ones."""
    exportable, engine = checked_export(tracker, inference)
    kept, parent = inference.folder, None
    if kept is not None:
        with suppress(OSError, ValueError, KeyError, RuntimeError):  # absent or damaged: new ones take their place
            described = json.loads((kept / GRAPHS_FILE).read_text("utf-8"))["graphs"]
            loaded = load_graphs(kept, described, engine.runtime, torch.get_num_threads(), inference.dtype)
            (kept / GRAPHS_FILE).touch()
            return with_graphs(exportable, loaded)
        with suppress(OSError):
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            parent = kept.parent
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as name:
        exports = Exports(exportable, Path(name))
        found = exports.prepare(inference)
        if kept is not None:
            exports.keep(engine.name, kept)
        return found


def prepare_for_rollout(tracker: T) -> T:
    """A copy of the tracker for as long as its weights stay as they are.

    Under autocast, which fused networks do not take part in, the tracker itself is returned.
    """
    if not isinstance(tracker, StagedTracker) or torch.is_autocast_enabled(tracker.device.type):
        return tracker
    return cast("T", prepare(tracker))


def fuse_tracker(tracker: S, options: FuseOptions) -> S:
    """A copy of the tracker with its network fused, normalisation included where the network allows it."""
    twin = copy.copy(tracker)
    pixels = tracker.normalise if isinstance(tracker.normalise, Normalise) else None
    twin.network = fuse_network(tracker.network, replace(options, pixels=pixels))
    if reads_pixels(twin.network):
        twin.normalise = nn.Identity()
    return twin


class AutocastTracker(WrappedTracker[State]):
    """The same tracker with its network under autocast."""

    def __init__(self, tracker: Tracker, device: str, dtype: torch.dtype) -> None:
        super().__init__(tracker)
        self._autocast = partial(torch.autocast, device, dtype=dtype)

    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> State:
        with self._autocast():
            return self.tracker.init(frames, boxes_xywh)

    def step(self, state: State, frames: Sequence[Frame]) -> tuple[State, Prediction]:
        with self._autocast():
            return self.tracker.step(state, frames)


def export(
    tracker: Tracker, folder: Path, inference: Inference, file_format: str = "onnx"
) -> tuple[OneStreamTracker, dict[str, Any]]:
    """Write a tracker's network as graphs for an engine, and compare them with PyTorch.

    Args:
        tracker: An `OneStreamTracker` on the CPU; others are refused.
        folder: Where the graphs go.
        inference: The engine, its number format and, for 8 bits, clips.
        file_format: See `write_graphs`.

    Returns:
        A copy of the tracker whose network is computed by the engine; and files, inputs and outputs of the graphs,
        their deviation from PyTorch, and what a program needs to know of the tracker to use them (crops, window,
        updates), JSON-able.

    Raises:
        EngineError: The engine is missing or cannot compute this tracker's network, or its outputs deviate from
            PyTorch's.
        WeightsError: A weight is not finite.
    """
    exportable, engine = checked_export(tracker, inference)
    written = WrittenTracker(exportable, folder, inference.clips() if engine.int8 else None, file_format)
    found, parity = written.load(engine, inference.dtype)
    return found, {"graphs": written.graphs, "engine": engine.name, "parity": parity, **found.procedure()}


class WrittenTracker:
    """A tracker's network written as graphs, for all engines that compute it in float32, or for those in 8 bits.

    Args:
        tracker: See `checked_export`.
        folder: Where the graphs go.
        clips: Sample data for the ranges of 8 bits; None: float32.
        file_format: See `write_graphs`.

    Attributes:
        graphs: What `write_graphs` returns.

    Raises:
        EngineError: The network cannot be exported.
        WeightsError: A weight is not finite.
    """

    def __init__(
        self,
        tracker: OneStreamTracker,
        folder: Path,
        clips: Sequence[CalibrationClip] | None = None,
        file_format: str = "onnx",
    ) -> None:
        # In 8 bits NaN becomes a number, so that a comparison of outputs would not show it.
        require_finite(tracker.network.state_dict(), f"{type(tracker.network).__name__} cannot be exported")
        self.folder = folder
        self.tracker = fuse_tracker(tracker, FuseOptions(pack=False, grid=tracker.grid, portable=True))
        try:
            if clips is not None:
                self.tracker.network = quantise(self.tracker.network, calibrate(self.tracker, clips))
            self._plain = network_graphs(self.tracker.network, self.tracker.normalise)
            self.graphs = write_graphs(self._plain, folder, file_format)
        except (EngineError, OSError):
            raise
        except Exception as error:  # layers of any kind, which the exporter or 8 bits may not know
            what = f"{type(tracker.network).__name__} cannot be exported{' in 8 bits' if clips is not None else ''}"
            raise EngineError(f"{what}: {type(error).__name__}: {error}") from error

    def load(self, engine: Engine, dtype: torch.dtype) -> tuple[OneStreamTracker, dict[str, float]]:
        """The tracker computed by an engine, and the deviation of each output from PyTorch's.

        Raises:
            EngineError: Its outputs deviate from PyTorch's.
        """
        loaded = load_graphs(self.folder, self.graphs, engine.runtime, torch.get_num_threads(), dtype)
        exact = not engine.int8 and dtype == torch.float32
        parity = check_parity(self._plain, loaded, engine.tolerance(dtype), state=exact)
        return with_graphs(self.tracker, loaded), parity


class Exports:
    """A tracker prepared in several ways; engines share the graphs of their number format.

    Args:
        tracker: The plain tracker.
        folder: Where the graphs go.
    """

    def __init__(self, tracker: Tracker, folder: Path) -> None:
        self._tracker, self._folder, self._seconds = tracker, folder, 0.0
        self._written: dict[bool, WrittenTracker | None] = {}

    def expected_seconds(self, engine: str) -> float:
        """Time that writing the graphs of an engine is expected to take: as long as the last ones, 0 for written ones.

        Args:
            engine: Its name.
        """
        return 0.0 if engine == TORCH or ENGINES[engine].int8 in self._written else self._seconds

    def keep(self, engine: str, kept: Path) -> None:
        """Leave the graphs of an engine for the next start; the oldest ones, and those of killed runs, are removed.

        Args:
            engine: Its name, not that of PyTorch.
            kept: The `Inference.folder`, in the folder that all graphs are below.
        """
        written = self._written.get(ENGINES[engine].int8)
        with suppress(OSError):  # another process was quicker, or the disk is full
            if written is not None:
                write_text(written.folder / GRAPHS_FILE, json.dumps({"graphs": written.graphs}))
                written.folder.rename(kept)
            newest = sorted(kept.parent.glob(f"*/{GRAPHS_FILE}"), key=lambda file: -file.stat().st_mtime)
            killed = [f for f in kept.parent.glob("tmp*") if f.stat().st_mtime < time.time() - LONGEST_EXPORT]
            for old in [*(file.parent for file in newest[KEPT_FOLDERS:]), *killed]:
                shutil.rmtree(old, ignore_errors=True)

    def prepare(self, inference: Inference) -> Tracker:
        """The tracker computed in one way.

        Raises:
            EngineError: See `export`.
        """
        if get_engine(inference.engine) is None:
            return prepare(self._tracker, inference)
        exportable, engine = checked_export(self._tracker, inference)
        if engine.int8 not in self._written:
            self._written[engine.int8], began = None, time.monotonic()
            clips = inference.clips() if engine.int8 else None
            self._written[engine.int8] = WrittenTracker(exportable, self._folder / str(engine.int8), clips)
            self._seconds = time.monotonic() - began
        graphs = self._written[engine.int8]
        if graphs is None:
            raise EngineError("its graphs could not be written, see above")
        return graphs.load(engine, inference.dtype)[0]


def checked_export(tracker: Tracker, inference: Inference) -> tuple[OneStreamTracker, Engine]:
    """The tracker and the engine that is to compute it.

    Raises:
        EngineError: The engine is missing or cannot compute this tracker's network.
    """
    engine = get_engine(inference.engine)
    if engine is None:
        raise EngineError(f"{TORCH} is no engine to export for")
    if not isinstance(tracker, OneStreamTracker):
        taken = "engines take trackers of one template and one search region, such as OSTrack and TransT"
        refused = f"{type(tracker).__name__} can be neither exported nor computed by an engine"
        raise EngineError(f"{refused}: {taken}; this one runs in PyTorch (--engine torch)")
    if tracker.online is not None:
        remedy = "leave ONLINE out, or use --engine torch"
        raise EngineError(f"ONLINE learns from features that a graph does not give; {remedy}")
    if tracker.device.type != "cpu":
        raise EngineError(f"engine {engine.name} computes on the CPU, not on {tracker.device}; add --device cpu")
    if inference.compiled:
        raise EngineError(f"engine {engine.name} compiles by itself; leave --compile out")
    engine.require()
    return tracker, engine


def with_graphs(tracker: OneStream, loaded: Mapping[str, LoadedGraph]) -> OneStream:
    """A copy of the tracker whose network is computed by loaded graphs."""
    twin = copy.copy(tracker)
    twin.network, twin.normalise = engine_runtime(tracker.network, loaded), nn.Identity()
    twin.gives_regions = frozenset()  # the graphs give boxes
    return twin
