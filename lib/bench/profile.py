"""Cost and speed of a tracker: parameters, multiply-accumulates, and four durations that are often confused.

The network is measured where it is used: its calls inside `tracker.init` and `tracker.step` are intercepted, so that
whatever a method computes once per target or once per frame is counted as such, with no code per method.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from lib.bench.cost import Cost, counting
from lib.data import Frame, Image, decode_image, encode_picture
from lib.device import synchronise
from lib.track import State, Tracker
from lib.viz import render_page


class ProfileError(ValueError):
    """A tracker that cannot be measured this way."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call.

    Attributes:
        median: Over the measured calls.
        low: Their 10th percentile.
        high: Their 90th percentile.
        runs: Number of measured calls.
    """

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise measured seconds."""
        low, median, high = (float(v) * 1e3 for v in np.percentile(seconds, (10, 50, 90)))
        return cls(median, low, high, len(seconds))


@dataclass(frozen=True)
class Effort:
    """Duration of a measurement.

    Attributes:
        warm_up: Number of calls before the measured ones.
        repeats: Number of measured calls, at most; at least three are made.
        seconds: Time after which no further call is measured.
    """

    warm_up: int = 5
    repeats: int = 100
    seconds: float = 10.0


@dataclass(frozen=True)
class Profile:
    """Cost and speed of a tracker, at B = 1 unless stated otherwise.

    Operations are those of the tracker as it runs; products are those of the network as it was trained, where that was
    given, since weights that were prepared for inference may be padded.

    Attributes:
        parameters: Number of parameters.
        trainable: Number of those that are trained.
        per_target: Cost of the network's calls in `init`.
        per_frame: Cost of the network's calls in one `step`.
        network: Time of the network's calls inside a step.
        init: Time of `init`.
        step: Time of a step on a decoded frame.
        step_with_decode: Time of decoding a frame's JPEG files and of the step.
        throughput: Batch size -> frames per second of whole steps.
        frame_size_wh: Size of the frames in pixels.
        peak_memory: Bytes on a CUDA device; None on others.
        setting: What the times depend on: versions, processor, threads.
    """

    parameters: int
    trainable: int
    per_target: Cost
    per_frame: Cost
    network: Timing
    init: Timing
    step: Timing
    step_with_decode: Timing
    throughput: dict[int, float]
    frame_size_wh: tuple[int, int]
    peak_memory: int | None = None
    setting: dict[str, str] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass with template and search region, the figure that papers quote."""
        return self.per_target.macs + self.per_frame.macs

    @property
    def layer_macs(self) -> int:
        """The same without products between activations, the figure of counters of layers (thop)."""
        return self.macs - self.per_target.attention_macs - self.per_frame.attention_macs

    def plain(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return {**asdict(self), "macs": self.macs, "layer_macs": self.layer_macs}


class _Metered:
    """Proxy of a network whose calls by the tracker run inside `around()`."""

    def __init__(self, network: nn.Module, around: Callable[[], AbstractContextManager[Any]]) -> None:
        self._network, self._around = network, around

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._network, name)
        is_call = callable(value) and not isinstance(value, nn.Module)
        return self._wrap(value) if is_call and not name.startswith("_") else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(self._network)(*args, **kwargs)

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*args: Any, **kwargs: Any) -> Any:
            with self._around():
                return call(*args, **kwargs)

        return metered


def network_of(tracker: Tracker) -> nn.Module:
    """Network of a tracker.

    Args:
        tracker: The tracker, with or without wrappers that set the precision.

    Raises:
        ProfileError: It has no torch module in an attribute `network`.
    """
    network = getattr(_innermost(tracker), "network", None)
    if not isinstance(network, nn.Module):
        raise ProfileError(f"{type(tracker).__name__} has no `network` (a torch module) that could be measured")
    return network


def _innermost(tracker: Any) -> Any:
    """The tracker itself, without wrappers that set the precision."""
    while isinstance(getattr(tracker, "tracker", None), Tracker):
        tracker = tracker.tracker
    return tracker


@contextmanager
def _metered(tracker: Tracker, around: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    inner, network = _innermost(tracker), network_of(tracker)
    inner.network = _Metered(network, around)
    try:
        yield
    finally:
        inner.network = network


def made_up_picture(width: int, height: int, seed: int = 0) -> Image:
    """Draw a picture with about the detail of a photograph, so that decoding takes a realistic time.

    Args:
        width: In pixels.
        height: In pixels.
        seed: Of the draw.

    Returns:
        [height, width, 3] uint8.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def time_calls(call: Callable[[], object], device: torch.device, effort: Effort) -> Timing:
    """Time a call, the device's work included.

    Args:
        call: What to time.
        device: Its device, which is waited for.
        effort: Number of calls.
    """
    for _ in range(effort.warm_up):
        call()
    synchronise(device)
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < effort.repeats and sum(taken) < effort.seconds):
        start = time.perf_counter()
        call()
        synchronise(device)
        taken.append(time.perf_counter() - start)
    return Timing.of(taken)


