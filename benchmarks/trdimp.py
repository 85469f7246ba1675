"""TrDiMP's network on the CPU, against a plain implementation (`plain_trdimp.py`), with its weights.

Time, operations and multiply-accumulates of the first frame, of a frame, and of what some frames add: an image that
enters the memory (every fifth frame of the default settings), steps of the filter (every twentieth). From these, a
frame of either setting on the average. Runs are interleaved, the quickest of each counts. With one thread it is
processor time, which other programs disturb less. Weights are random.

    PYTHONPATH=. python benchmarks/trdimp.py --threads 1 --output trdimp.json

With --follow, instead: what a long video costs a small tracker (trdimp synthetic_small, random weights, settings by
default), processor time per frame and memory of all tensors, by the hundred frames.

    PYTHONPATH=. python benchmarks/trdimp.py --follow 1000
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import best_times
from plain_ostrack import MEAN, STD
from plain_trdimp import PlainTrDiMP
from torch import Tensor

from lib.bench import choose_dtype, counting
from lib.data import Frame, Normalise
from lib.deploy import fuse_network, prepare
from lib.machine import processor_name
from lib.methods import load_experiment
from lib.methods.trdimp import TrDiMP, TrDiMPConfig, build_network
from lib.models.layers import FuseOptions
from lib.models.online import apply_filter

SIDE, GRID, FIRST, MOST, SAMPLES = 352, 22, 13, 20, 50
"""Crop, map, images of the first frame and of a full memory, samples of a full memory."""
STEPS, LENGTH = 10, 2.5e-3
PARTS = ("first frame", "frame, first images", "frame, full memory", "image enters", "filter learns")


def networks(side: int = SIDE) -> tuple[TrDiMP, PlainTrDiMP]:
    """Ours and the plain one for crops of a side, with the same random weights and typical batch norms."""
    torch.manual_seed(0)
    config = TrDiMPConfig()
    ours = build_network(replace(config, test=replace(config.test, search_size=side)), False)
    with torch.no_grad():
        for module in ours.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.weight.fill_(0.7)
    plain = PlainTrDiMP()
    plain.load_state_dict(ours.state_dict())
    return ours.eval(), plain.eval()


class Scene:
    """Random pictures, and a target of a sixth of the crop's side as the tracker cuts it."""

    def __init__(self, side: int = SIDE) -> None:
        generator, grid = torch.Generator().manual_seed(1), side // 16
        self.first = torch.randint(0, 256, (FIRST, 3, side, side), generator=generator).float()
        self.crop = torch.randint(0, 256, (1, 3, side, side), generator=generator).float()
        self.box = torch.tensor([150.0, 140.0, 52.0, 66.0]) * side / SIDE
        self.boxes = self.box + 16 * torch.rand(10, 4, generator=generator)
        self.labels = torch.rand(MOST, grid, grid, generator=generator)
        self.memory = 0.011 * torch.randn(MOST, 512, grid, grid, generator=generator)
        self.samples = 0.011 * torch.randn(SAMPLES, 512, grid, grid, generator=generator)
        self.weights = torch.full((SAMPLES,), 1 / SAMPLES)
        self.filter = 0.01 * torch.randn(1, 512, 4, 4, generator=generator)


