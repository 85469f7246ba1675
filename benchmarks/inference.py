"""Speed of a tracker step on the CPU, against a plain implementation of the same network (`plain_ostrack.py`).

For every size and number of threads: time of a step (crop, network, box) and of the network alone; operations per
frame; and which share of this machine's matrix-product rate, measured in the same run, the networks reach. Ways:
plain; official (float32, same boxes) and bfloat16 (where the processor has it) in PyTorch; the engines, in
float32, half precision and 8 bits, where they are installed. Runs are interleaved and the quickest of each counts, by
processor time for one thread, so that a busy machine does little harm. Weights are random.

At the end the shipped network tracks synthetic sequences in every way (`agreement.py`): how far boxes differ, and what
the metric makes of it.

    PYTHONPATH=. python benchmarks/inference.py --sizes 256ce 256 192 128 96 --threads 1 2 --output inference.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import torch
from agreement import agreement, agreement_table
from page import write_into
from plain_ostrack import MEAN, STD, PlainOSTrack, PlainTracker
from torch import Tensor
from ways import WAYS, dtype_of, installed

from lib.bench import Cost, Way, counting, made_up_picture, package_version
from lib.data import Frame
from lib.deploy import (
    PROCEDURAL,
    Exports,
    calibration_clips,
)
from lib.device import synchronise
from lib.machine import processor_name
from lib.methods.ostrack import OSTrack, OSTrackTracker
from lib.models.backbones import OneStreamViT, ViTOptions
from lib.models.heads import CenterHead
from lib.models.layers import FuseOptions, Product, packing_works
from lib.paths import load_paths
from lib.track import CropSettings, OneStreamState, SearchRegion

BOX = [500.0, 300.0, 120.0, 90.0]
ELIMINATING = (3, 6, 9)
SIDE = 1536
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Line:
    """One way of computing one size: milliseconds of a step and of the network, GMAC/s of the network.

    limit: GMAC/s of PyTorch's matrix product in this format, in this run; packed_limit: the same with packed weights,
    as the library's networks have them; both 0 for 8 bits. share, packed_share: rate / limit. operations: per frame,
    0 where an engine keeps them to itself. box_difference: image pixels, after one step.
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
    packed_share: float
    operations: int
    box_difference: float


def random_network(search: int, ce: tuple[int, ...]) -> OSTrack:
    torch.manual_seed(0)
    options = ViTOptions(
        template_size=search // 2,
        search_size=search,
        ce_loc=ce,
        ce_keep_ratio=(0.7,) * len(ce),
        ce_template_range="CTR_POINT" if ce else "ALL",
    )
    return OSTrack(OneStreamViT(options), CenterHead(768)).eval()


def best_times(
    ways: dict[str, Callable[[], object]], repeats: int, seconds: float, device: torch.device = CPU
) -> dict[str, float]:
    """Seconds of the quickest run of each, one after another in every round; the first round does not count.

    At least `repeats` rounds; more, up to five times as many, as long as all together take less than `seconds`. With
    one thread they are seconds of the processor, which other work on the machine hardly changes. Of another device,
    which is waited for, they are seconds of the clock.
    """
    clock = time.process_time if device == CPU and torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(ways, float("inf"))
    begun = time.perf_counter()
    for number in range(5 * repeats + 1):
        if number > repeats and time.perf_counter() - begun > seconds:
            break
        for name, call in ways.items():
            synchronise(device)
            start = clock()
            call()
            synchronise(device)
            taken = clock() - start
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
            packed = Product(b, None, FuseOptions(dtype))
            ways[f"limit {dtype} packed"] = lambda a=a, p=packed: p(a)
    return ways


def limits_of(times: dict[str, float], way: Way) -> tuple[float, float]:
    """GMAC/s without and with packed weights; zeros for a format that has no such product."""
    if way.is_int8:
        return 0.0, 0.0
    plain = times[f"limit {dtype_of(way)} plain"]
    return SIDE**3 / plain / 1e9, SIDE**3 / times.get(f"limit {dtype_of(way)} packed", plain) / 1e9


def add_rates(found: dict[str, dict[str, Any]], times: dict[str, float]) -> None:
    """To rows of "plain" and of ways: milliseconds, and the plain network's products by time and limit."""
    for name, row in found.items():
        limit, packed = limits_of(times, WAYS[name] if name in WAYS else Way())
        rate = found["plain"]["gmacs"] / times[name]
        row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name], "rate": rate}
        row |= {"limit": limit, "packed_limit": packed, "share": rate / limit}


