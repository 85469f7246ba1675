"""How fast a tracker step is on the CPU, against a plain implementation of the same network (`plain_ostrack.py`).

For every size and number of threads: time of a step (crop, network, box) and of the network alone, plain and ours, in
the official protocol (float32, same boxes) and the fast one (bfloat16 where the processor has it); operations per
frame; and which share of this machine's matrix-product rate, measured in the same run, the networks reach. Runs are
interleaved and the quickest of each counts, so that a busy machine does little harm. Weights are random.

At the end the shipped network tracks synthetic sequences in both protocols: how far boxes differ, and what the metric
makes of it.

    PYTHONPATH=. python benchmarks/inference.py --sizes 256ce 256 192 128 96 --threads 1 2 --output inference.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from plain_ostrack import MEAN, STD, PlainOSTrack, PlainTracker
from torch import Tensor

from lib.bench.cost import Cost, counting
from lib.bench.demo import demo_factory
from lib.bench.execution import choose_dtype
from lib.bench.metrics.metric import evaluate
from lib.bench.metrics.scores import SequenceResult
from lib.bench.profile import made_up_picture
from lib.data.synthetic.dataset import build_synthetic
from lib.data.types import Frame, Sequence
from lib.methods.ostrack.network import OSTrack
from lib.methods.ostrack.tracker import OSTrackTracker
from lib.models.backbones.one_stream_vit import OneStreamViT
from lib.models.heads.center import CenterHead
from lib.models.layers.fused import Plan, Product, packing_works
from lib.track.inference import Inference
from lib.track.one_stream import CropSettings, OneStreamState
from lib.track.session import TrackerSession

BOX = [500.0, 300.0, 120.0, 90.0]
ELIMINATING = (3, 6, 9)


@dataclass(frozen=True)
class Line:
    """One way of computing one size: milliseconds of a step and of the network, GMAC/s of the network.

    limit: GMAC/s of PyTorch's matrix product in this format, in this run; packed_limit: the same with packed weights,
    as the library's networks have them. share: rate / limit.
    """

    size: str
    threads: int
    way: str
    step_ms: float
    network_ms: float
    times_plain: float
    gmacs: float
    rate: float
    limit: float
    packed_limit: float
    share: float
    operations: int
    box_difference: float


def random_network(search: int, ce: tuple[int, ...]) -> OSTrack:
    torch.manual_seed(0)
    backbone = OneStreamViT(
        template_size=search // 2,
        search_size=search,
        ce_loc=ce,
        ce_keep_ratio=(0.7,) * len(ce),
        ce_template_range="CTR_POINT" if ce else "ALL",
    )
    return OSTrack(backbone, CenterHead(768)).eval()


def best_times(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the quickest run of each, one after another in every round; the first round does not count."""
    best = dict.fromkeys(ways, float("inf"))
    for number in range(repeats + 1):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            taken = time.perf_counter() - start
            if number:
                best[name] = min(best[name], taken)
    return best


def limit_ways() -> dict[str, Callable[[], object]]:
    """Large products, as PyTorch computes them and with packed weights."""
    ways: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
        ways[f"limit {dtype} plain"] = lambda a=a, b=b: a @ b
        if packing_works(dtype):
            packed = Product(b, None, Plan(dtype))
            ways[f"limit {dtype} packed"] = lambda a=a, p=packed: p(a)
    return ways


SIDE = 1536


def limits_of(times: dict[str, float], dtype: torch.dtype) -> tuple[float, float]:
    """GMAC/s without and with packed weights."""
    plain = times[f"limit {dtype} plain"]
    return SIDE**3 / plain / 1e9, SIDE**3 / times.get(f"limit {dtype} packed", plain) / 1e9