def corners(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def plain_parts(net: PlainTrDiMP, scene: Scene) -> dict[str, Callable[[], Tensor]]:
    """The parts as a plain tracker runs them."""
    n, t, normalise = net.classifier, net.classifier.transformer, Normalise(MEAN, STD)
    box = scene.box[None].expand(FIRST, -1)
    fine, coarse, _ = net.extract(normalise(scene.first[:1]))
    modulation = net.bb_regressor.modulation(fine, coarse, corners(scene.box[None]))
    memories = {count: t.encode(scene.memory[:count]) for count in (FIRST, MOST)}

    def first() -> Tensor:
        fine, coarse, x = net.extract(normalise(scene.first))
        memory = t.encode(x)
        samples = torch.cat([t.decode(x[i : i + 1], memory, scene.labels[:FIRST]) for i in range(FIRST)])
        net.bb_regressor.modulation(fine[:1], coarse[:1], corners(scene.box[None]))
        start = n.filter_initializer(samples, corners(box))
        return n.filter_optimizer(start, samples, box, torch.full((FIRST,), 1 / FIRST), 10)

    def frame(count: int) -> Tensor:
        fine, coarse, x = net.extract(normalise(scene.crop))
        decoded = t.decode(x, memories[count], scene.labels[:count])
        scores = torch.nn.functional.conv2d(decoded, scene.filter, padding=2)
        boxes = net.bb_regressor.refine(modulation, net.bb_regressor.features(fine, coarse), scene.boxes, STEPS, LENGTH)
        return torch.cat([boxes.flatten(), scores.flatten()])

    samples = scene.box[None].expand(SAMPLES, -1)
    return dict(
        zip(
            PARTS,
            (
                first,
                lambda: frame(FIRST),
                lambda: frame(MOST),
                lambda: t.encode(scene.memory),
                lambda: n.filter_optimizer(scene.filter, scene.samples, samples, scene.weights, 2),
            ),
            strict=True,
        )
    )


def our_parts(net: TrDiMP, scene: Scene, normalise: Normalise | None) -> dict[str, Callable[[], Tensor]]:
    """The same parts by the library's network; `normalise` where the network does not do it."""
    seen = (lambda x: x) if normalise is None else normalise
    box = scene.box[None].expand(1, FIRST, 4)
    start = net.extract(seen(scene.first[:1]))
    dtype = start.classification.dtype
    modulation = net.bb_regressor.modulation(start.fine, start.coarse, scene.box[None].to(dtype))
    store, labels = scene.memory.to(dtype)[None], scene.labels[None]
    transformer, optimizer = net.classifier.transformer, net.classifier.filter_optimizer
    memories = {count: transformer.encode(store[:, :count], labels[:, :count], True) for count in (FIRST, MOST)}
    samples = scene.samples.to(dtype)[None]

    def first() -> Tensor:
        found = net.extract(seen(scene.first))
        memory = transformer.encode(found.classification[None], labels[:, :FIRST], True)
        decoded = transformer.decode(found.classification, memory)[None]
        net.bb_regressor.modulation(found.fine[:1], found.coarse[:1], scene.box[None])
        return optimizer(net.classifier.filter_initializer(decoded, box), decoded, box, iterations=10)[-1]

    def frame(count: int) -> Tensor:
        found = net.extract(seen(scene.crop))
        decoded = transformer.decode(found.classification, [memories[count]])
        scores = apply_filter(decoded[:, None], scene.filter.to(dtype))[:, 0]
        boxes, _ = net.refine(modulation, found, scene.boxes[None], STEPS, LENGTH)
        return torch.cat([boxes.flatten(), scores.flatten()])

    def learn() -> Tensor:
        boxes = scene.box[None].expand(1, SAMPLES, 4)
        return optimizer(scene.filter.to(dtype), samples, boxes, scene.weights[None].to(dtype), 2)[-1]

    def enter() -> Tensor:
        return transformer.push(memories[MOST], store[:, 0], labels[:, 0], MOST).keys

    return dict(zip(PARTS, (first, lambda: frame(FIRST), lambda: frame(MOST), enter, learn), strict=True))


@torch.no_grad()
def measure(
    ours: TrDiMP, plain: PlainTrDiMP, wanted: list[str], repeats: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Every part in every way: milliseconds, operations, GMAC, and how far results are from the plain ones."""
    scene, normalise = Scene(), Normalise(MEAN, STD)
    fast = choose_dtype(torch.device("cpu"), "fast")[0]
    ways = {"plain": plain_parts(plain, scene), "as trained": our_parts(ours, scene, normalise)}
    for name, dtype in (("official", torch.float32), *([("fast", fast)] if fast != torch.float32 else [])):
        fused = fuse_network(ours, FuseOptions(dtype, normalise, grid=GRID))
        ways[name] = our_parts(fused, scene, None)
    found: dict[str, dict[str, Any]] = {}
    for part in wanted:
        rows, expected = {}, ways["plain"][part]()
        for name, parts in ways.items():
            with counting() as cost:
                result = parts[part]()
            rows[name] = {"gmacs": cost.macs / 1e9, "operations": cost.kernels}
            if result.shape == expected.shape:
                rows[name]["difference"] = float((result - expected).abs().max() / expected.abs().max())
        times = best_times({name: parts[part] for name, parts in ways.items()}, repeats, seconds)
        for name, row in rows.items():
            row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name]}
        found[part] = rows
    return found | (averages(found) if found.keys() >= set(PARTS[1:]) else {})


def averages(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A frame of either setting, of a long sequence."""
    base, full, enter, learn = PARTS[1:]
    shares = {"average, lasot": {base: 1, learn: 0.05}, "average, default": {full: 1, enter: 0.2, learn: 0.05}}
    result = {}
    for name, parts in shares.items():
        rows = {
            way: {k: sum(found[p][way][k] * share for p, share in parts.items()) for k in ("ms", "gmacs", "operations")}
            for way in found[base]
        }
        result[name] = {way: {**row, "times_plain": rows["plain"]["ms"] / row["ms"]} for way, row in rows.items()}
    return result


def follow(frames: int) -> None:
    """Track a bright target that circles over noise, the score threshold aside: every frame is learned from."""
    experiment = load_experiment("trdimp", "synthetic_small", ("TEST.LOCALISATION.TARGET_NOT_FOUND_THRESHOLD=0",))
    torch.manual_seed(0)
    tracker = prepare(experiment.build_tracker(experiment.method.build_network(experiment.config, False).eval()))
    ground = np.random.default_rng(0).integers(0, 128, (240, 320, 3), dtype=np.uint8)

    def picture(t: int) -> tuple[Frame, tuple[int, int]]:
        x, y = round(140 + 80 * math.cos(t / 40)), round(100 + 60 * math.sin(t / 40))
        shown = ground.copy()
        shown[y : y + 40, x : x + 40] = 255 - shown[y : y + 40, x : x + 40]
        return Frame(shown), (x, y)

    first, (x, y) = picture(0)
    state = tracker.init([first], torch.tensor([[x, y, 40.0, 40.0]], dtype=torch.float64))
    spent = 0.0
    for t in range(1, frames + 1):
        frame, _ = picture(t)
        began = time.process_time()
        state, _ = tracker.step(state, [frame])
        spent += time.process_time() - began
        if t % 100 == 0:
            gc.collect()
            megabytes = sum(storages().values()) / 2**20
            print(f"frames {t - 99} to {t}: {spent * 10:.1f} ms per frame, {megabytes:.2f} MB", flush=True)
            spent = 0.0


def storages() -> dict[int, int]:
    """Address and bytes of every tensor's memory, packed weights aside."""
    alive = (thing for thing in gc.get_objects() if issubclass(type(thing), Tensor))
    return {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in alive if t.layout == torch.strided)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the quickest counts, at least")
    parser.add_argument("--seconds", type=float, default=20.0, help="go on for so long, up to five times the rounds")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    parser.add_argument("--follow", type=int, metavar="FRAMES", help="a long video instead")
    options = parser.parse_args()
    if options.follow:
        torch.set_num_threads(options.threads[0])
        follow(options.follow)
        return
    ours, plain = networks()
    found: dict[str, Any] = {"torch": torch.__version__, "processor": processor_name()}
    print(found["processor"])
    for threads in options.threads:
        torch.set_num_threads(threads)
        found[f"{threads} threads"] = parts = measure(ours, plain, options.parts, options.repeats, options.seconds)
        for part, rows in parts.items():
            print(f"{part}, {threads} thread(s)")
            for name, row in rows.items():
                print(f"  {name:<11}" + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
