"""The ways of computing a network on this processor, timed: `--protocol fast` takes the quickest whose boxes agree.

A processor flag does not decide: there are processors that have instructions for bfloat16 and are slower with them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lib.bench.results import package_version
from lib.data import iou_xywh
from lib.deploy import (
    ENGINES,
    PROCEDURAL,
    TORCH,
    CalibrationClip,
    EngineError,
    Exports,
    Inference,
    calibration_clips,
    get_engine,
)
from lib.machine import choices_file, keep_choice, kept_choices, processor_name
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

    def inference(self, clips: Sequence[CalibrationClip]) -> Inference:
        """Options of `lib.deploy.prepare`; `clips` are for the ranges of 8 bits."""
        return Inference(getattr(torch, self.dtype), engine=self.engine, clips=lambda: clips)

    @property
    def protocol(self) -> str:
        """The protocol that allows it, as `--protocol` takes it."""
        return "fast" if self.is_int8 or self.dtype != "float32" else "official"


@dataclass(frozen=True)
class WayTiming:
    """Speed and agreement of one way.

    Attributes:
        way: The way.
        seconds: Shortest time of a tracker step; infinite where it cannot be used.
        agreement: Mean overlap with the boxes of float32, single steps on sample clips; NaN for random weights.
        loss: Mean overlap with the truth that is lost; NaN for random weights.
        problem: Why it cannot be used; empty if it can.
        frames: Number of frames whose boxes were compared.
    """

    way: Way
    seconds: float = float("inf")
    agreement: float = float("nan")
    loss: float = float("nan")
    problem: str = ""
    frames: int = 0


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
    spec: TrackerSpec,
    ways: Sequence[Way],
    seconds: float = 8.0,
    note: Callable[[str], None] = lambda text: None,
    patience: float = math.inf,
) -> list[WayTiming]:
    """Time ways of computing a tracker against each other, in turn, and compare their boxes.

    Args:
        spec: The tracker, resolved; on the CPU.
        ways: What to measure; the first one is what the others are compared with.
        seconds: Time for all measured steps together; every frame of the clips is tracked, however long it takes.
        note: Receives the name of each way while it is prepared.
        patience: Seconds for preparing; ways that take longer are left out, and slow networks get fewer clips.
    """
    began = time.monotonic()
    plain = spec.build_plain()
    clips = calibration_clips(spec.calibration or PROCEDURAL[plain.reads_aux], spec.paths or load_paths())
    if spec.checkpoint is None:
        clips = clips[:1]  # any will do, as boxes of random weights are not compared
    found: dict[Way, WayTiming] = {}
    trackers: dict[Way, Tracker] = {}
    rest = seconds
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        exports = Exports(plain, Path(folder))
        for number, way in enumerate(ways):
            gone = time.monotonic() - began
            left = min(patience - gone, gone * (len(ways) - number) / max(1, number))
            note(f"{way.name} ({number + 1} of {len(ways)}, about {max(0.0, left) + rest:.0f} s left)")
            try:
                if trackers and (gone > patience or exports.expected_seconds(way.engine) > patience - gone):
                    raise EngineError("left out, there is no time to prepare it (--seconds); fast would try it")
                tracker = exports.prepare(way.inference(clips))
                started = time.perf_counter()
                next(single_steps(tracker, clips))  # a first step makes what later ones use
            except (EngineError, RuntimeError) as error:
                found[way] = _failed(way, error)
                continue
            if not trackers and math.isfinite(patience):
                clip = 4 * len(ways) * (time.perf_counter() - started)
                clips, rest = clips[: max(1, int(seconds / clip))], max(seconds, clip)
            trackers[way], found[way] = tracker, WayTiming(way)
    note(f"steps of all ways in turn, about {rest:.0f} s left")
    truth = torch.cat([c.boxes_xywh[1:] for c in clips])
    runs = {way: single_steps(tracker, itertools.cycle(clips)) for way, tracker in trackers.items()}
    boxes: dict[Way, list[Tensor]] = {way: [] for way in ways}
    rounds, began = 0, time.monotonic()
    while runs and (rounds < len(truth) or time.monotonic() - began < seconds):
        rounds += 1
        for way, run in list(runs.items()):
            started = time.perf_counter()
            try:
                boxes[way].append(next(run))
            except (EngineError, RuntimeError) as error:
                found[way] = _failed(way, error)
                del runs[way]
                continue
            seen = time.perf_counter() - started
            found[way] = replace(found[way], seconds=min(seen, found[way].seconds))
    tracked = {way: torch.cat(boxes[way][: len(truth)]) for way in runs}
    expected = next(iter(tracked.values()), truth)
    for way, mine in tracked.items() if spec.checkpoint is not None else ():
        agreement, loss = _overlap(mine, expected), _overlap(expected, truth) - _overlap(mine, truth)
        agrees = agreement >= LEAST_AGREEMENT and loss <= LARGEST_LOSS
        problem = "" if agrees else f"boxes overlap by {agreement:.3f}, the truth by {loss:.3f} less"
        found[way] = WayTiming(way, found[way].seconds, agreement, loss, problem, len(truth))
    return list(found.values())


def _failed(way: Way, error: Exception) -> WayTiming:
    return WayTiming(way, problem=" ".join(str(error).split()))


def single_steps(tracker: Tracker, clips: Iterable[CalibrationClip]) -> Iterator[Tensor]:
    """Track every frame around a given box, so that no error adds up.

    Args:
        tracker: The tracker.
        clips: Their boxes are those that frames are searched from; the first frame's is the target.

    Yields:
        [1, 4] box of each frame but the first of each clip.
    """
    for clip in clips:
        state: State = tracker.init(clip.frames[:1], clip.boxes_xywh[:1])
        for i in range(1, len(clip.frames)):
            if isinstance(state, OneStreamState):
                state = replace(state, boxes_xywh=clip.boxes_xywh[i : i + 1])
            state, prediction = tracker.step(state, [clip.frames[i]])
            yield prediction.boxes_xywh


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
    processor = processor_name()
    key = _key(spec, processor, spec.calibration)
    try:
        kept = kept_choices()[key]
        way, ratio, when = Way(kept["engine"], kept["dtype"]), float(kept["ratio"]), "timed before"
        get_engine(way.engine)
    except (ValueError, KeyError, TypeError):
        print(f"timing the ways of computing this network on {processor}; this is done once", file=sys.stderr)
        timings = measure_ways(spec, ways_here())
        best = quickest(timings)
        way, ratio, when = best.way, timings[0].seconds / best.seconds, "timed now"
        keep_choice(key, {"engine": way.engine, "dtype": way.dtype, "ratio": ratio})
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
    return choices_file().parent / "graphs" / _key(spec, spec.engine, sources.hexdigest(), processor_name())


def _key(spec: TrackerSpec, *parts: str) -> str:
    """Hexadecimal digits that depend on packages, configuration, weights, and whatever else is given."""
    versions = [f"{name} {package_version(name)}" for name in ("torch", "timm", "onnx", "openvino", "onnxruntime")]
    text = "\n".join([*versions, spec.experiment.hash, spec.weights_hash, *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def ways_text(timings: Sequence[WayTiming]) -> str:
    """Format timings as a table for a terminal.

    Args:
        timings: The first one is what the others are compared with.
    """
    best = quickest(timings).way
    lines = [f"{'way':<20} {'step, ms':>9} {'frames/s':>9} {'times':>6} {'overlap':>8} {'lost':>7}"]
    if timings[0].frames:
        lines[0] += f"  boxes of {timings[0].frames} frames"
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
