"""A step of SLT-TrDiMP, exploring and learning, against a plain implementation (`plain_trdimp.py`) with its weights.

Processor time, multiply-accumulates, operations, and the largest sum of tensors that were alive at once beyond the
weights. Ours cuts its crops from pictures of 480 x 360; the plain one gets random crops of the same size. Both learn
clip by clip, as published settings are read here (CLIPS_PER_PASS 1). Weights are random.

    PYTHONPATH=. python benchmarks/slt_trdimp.py --frames 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from plain_ostrack import MEAN, STD
from plain_trdimp import PlainTrDiMP
from torch import Tensor
from trdimp import FIRST, LENGTH, SIDE, STEPS, Scene, corners, networks

from lib.bench import counting
from lib.data import ClipBatch, Frame, FrameSet, Modality, Normalise
from lib.deploy import prepare_for_rollout
from lib.methods import load_experiment
from lib.methods.trdimp import CHECKPOINTED, ProposalLoss, TrDiMP, TrDiMPTracker
from lib.objectives import Progress, SequenceObjective
from lib.train import parameter_groups

PROPOSALS, SPREAD = 128, 7.0


def clips(count: int, frames: int) -> list[FrameSet]:
    """Random pictures with a box that stays, the first one for the template."""
    generator = np.random.default_rng(0)
    found = []
    for i in range(count):
        pictures = [Frame(generator.integers(0, 256, (360, 480, 3), dtype=np.uint8)) for _ in range(frames + 1)]
        boxes = np.tile([210.0, 150.0, 52.0, 66.0], (frames + 1, 1))
        ids = (0, *range(frames + 1))
        found.append(FrameSet((pictures[0],), tuple(pictures), boxes[:1], boxes, Modality.RGB, "set", str(i), ids))
    return found


def our_step(net: TrDiMP, side: int, count: int, frames: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Exploring, and learning from what was found."""
    settings = (f"TEST.SEARCH_SIZE={side}", f"SLT.FRAMES={frames + 1}", "SLT.CLIPS_PER_PASS=1")
    config = load_experiment("slt_trdimp", "slt_trdimp", settings).config
    parameter_groups(net, config.train)
    explorer, auxiliary = TrDiMPTracker.from_config(config, net).explorer(), ProposalLoss(net, config.train)
    learn = SequenceObjective(explorer, auxiliary, config.slt, prepare_for_rollout)
    batch, progress = ClipBatch(clips(count, frames)), Progress(1, 1)

    def backward(parts: Any) -> None:
        for part in parts:
            learn(net, part, progress).total.backward()

    return lambda: learn.split(net, batch, progress), backward


def plain_step(net: PlainTrDiMP, side: int, count: int, frames: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """The same, one row after the other."""
    scene, normalise, classifier, regressor = Scene(side), Normalise(MEAN, STD), net.classifier, net.bb_regressor
    transformer, box = classifier.transformer, scene.box[None]
    seen = scene.crop.repeat(frames, 1, 1, 1)
    for name, parameter in net.named_parameters():
        frozen = name.startswith(("bb_regressor", "feature_extractor")) and "layer3" not in name
        parameter.requires_grad_(not frozen)

    def start(fine: Tensor, coarse: Tensor, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        memory, label = transformer.encode(x), scene.labels[:FIRST]
        samples = torch.cat([transformer.decode(x[i : i + 1], memory, label) for i in range(FIRST)])
        boxes = box.expand(FIRST, -1)
        first = classifier.filter_initializer(samples, corners(boxes))
        weights = classifier.filter_optimizer(first, samples, boxes, torch.full((FIRST,), 1 / FIRST), 5)
        return memory, weights, regressor.modulation(fine[:1], coarse[:1], corners(box))

    def scores(x: Tensor, memory: Tensor, weights: Tensor) -> Tensor:
        decoded = transformer.decode(x, memory, scene.labels[:FIRST])
        return torch.nn.functional.conv2d(decoded, weights, padding=2)

    @torch.no_grad()
    def explore() -> None:
        for _ in range(2 * count):
            memory, weights, modulation = start(*net.extract(normalise(scene.first)))
            for t in range(frames):
                fine, coarse, x = net.extract(normalise(seen[t : t + 1]))
                scores(x, memory, weights)
                regressor.refine(modulation, regressor.features(fine, coarse), scene.boxes, STEPS, LENGTH)

    def learn(_: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        for _ in range(count):
            memory, weights, modulation = start(*net.extract(normalise(scene.first)))
            fine, coarse, x = net.extract(normalise(seen))
            total = torch.zeros(())
            for t in range(frames):
                s = scores(x[t : t + 1], memory, weights).flatten()
                z = (s - s.mean()) / (s.max() - s.mean()) * 2 * SPREAD - SPREAD
                proposals = box + 8 * torch.rand(PROPOSALS, 4, generator=generator)
                features = regressor.features(fine[t : t + 1], coarse[t : t + 1])
                found = regressor.scores(modulation, features, corners(proposals))
                total = total - 4 * z.log_softmax(0)[len(s) // 2] / frames + 0.01 * found.exp().mean().log() / frames
            total.backward()

    return explore, learn


def measured(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Result and cost of a call, which is made three times: counted, timed, and with its allocations recorded."""
    with counting() as cost:
        result = call()
    began = time.process_time()
    call()
    spent = time.process_time() - began
    with torch.profiler.profile(profile_memory=True) as profiler:
        call()
    kineto = profiler.profiler.kineto_results.events()
    events = sorted((e.start_ns(), e.nbytes()) for e in kineto if e.name() == "[memory]")
    alive = np.cumsum([size for _, size in events])
    largest = float(alive.max(initial=0)) / 2**20
    return result, {"s": spent, "GMAC": cost.macs / 1e9, "operations": cost.kernels, "MB": largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--frames", type=int, default=3, help="tracked frames of a clip (published: 23)")
    parser.add_argument("--side", type=int, default=SIDE, help="of a crop (published: 352)")
    parser.add_argument("--keep_activations", action="store_true", help="without TRAIN.ACTIVATION_CHECKPOINTING")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ours, plain = networks(args.side)
    size = args.side, args.clips, args.frames
    ours.feature_extractor.checkpointing = 0 if args.keep_activations else CHECKPOINTED
    steps = {"plain": plain_step(plain, *size), "ours": our_step(ours, *size)}
    rows: dict[str, list[dict[str, float]]] = {}
    for name, (explore, learn) in steps.items():
        explored, exploring = measured(explore)
        _, learning = measured(partial(learn, explored))
        rows[name] = [exploring, learning]
        for what, row in zip(("explore", "learn"), rows[name], strict=True):
            print(f"{name:<6} {what:<8}" + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    for key in ("s", "GMAC", "operations", "MB"):
        join = max if key == "MB" else sum
        a, b = (join(row[key] for row in rows[name]) for name in ("ours", "plain"))
        print(f"{key}: ours {a:.4g}, plain {b:.4g}, {a / b:.2f} of it")


if __name__ == "__main__":
    main()