class Contestants:
    """The trackers of one size. Graphs are exported once, whatever runtimes and numbers of threads they serve."""

    def __init__(self, name: str, folder: Path) -> None:
        self.search = int(name.removesuffix("ce"))
        ce, self.factor = (ELIMINATING, 4.0) if name.endswith("ce") else ((), 5.0)
        self.network = random_network(self.search, ce)
        self.plain = PlainTracker(
            PlainOSTrack(self.search // 2, self.search, ce), self.search // 2, self.search, self.factor
        )
        self.plain.network.load_state_dict(self.network.state_dict())
        crops = CropSettings(self.search // 2, 2.0, self.search, self.factor, MEAN, STD)
        self.exports = Exports(OSTrackTracker(self.network, crops), folder)

    def tracker(self, way: Way) -> OSTrackTracker:
        clips = calibration_clips(PROCEDURAL[False], load_paths())[::3] if way.is_int8 else ()
        return cast("OSTrackTracker", self.exports.prepare(way.inference(clips)))


def measure(name: str, them: Contestants, ways: dict[str, Way], repeats: int, seconds: float) -> list[Line]:
    frame, plain = Frame(made_up_picture(1280, 720)), them.plain
    plain.init(frame.rgb, BOX)
    expected = plain.track(frame.rgb)
    cost = plain_cost(plain, them.search)

    def plain_step() -> None:
        plain.box = BOX
        plain.track(frame.rgb)

    picture = torch.randn(1, 3, them.search, them.search)
    calls: dict[str, Callable[[], object]] = limit_ways() | {
        "plain step": plain_step,
        "plain network": lambda: no_grad(lambda: plain.network(plain.template, picture, plain.mask)),
    }
    found: dict[str, tuple[Way, int, float]] = {"plain": (Way(), cost.kernels, 0.0)}
    start = torch.tensor([BOX], dtype=torch.float64)
    for label, way in ways.items():
        tracker = them.tracker(way)
        state = tracker.init([frame], start)
        _, prediction = tracker.step(state, [frame])
        region = tracker.crop_search(state, [frame])
        found[label] = way, operations(tracker, state, region), max_difference(prediction.boxes_xywh, expected)
        calls[f"{label} step"] = lambda t=tracker, s=state: t.step(s, [frame])
        calls[f"{label} network"] = lambda t=tracker, s=state, r=region: inference(lambda: t.forward(s, r))
    times = best_times(calls, repeats, seconds)
    lines = []
    for label, (way, count, difference) in found.items():
        limit, packed = limits_of(times, way)
        step, alone = times[f"{label} step"], times[f"{label} network"]
        rate = cost.macs / alone / 1e9
        lines.append(
            Line(
                name, torch.get_num_threads(), label, step * 1e3, alone * 1e3, times["plain step"] / step,
                cost.macs / 1e9, rate, limit, packed, rate / limit if limit else 0.0, rate / packed if packed else 0.0,
                count, difference,
            )
        )  # fmt: skip
    return lines


def no_grad(call: Callable[[], object]) -> object:
    with torch.no_grad():
        return call()


def inference(call: Callable[[], object]) -> object:
    with torch.no_grad():
        return call()


def plain_cost(plain: PlainTracker, search: int) -> Cost:
    picture = torch.zeros(1, 3, search, search)
    with torch.no_grad(), counting() as cost:
        plain.network(plain.template, picture, plain.mask)
    return cost


def operations(tracker: OSTrackTracker, state: OneStreamState, region: SearchRegion) -> int:
    with torch.no_grad(), counting() as cost:
        tracker.forward(state, region)
    return cost.kernels


def max_difference(found_xywh: Tensor, expected_xywh: list[float]) -> float:
    """Image pixels."""
    return float((found_xywh[0] - torch.tensor(expected_xywh, dtype=torch.float64)).abs().max())


def table(lines: list[Line]) -> str:
    head = f"{'size':>6} {'threads':>7} {'way':<14} {'step ms':>8} {'fps':>6} {'x plain':>7} {'network ms':>10}"
    head += f" {'GMAC/s':>7} {'limit':>6} {'share':>6} {'packed':>6} {'share':>6} {'operations':>10} {'box, px':>9}"
    rows = [
        f"{r.size:>6} {r.threads:>7} {r.way:<14} {r.step_ms:8.1f} {1e3 / r.step_ms:6.2f} {r.times_plain:7.2f} "
        f"{r.network_ms:10.1f} {r.rate:7.1f} {_limit(r.limit, r.share)} {_limit(r.packed_limit, r.packed_share)} "
        f"{r.operations or '-':>10} {r.box_difference:9.1e}"
        for r in lines
    ]
    return "\n".join([head, *rows])


def _limit(limit: float, share: float) -> str:
    return f"{limit:6.0f} {share:6.0%}" if limit else f"{'-':>6} {'-':>6}"


def machine() -> str:
    """Processor and versions, in a sentence."""
    runtimes = {name: package_version(name) for name in ("torch", "onnxruntime", "openvino")}
    return f"{processor_name()}, {os.cpu_count()} cores; {', '.join(f'{k} {v}' for k, v in runtimes.items() if v)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["256ce", "256", "192", "128", "96"], help="search side; ce: CE")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="what to measure in addition to plain"
    )
    parser.add_argument("--repeats", type=int, default=8, help="rounds, of which the quickest counts")
    parser.add_argument("--seconds", type=float, default=30.0, help="small sizes take more rounds, up to this time")
    parser.add_argument("--sequences", type=int, default=48, help="for the ways' agreement; 0: leave it out")
    parser.add_argument("--length", type=int, default=40, help="frames of these sequences")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    parser.add_argument(
        "--page", type=Path, help="write them into this page too, between its marks (docs/inference.md)"
    )
    options = parser.parse_args()
    ways = installed(options.ways)
    lines: list[Line] = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            them = Contestants(size, Path(folder))
            for threads in options.threads:
                torch.set_num_threads(threads)
                cv2.setNumThreads(threads)
                new = measure(size, them, ways, options.repeats, options.seconds)
                lines += new
                print(table(new), flush=True)
    print(f"\nall:\n{table(lines)}")
    together = agreement(ways, options.sequences, options.length) if options.sequences else []
    if together:
        print(f"\nshipped network on synthetic sequences:\n{agreement_table(together)}")
    if options.page:
        write_into(options.page, lines, together, machine())
    if options.output:
        found = {
            "machine": machine(),
            "lines": [asdict(r) for r in lines],
            "agreement": [asdict(a) for a in together],
        }
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