@torch.no_grad()
def profile_tracker(
    tracker: Tracker,
    device: torch.device,
    batches: Sequence[int] = (1, 2, 4, 8),
    frame_size_wh: tuple[int, int] = (1280, 720),
    effort: Effort | None = None,
    aux: bool = False,
    note: Callable[[str], None] = lambda text: None,
    plain: Tracker | None = None,
) -> Profile:
    """Measure a tracker on made-up frames. Every step starts from the same state, so that every step costs the same.

    Args:
        tracker: The tracker.
        device: Where it runs.
        batches: Batch sizes for the throughput.
        frame_size_wh: Size of the frames in pixels.
        effort: Duration of each measurement.
        aux: Add a second picture to the frames, also for trackers that ignore it.
        note: Receives the name of each measurement.
        plain: The same tracker, not prepared for inference, whose parameters and products are counted.

    Raises:
        ProfileError: The tracker has no network to measure.
    """
    effort = effort or Effort()
    network = network_of(tracker)
    width, height = frame_size_wh
    picture = made_up_picture(width, height)
    frame = Frame(picture, made_up_picture(width, height, seed=1) if aux or tracker.reads_aux else None)
    boxes = torch.tensor([[width * 0.4, height * 0.4, width * 0.12, height * 0.15]], dtype=torch.float64)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    note("counting operations")
    per_target, per_frame, state = _costs(tracker, frame, boxes)
    if plain is not None:
        network = network_of(plain)
        target_trained, frame_trained, _ = _costs(plain, frame, boxes)
        per_target = replace(target_trained, kernels_by_operation=per_target.kernels_by_operation)
        per_frame = replace(frame_trained, kernels_by_operation=per_frame.kernels_by_operation)
    note("network")
    network_time = _network_time(tracker, state, frame, device, effort)
    note("tracker step")
    init = time_calls(lambda: tracker.init([frame], boxes), device, effort)
    step = time_calls(lambda: tracker.step(state, [frame]), device, effort)
    note("tracker step with decoding")
    with_decode = _decode_time(tracker, state, frame, device, effort)
    throughput = {}
    for size in batches:
        note(f"batch of {size}")
        many = type(state).cat([state] * size)
        taken = time_calls(lambda s=many, n=size: tracker.step(s, [frame] * n), device, effort)  # type: ignore[misc]
        throughput[size] = size / taken.median * 1e3
    return Profile(
        parameters=sum(p.numel() for p in network.parameters()),
        trainable=sum(p.numel() for p in network.parameters() if p.requires_grad),
        per_target=per_target,
        per_frame=per_frame,
        network=network_time,
        init=init,
        step=step,
        step_with_decode=with_decode,
        throughput=throughput,
        frame_size_wh=frame_size_wh,
        peak_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        setting=_setting(device),
    )


def _costs(tracker: Tracker, frame: Frame, boxes: torch.Tensor) -> tuple[Cost, Cost, State]:
    """Cost of the network in `init` and in the first step, and the state between them."""
    found: list[Cost] = []

    @contextmanager
    def around() -> Iterator[None]:
        with counting() as cost:
            yield
        found.append(cost)

    with _metered(tracker, around):
        state = tracker.init([frame], boxes)
        per_target = sum(found, Cost())
        found.clear()
        tracker.step(state, [frame])
    return per_target, sum(found, Cost()), state


def _network_time(tracker: Tracker, state: State, frame: Frame, device: torch.device, effort: Effort) -> Timing:
    """Time of the network's calls inside steps from `state`."""
    spent: list[float] = []

    @contextmanager
    def around() -> Iterator[None]:
        synchronise(device)
        start = time.perf_counter()
        yield
        synchronise(device)
        spent[-1] += time.perf_counter() - start

    def step() -> None:
        spent.append(0.0)
        tracker.step(state, [frame])

    with _metered(tracker, around):
        time_calls(step, device, effort)
    return Timing.of(spent[effort.warm_up :])


def _decode_time(tracker: Tracker, state: State, frame: Frame, device: torch.device, effort: Effort) -> Timing:
    """Time of decoding the frame's JPEG files and of a step from `state`."""
    files = [encode_picture(picture) for picture in (frame.rgb, frame.aux) if picture is not None]

    def step() -> None:
        tracker.step(state, [Frame(*(decode_image(data, "test picture") for data in files))])

    return time_calls(step, device, effort)


def _setting(device: torch.device) -> dict[str, str]:
    """Versions, processor and threads, on which the times depend."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": f"{torch.get_num_threads()} (torch), {cv2.getNumThreads()} (OpenCV)",
        "GPU": torch.cuda.get_device_name(device) if device.type == "cuda" else "none in use",
    }


def profile_text(profile: Profile) -> str:
    """Format a profile for a terminal; the lines of OSTrack's script come last, in their wording.

    Args:
        profile: The profile.
    """
    frame, target = profile.per_frame, profile.per_target
    uncounted = sorted({*frame.uncounted, *target.uncounted})
    context = {"p": profile, "frame": frame, "target": target, "uncounted": uncounted}
    return render_page(Path(__file__).parent / "templates" / "profile.txt", context).rstrip("\n")
