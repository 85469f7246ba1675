"""The ways of computing a network on this processor, timed: each protocol takes the quickest whose boxes it allows.

A processor flag does not decide: there are processors that have instructions for bfloat16 and are slower with them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.bench.results import package_version
from lib.cores import SMALL_NETWORK, network_threads
from lib.data import iou_xywh
from lib.deploy import (
    ENGINES,
    GRAPHS_FILE,
    PROCEDURAL,
    TORCH,
    CalibrationClip,
    EngineError,
    Exports,
    Inference,
    calibration_clips,
    get_engine,
)
from lib.machine import cache_folder, keep_choice, kept_choices, one_at_a_time, processor_name
from lib.paths import load_paths
from lib.track import OneStreamState, State, Tracker

if TYPE_CHECKING:
    from lib.bench.spec import TrackerSpec

LEAST_AGREEMENT = 0.95
"""Mean overlap with the boxes of float32 that a way must reach in single steps on sample clips."""
LARGEST_LOSS = 0.01
"""Mean overlap with the truth that it may lose there."""
SAME_BOXES = 0.005
"""Pixels by which no side of a box may move there for a way of the official protocol: what rounding does."""


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
        seconds: Shortest time of a tracker step; of the processor where one thread computes, so that other work does
            not count. Infinite where it cannot be used.
        agreement: Mean overlap with the boxes of float32, single steps on sample clips; NaN for random weights.
        loss: Mean overlap with the truth that is lost; NaN for random weights.
        problem: Why it cannot be used; empty if it can.
        frames: Number of frames whose boxes were compared.
        movement: Largest difference from these boxes in pixels; NaN for random weights.
    """

    way: Way
    seconds: float = float("inf")
    agreement: float = float("nan")
    loss: float = float("nan")
    problem: str = ""
    frames: int = 0
    movement: float = float("nan")

    def is_usable(self, protocol: str) -> bool:
        """True if a protocol, "fast" or "official", allows it."""
        exact = self.way.protocol == "official" and self.movement <= SAME_BOXES
        return not self.problem and (exact or protocol == "fast")


def ways_here() -> list[Way]:
    """The ways that this machine's packages and processor allow; plain PyTorch first."""
    formats = ["float32", "bfloat16"] if has_bfloat16() else ["float32"]
    found, eight = [Way(dtype=name) for name in formats], list[Way]()
    for runtime, numbers in (("openvino", formats), ("onnx", ["float32"])):
        try:
            ENGINES[runtime].require()
        except EngineError:
            continue
        found += [Way(runtime, name) for name in numbers]
        eight.append(Way(f"{runtime}-int8"))
    return found + eight


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

    The graphs of the ways that the protocols would take are kept for the next start, see `graphs_folder`.

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
    with tempfile.TemporaryDirectory(dir=_graphs_root(), ignore_cleanup_errors=True) as folder:
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
        found |= _steps_in_turn(trackers, clips, seconds, spec.checkpoint is not None)
        chosen = [quickest(list(found.values()), protocol).way.engine for protocol in ("official", "fast")]
        for engine in {*chosen} - {TORCH}:
            if kept := graphs_folder(replace(spec, engine=engine), plain):
                exports.keep(engine, kept)
    return list(found.values())


def _steps_in_turn(
    trackers: Mapping[Way, Tracker], clips: Sequence[CalibrationClip], seconds: float, compare: bool
) -> dict[Way, WayTiming]:
    """Time steps of the trackers, and compare their boxes with the first one's, see `measure_ways`."""
    found = {way: WayTiming(way) for way in trackers}
    truth = torch.cat([c.boxes_xywh[1:] for c in clips])
    runs = {way: single_steps(tracker, itertools.cycle(clips)) for way, tracker in trackers.items()}
    boxes: dict[Way, list[Tensor]] = {way: [] for way in trackers}
    rounds, began = 0, time.monotonic()
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    while runs and (rounds < len(truth) or time.monotonic() - began < seconds):
        rounds += 1
        for way, run in list(runs.items()):
            started = clock()
            try:
                boxes[way].append(next(run))
            except (EngineError, RuntimeError) as error:
                found[way] = _failed(way, error)
                del runs[way]
                continue
            found[way] = replace(found[way], seconds=min(clock() - started, found[way].seconds))
    tracked = {way: torch.cat(boxes[way][: len(truth)]) for way in runs}
    expected = next(iter(tracked.values()), truth)
    regions = next((t.gives_regions for t in trackers.values()), None)
    for way, mine in tracked.items():
        if trackers[way].gives_regions != regions:
            found[way] = replace(found[way], problem="gives boxes alone, the tracker polygons or masks too")
            continue
        if not compare:
            continue
        agreement, loss = _overlap(mine, expected), _overlap(expected, truth) - _overlap(mine, truth)
        agrees = agreement >= LEAST_AGREEMENT and loss <= LARGEST_LOSS
        problem = "" if agrees else f"boxes overlap by {agreement:.3f}, the truth by {loss:.3f} less"
        movement = float((mine - expected).abs().max())
        found[way] = WayTiming(way, found[way].seconds, agreement, loss, problem, len(truth), movement)
    return found


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


def quickest(timings: Sequence[WayTiming], protocol: str = "fast") -> WayTiming:
    """The quickest way that can be used; of ways within a twentieth of it the most exact, plain PyTorch before engines.

    Args:
        timings: The first one is used where no other is quicker.
        protocol: "fast" or "official".
    """
    usable = [t for t in timings if t.is_usable(protocol)] or timings[:1]
    best = min(t.seconds for t in usable)
    close = [t for t in usable if t.seconds <= 1.05 * best]
    return min(close, key=lambda t: (t.way.is_int8, t.way.dtype != "float32"))


