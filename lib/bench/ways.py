"""The ways of computing a network on this processor, timed: `--protocol fast` takes the quickest whose boxes agree.

A processor flag does not decide: there are processors that have instructions for bfloat16 and are slower with them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.bench.results import package_version
from lib.data import Frame, iou_xywh
from lib.deploy import (
    ENGINES,
    PROCEDURAL,
    TORCH,
    CalibrationClip,
    EngineError,
    Inference,
    calibration_clips,
    get_engine,
    prepare,
)
from lib.files import write_text
from lib.paths import load_paths
from lib.track import OneStreamState, State, Tracker

if TYPE_CHECKING:
    from lib.bench.spec import TrackerSpec

LEAST_AGREEMENT = 0.95
"""Mean overlap with the boxes of float32 that a way must reach in single steps on sample clips."""
LARGEST_LOSS = 0.01
"""Mean overlap with the truth that it may lose there."""


@dataclass(frozen=True)
class Way:
    """One way of computing a network.

    Attributes:
        engine: Name of the engine, see `lib.deploy.ENGINES`, or "torch".
        dtype: Number format of the products that are not in 8 bits: "float32" or "bfloat16".
    """

    engine: str = TORCH
    dtype: str = "float32"

    @property
    def is_int8(self) -> bool:
        """True if most products are in 8 bits."""
        return self.engine.endswith("int8")

    @property
    def name(self) -> str:
        """For a line of text."""
        return self.engine if self.is_int8 else f"{self.engine} {self.dtype}"

    @property
    def protocol(self) -> str:
        """The protocol that allows it, as `--protocol` takes it."""
        return "fast" if self.is_int8 or self.dtype != "float32" else "official"


@dataclass(frozen=True)
class WayTiming:
    """Speed and agreement of one way.

    Attributes:
        way: The way.
        seconds: Shortest time of a tracker step on a frame of 640 x 480; infinite where it cannot be used.
        agreement: Mean overlap with the boxes of float32, single steps on sample clips; NaN for random weights.
        loss: Mean overlap with the truth that is lost; NaN for random weights.
        problem: Why it cannot be used; empty if it can.
    """

    way: Way
    seconds: float = float("inf")
    agreement: float = float("nan")
    loss: float = float("nan")
    problem: str = ""


def ways_here() -> list[Way]:
    """The ways that this machine's packages and processor allow; plain PyTorch first."""
    formats = ["float32", "bfloat16"] if has_bfloat16() else ["float32"]
    found = [Way(dtype=name) for name in formats]
    for runtime, numbers in (("openvino", formats), ("onnx", ["float32"])):
        try:
            ENGINES[runtime].require()
        except EngineError:
            continue
        found += [*(Way(runtime, name) for name in numbers), Way(f"{runtime}-int8")]
    return found


def has_bfloat16() -> bool:
    """True if the processor has instructions for products in bfloat16."""
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(check()) for name in checks if (check := getattr(torch.cpu, name, None)) is not None)


def measure_ways(
    spec: TrackerSpec, ways: Sequence[Way], seconds: float = 8.0, note: Callable[[str], None] = lambda text: None
) -> list[WayTiming]:
    """Time ways of computing a tracker against each other, in turn, and compare their boxes.

    Args:
        spec: The tracker, resolved; on the CPU.
        ways: What to measure; the first one is what the others are compared with.
        seconds: Time for all measured steps together, at least five of each.
        note: Receives the name of each way while it is prepared.
    """
    plain = spec.build_plain()
    clips = calibration_clips(spec.calibration or PROCEDURAL[plain.reads_aux], spec.paths or load_paths())
    trackers: dict[Way, Tracker] = {}
    found: dict[Way, WayTiming] = {}
    expected: Tensor | None = None
    truth = torch.cat([c.boxes_xywh[1:] for c in clips])
    for way in ways:
        note(way.name)
        try:
            tracker = prepare(plain, Inference(getattr(torch, way.dtype), engine=way.engine, clips=lambda: clips))
            boxes = single_steps(tracker, clips)
        except (EngineError, RuntimeError) as error:
            found[way] = WayTiming(way, problem=" ".join(str(error).split()))
            continue
        expected = boxes if expected is None else expected
        timing = WayTiming(way, 0.0)
        if spec.checkpoint is not None:
            agreement, loss = _overlap(boxes, expected), _overlap(expected, truth) - _overlap(boxes, truth)
            agrees = agreement >= LEAST_AGREEMENT and loss <= LARGEST_LOSS
            problem = "" if agrees else f"boxes overlap by {agreement:.3f}, the truth by {loss:.3f} less"
            timing = WayTiming(way, 0.0, agreement, loss, problem)
        trackers[way], found[way] = tracker, timing
    frame = Frame(*[clips[0].frames[0].rgb.repeat(4, 0).repeat(4, 1)[:480, :640]] * (2 if plain.reads_aux else 1))
    box = torch.tensor([[300.0, 200.0, 60.0, 45.0]], dtype=torch.float64)
    states = {way: tracker.init([frame], box) for way, tracker in trackers.items()}
    times: dict[Way, list[float]] = {way: [] for way in trackers}
    while trackers and (len(next(iter(times.values()))) < 6 or sum(map(sum, times.values())) < seconds):
        for way, tracker in trackers.items():
            began = time.perf_counter()
            tracker.step(states[way], [frame])
            times[way].append(time.perf_counter() - began)
    return [replace(t, seconds=min(times[w][1:])) if w in times else t for w, t in found.items()]