def our_tracker(network: OSTrack, search: int, factor: float, dtype: torch.dtype) -> OSTrackTracker:
    tracker = OSTrackTracker(network, CropSettings(search // 2, 2.0, search, factor, MEAN, STD))
    tracker.prepare(Inference(dtype))
    return tracker


def measure_size(name: str, repeats: int) -> list[Line]:
    search = int(name.removesuffix("ce"))
    ce, factor = (ELIMINATING, 4.0) if name.endswith("ce") else ((), 5.0)
    frame = Frame(made_up_picture(1280, 720))
    network = random_network(search, ce)
    plain = PlainTracker(PlainOSTrack(search // 2, search, ce), search // 2, search, factor)
    plain.network.load_state_dict(network.state_dict())
    plain.init(frame.rgb, BOX)
    fast = choose_dtype(torch.device("cpu"), "fast")[0]
    trackers = {
        "official": our_tracker(network, search, factor, torch.float32),
        "fast": our_tracker(network, search, factor, fast),
    }
    expected = plain.track(frame.rgb)
    cost = plain_cost(plain, search)

    def plain_step() -> None:
        plain.box = BOX
        plain.track(frame.rgb)

    start = torch.tensor([BOX], dtype=torch.float64)
    ways: dict[str, Callable[[], object]] = limit_ways() | {"plain step": plain_step}
    picture = torch.randn(1, 3, search, search)
    ways["plain network"] = lambda: no_grad(lambda: plain.network(plain.template, picture, plain.mask))
    found: dict[str, tuple[int, float]] = {"plain": (cost.kernels, 0.0)}
    crops = torch.zeros(1, 3, search, search, dtype=torch.uint8)
    for way, tracker in trackers.items():
        state = tracker.init([frame], start)
        _, prediction = tracker.step(state, [frame])
        found[way] = operations(tracker, state, crops), max_difference(prediction.boxes_xywh, expected)
        ways[f"{way} step"] = lambda t=tracker, s=state: t.step(s, [frame])
        ways[f"{way} network"] = lambda t=tracker, s=state: inference(lambda: t.locate(s, crops))
    times = best_times(ways, repeats)
    lines = []
    for way, (count, difference) in found.items():
        limit, packed = limits_of(times, fast if way == "fast" else torch.float32)
        step, alone = times[f"{way} step"], times[f"{way} network"]
        rate = cost.macs / alone / 1e9
        lines.append(
            Line(
                name, torch.get_num_threads(), way, step * 1e3, alone * 1e3, times["plain step"] / step,
                cost.macs / 1e9, rate, limit, packed, rate / limit, count, difference,
            )
        )  # fmt: skip
    return lines


def no_grad(call: Callable[[], object]) -> object:
    with torch.no_grad():
        return call()


def inference(call: Callable[[], object]) -> object:
    with torch.inference_mode():
        return call()


def plain_cost(plain: PlainTracker, search: int) -> Cost:
    picture = torch.zeros(1, 3, search, search)
    with torch.no_grad(), counting() as cost:
        plain.network(plain.template, picture, plain.mask)
    return cost


def operations(tracker: OSTrackTracker, state: OneStreamState, crops: Tensor) -> int:
    with torch.inference_mode(), counting() as cost:
        tracker.locate(state, crops)
    return cost.kernels


def max_difference(found_xywh: Tensor, expected_xywh: list[float]) -> float:
    """Image pixels."""
    return float((found_xywh[0] - torch.tensor(expected_xywh, dtype=torch.float64)).abs().max())


@dataclass(frozen=True)
class Agreement:
    """Both protocols on the same sequences. overlap: mean overlap of their boxes; pixels: median difference of corners.

    success: area under the curve in percent, as OSTrack's evaluation computes it.
    """

    sequences: int
    frames: int
    overlap: float
    pixels: float
    success_official: float
    success_fast: float


def agreement(count: int, length: int) -> Agreement:
    """The shipped network in both protocols, each following its own boxes."""
    data = build_synthetic(f"SYNTHETIC:seed=990001,sequences={count},length={length}")
    runs: dict[str, list[SequenceResult]] = {}
    for protocol in ("official", "fast"):
        session = TrackerSession(demo_factory(None, None, None, "cpu", protocol).build(0))
        runs[protocol] = [follow(session, data[i]) for i in range(count)]
    a, b = (np.concatenate([r.prediction_xywh for r in runs[p]]) for p in ("official", "fast"))
    success = {p: evaluate("ostrack", runs[p]).headline["auc"] for p in runs}
    return Agreement(
        count, len(a), float(overlaps(a, b).mean()), float(np.median(np.abs(a - b).max(axis=1))),
        success["official"], success["fast"],
    )  # fmt: skip


def follow(session: TrackerSession, sequence: Sequence) -> SequenceResult:
    first = sequence.boxes_xywh[0]
    session.init(sequence.read_frame(0), first.tolist())
    boxes = [tuple(first.tolist())]
    boxes += [session.update(sequence.read_frame(i))[0] for i in range(1, len(sequence))]
    return SequenceResult(sequence.name, sequence.boxes_xywh, np.array(boxes), sequence.visible)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    return common / (a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - common)


def table(lines: list[Line]) -> str:
    head = f"{'size':>6} {'threads':>7} {'way':<9} {'step ms':>8} {'fps':>6} {'x plain':>7} {'network ms':>10}"
    head += f" {'GMAC/s':>7} {'limit':>6} {'packed':>6} {'share':>6} {'operations':>10} {'box, px':>9}"
    rows = [
        f"{r.size:>6} {r.threads:>7} {r.way:<9} {r.step_ms:8.1f} {1e3 / r.step_ms:6.2f} {r.times_plain:7.2f} "
        f"{r.network_ms:10.1f} {r.rate:7.1f} {r.limit:6.0f} {r.packed_limit:6.0f} {r.share:6.0%} "
        f"{r.operations:>10} {r.box_difference:9.1e}"
        for r in lines
    ]
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256ce", "256", "192", "128", "96"], help="search side; ce: CE")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=8, help="rounds, of which the quickest counts")
    parser.add_argument("--sequences", type=int, default=6, help="for the two protocols' agreement; 0: leave it out")
    parser.add_argument("--length", type=int, default=60, help="frames of these sequences")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    lines: list[Line] = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        for size in options.sizes:
            new = measure_size(size, options.repeats)
            lines += new
            print(table(new), flush=True)
    print(f"\nall:\n{table(lines)}")
    together = agreement(options.sequences, options.length) if options.sequences else None
    if together:
        print(
            f"shipped network, {together.sequences} synthetic sequences, {together.frames} frames: boxes of the two "
            f"protocols overlap by {together.overlap:.4f}, differ by {together.pixels:.2f} px (median); "
            f"success {together.success_official:.2f} official, {together.success_fast:.2f} fast"
        )
    if options.output:
        found = {
            "torch": torch.__version__,
            "lines": [asdict(r) for r in lines],
            "agreement": asdict(together) if together else None,
        }
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