def choose_way(spec: TrackerSpec, long_run: bool = False) -> tuple[Way | None, str]:
    """The quickest way of computing a tracker on this machine: timed once per machine, threads, network and weights.

    In the official protocol nobody waits for a gain of some percent: anything is timed before a long run alone.

    Args:
        spec: The tracker, resolved; on the CPU.
        long_run: So many frames are about to be tracked that timing pays in the official protocol, too.

    Returns:
        The way, and how much quicker than plain PyTorch it was, in words; or None and why PyTorch is taken untimed.
    """
    processor, official = processor_name(), spec.protocol == "official"
    ways = [way for way in ways_here() if not official or way.protocol == "official"]
    if official and len(ways) == 1:
        return None, ""
    when = "timed before"
    try:
        way, ratio = _kept_way(spec)
    except LookupError as error:
        if official and not long_run:
            return None, f"PyTorch, since {error.args[0]} (tracking/profile_model.py --ways)"
        with one_at_a_time():
            try:
                way, ratio = _kept_way(spec)  # by another process, meanwhile
            except LookupError:
                print(f"timing the ways of computing this network on {processor}; this is done once", file=sys.stderr)
                timings = measure_ways(spec, ways)
                keep_ways(spec, timings)
                best = quickest(timings, spec.protocol)
                way, ratio, when = best.way, timings[0].seconds / best.seconds, "timed now"
    return way, f"{spec.protocol}: {way.name}, {ratio:.2f} times as quick as torch float32 on this {processor}, {when}"


def _kept_way(spec: TrackerSpec) -> tuple[Way, float]:
    """The way that was timed before, and how much quicker than plain PyTorch it was.

    Raises:
        LookupError: There is none that can be used, with the reason.
    """
    try:
        kept = kept_choices()[_choice_key(spec)]
        way, ratio = Way(kept["engine"], kept["dtype"]), float(kept["ratio"])
        engine = get_engine(way.engine)
        if engine is not None:
            engine.require()
    except EngineError as error:
        raise LookupError(str(error)) from None
    except (ValueError, KeyError, TypeError):
        raise LookupError("no other way was timed for these weights and threads") from None
    kept_only = engine is not None and spec.protocol == "official"  # its graphs are not made again for this protocol
    if kept_only and not (_graphs_path(spec, way.engine) / GRAPHS_FILE).is_file():
        raise LookupError(f"{way.name} was quicker, but its graphs are no longer kept")
    return way, ratio


def keep_ways(spec: TrackerSpec, timings: Sequence[WayTiming]) -> None:
    """Keep the choice of the spec's protocol, which `choose_way` takes from then on, and that of the official one.

    Args:
        spec: The tracker, resolved.
        timings: Of its ways.
    """
    for protocol in {spec.protocol, "official"}:
        best = quickest(timings, protocol)
        choice = {"engine": best.way.engine, "dtype": best.way.dtype, "ratio": timings[0].seconds / best.seconds}
        keep_choice(_choice_key(replace(spec, protocol=protocol)), choice)


def _choice_key(spec: TrackerSpec) -> str:
    threads = f"{spec.protocol}, {network_threads(SMALL_NETWORK, spec.cpu_threads)} threads"
    return _key(spec, processor_name(), threads, spec.calibration if spec.protocol == "fast" else "")


def graphs_folder(spec: TrackerSpec, tracker: Tracker) -> Path | None:
    """Where an engine's graphs of a network are kept from one start to the next.

    Args:
        spec: The tracker, resolved, with an engine.
        tracker: The plain tracker.

    Returns:
        A folder whose name depends on all that the graphs do, this library's source files included; None where that
        cannot be known: parts from outside the tree, calibration on a data set, which may change.
    """
    known, network = {"lib", "torch", "timm"}, getattr(tracker, "network", None)
    if network is None or (spec.calibration and Way(spec.engine).is_int8):
        return None
    if any(type(m).__module__.partition(".")[0] not in known for m in network.modules()):
        return None
    return _graphs_path(spec, spec.engine)


def _graphs_path(spec: TrackerSpec, engine: str) -> Path:
    sources = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        sources.update(file.read_bytes())
    return cache_folder() / "graphs" / _key(spec, engine, sources.hexdigest(), processor_name())


def _graphs_root() -> Path | None:
    """The folder of those folders, so that graphs are kept by a rename; None where it cannot be made."""
    root = cache_folder() / "graphs"
    with suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
    return root if os.access(root, os.W_OK) else None


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
    best = {protocol: quickest(timings, protocol).way for protocol in ("official", "fast")}
    head = f"{'way':<20} {'step, ms':>9} {'frames/s':>9} {'times':>6} {'overlap':>8} {'lost':>7} {'moved, px':>9}"
    lines = [f"{head}  boxes of {timings[0].frames} frames" if timings[0].frames else head]
    for t in timings:
        if math.isinf(t.seconds):
            lines.append(f"{t.way.name:<20} {t.problem}")
            continue
        chosen = ", ".join(protocol for protocol, way in best.items() if way == t.way)
        mark = f"  <- {chosen}" if chosen else f"  not used: {t.problem}" if t.problem else ""
        agreement, loss, moved = ("-" if math.isnan(v) else f"{v:.4f}" for v in (t.agreement, t.loss, t.movement))
        speed = f"{t.seconds * 1e3:9.2f} {1 / t.seconds:9.1f} {timings[0].seconds / t.seconds:6.2f}"
        lines.append(f"{t.way.name:<20} {speed} {agreement:>8} {loss:>7} {moved:>9}{mark}")
    return "\n".join(lines)