def single_steps(tracker: Tracker, clips: Sequence[CalibrationClip]) -> Tensor:
    """Boxes of a tracker that searches every frame around a given box, so that no error adds up.

    Args:
        tracker: The tracker.
        clips: Their boxes are those that frames are searched from; the first frame's is the target.

    Returns:
        [N, 4] boxes of all frames but the first of each clip.
    """
    found = []
    for clip in clips:
        state: State = tracker.init(clip.frames[:1], clip.boxes_xywh[:1])
        for i in range(1, len(clip.frames)):
            if isinstance(state, OneStreamState):
                state = replace(state, boxes_xywh=clip.boxes_xywh[i : i + 1])
            state, prediction = tracker.step(state, [clip.frames[i]])
            found.append(prediction.boxes_xywh)
    return torch.cat(found)


def _overlap(found: Tensor, expected: Tensor) -> float:
    return float(iou_xywh(found.numpy(), expected.numpy()).mean())


def quickest(timings: Sequence[WayTiming]) -> WayTiming:
    """The quickest way that can be used; of ways within a twentieth of it the most exact, plain PyTorch before engines.

    Args:
        timings: The first one is used where no other is quicker.
    """
    usable = [t for t in timings if not t.problem] or timings[:1]
    best = min(t.seconds for t in usable)
    close = [t for t in usable if t.seconds <= 1.05 * best]
    return min(close, key=lambda t: (t.way.is_int8, t.way.dtype != "float32"))


def choose_way(spec: TrackerSpec) -> tuple[Way, str]:
    """The quickest way of computing a tracker on this machine: timed once per machine, network and weights.

    Args:
        spec: The tracker, resolved; on the CPU.

    Returns:
        The way, and how much quicker than plain PyTorch it was, in words.
    """
    processor, path = processor_name(), cache_file()
    key = _key(spec, processor, spec.calibration)
    try:
        kept = _choices(path)[key]
        way, ratio, when = Way(kept["engine"], kept["dtype"]), float(kept["ratio"]), "timed before"
        get_engine(way.engine)
    except (ValueError, KeyError, TypeError):
        print(f"timing the ways of computing this network on {processor}; this is done once", file=sys.stderr)
        timings = measure_ways(spec, ways_here())
        best = quickest(timings)
        way, ratio, when = best.way, timings[0].seconds / best.seconds, "timed now"
        choice = {"engine": way.engine, "dtype": way.dtype, "ratio": ratio}
        with suppress(OSError):  # a folder that cannot be written is no failure
            write_text(path, json.dumps({**_choices(path), key: choice}, indent=1) + "\n")
    return way, f"fast: {way.name}, {ratio:.2f} times as quick as torch float32 on this {processor}, {when}"


def graphs_folder(spec: TrackerSpec, network: nn.Module) -> Path | None:
    """Where an engine's graphs of a network are kept from one start to the next.

    Args:
        spec: The tracker, resolved, with an engine.
        network: Its network.

    Returns:
        A folder whose name depends on all that the graphs do, this library's source files included; None where that
        cannot be known: parts from outside the tree, calibration on a data set, which may change.
    """
    known = {"lib", "torch", "timm"}
    if spec.calibration or any(type(m).__module__.partition(".")[0] not in known for m in network.modules()):
        return None
    sources = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        sources.update(file.read_bytes())
    return cache_file().parent / "graphs" / _key(spec, spec.engine, sources.hexdigest(), processor_name())


def _key(spec: TrackerSpec, *parts: str) -> str:
    """Hexadecimal digits that depend on packages, configuration, weights, and whatever else is given."""
    versions = [f"{name} {package_version(name)}" for name in ("torch", "timm", "onnx", "openvino", "onnxruntime")]
    text = "\n".join([*versions, spec.experiment.hash, spec.weights_hash, *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _choices(path: Path) -> dict[str, Any]:
    """The choices that were made so far; a file that cannot be read holds none."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def cache_file() -> Path:
    """Where choices are kept, by the rule of XDG; deleting it has them timed again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unitrack" / "ways.json"


def processor_name() -> str:
    """Maker and model of this machine's processor."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def ways_text(timings: Sequence[WayTiming]) -> str:
    """Format timings as a table for a terminal.

    Args:
        timings: The first one is what the others are compared with.
    """
    best = quickest(timings).way
    lines = [f"{'way':<20} {'step, ms':>9} {'frames/s':>9} {'times':>6} {'overlap':>8} {'lost':>7}"]
    for t in timings:
        if t.seconds == float("inf"):
            lines.append(f"{t.way.name:<20} {t.problem}")
            continue
        mark = "  <- fast" if t.way == best else f"  not used: {t.problem}" if t.problem else ""
        agreement, loss = ("-" if math.isnan(value) else f"{value:.4f}" for value in (t.agreement, t.loss))
        lines.append(
            f"{t.way.name:<20} {t.seconds * 1e3:9.2f} {1 / t.seconds:9.1f} {timings[0].seconds / t.seconds:6.2f} "
            f"{agreement:>8} {loss:>7}{mark}"
        )
    return "\n".join(lines)
