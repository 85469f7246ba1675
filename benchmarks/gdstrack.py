"""GDSTrack on the CPU, against a plain implementation (`plain_gdstrack.py`): a frame, and a step of each phase.

A frame: time, operations and multiply-accumulates; plain, and ours as it is trained, official (float32) and fast
(bfloat16 where the processor has it); how far boxes differ, and the share of edges of the graph that joined
projections change. A step: time, and the memory of what it keeps, its gradients and moments; plain with gradients of
all weights, plain with frozen weights, and ours. Runs are interleaved, the quickest of each counts; with one thread it
is the processor's time, which other programs disturb little. Weights are random.

    PYTHONPATH=. python benchmarks/gdstrack.py --threads 1 --output gdstrack.json
    PYTHONPATH=. python benchmarks/gdstrack.py --steps 1a 1b 2 --batch 4
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference import best_times, inference, no_grad
from plain_gdstrack import PlainGDSTrack
from plain_ostrack import MEAN, STD
from torch import Tensor
from training_step import peak_mib, show, step

from lib.bench import choose_dtype, counting, processor_name
from lib.data import Batch, Normalise, cxcywh_to_xyxy
from lib.deploy import fuse_network
from lib.methods import load_experiment
from lib.methods.gdstrack import GDSTrack, GDSTrackObjective
from lib.models.layers import FuseOptions
from lib.models.losses import giou_loss
from lib.objectives import Progress
from lib.train import build_optimizer, parameter_groups, phases_of


def build(*overrides: str) -> tuple[Any, GDSTrack]:
    experiment = load_experiment("translate_track", "LasHeR_supervised", overrides)
    torch.manual_seed(0)
    return experiment, experiment.method.build_network(experiment.config, False).eval()


def frame(ours: GDSTrack, repeats: int, seconds: float) -> dict[str, dict[str, Any]]:
    """What a frame takes in each way."""
    backbone, plain, normalise = ours.backbone, PlainGDSTrack(ours).eval(), Normalise(MEAN, STD)
    template, search = (
        torch.randint(0, 256, (1, 6, s, s), dtype=torch.uint8) for s in (backbone.template_size, backbone.search_size)
    )
    z, x, noise = normalise(template), normalise(search), torch.randn(1, *ours.noise_shape)
    fast = choose_dtype(torch.device("cpu"), "fast")[0]
    with torch.no_grad(), counting() as cost:
        expected, _ = plain.locate(z, x, noise[:, 0])
    found: dict[str, dict[str, Any]] = {"plain": described(cost)}
    ways: dict[str, Callable[[], object]] = {"plain": lambda: no_grad(lambda: plain.locate(z, x, noise[:, 0])[0])}
    protocols = [("official", torch.float32), *([("fast", fast)] if fast != torch.float32 else [])]
    networks = [(n, fuse_network(ours, FuseOptions(t, normalise)), template, search) for n, t in protocols]
    for name, network, first, picture in (("as trained", ours, z, x), *networks):
        with torch.no_grad():
            known = network.encode_template(first)
            with counting() as cost:
                boxes = network.locate(known, picture, noise).candidates.boxes[:, 0]
        found[name] = described(cost) | {"box_difference": float((boxes - expected).abs().max())}
        ways[name] = locating(network, known, picture, noise)
    times = best_times(ways, repeats, seconds)
    for name, row in found.items():
        row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name]}
    return found


def flipped(ours: GDSTrack) -> float:
    """Share of the graph's edges that joined projections add or remove."""
    part: Any = ours.generate_adjacency
    tokens = torch.randn(1, 2 * ours.backbone.grid_search**2, ours.backbone.width)
    edges, joined = part(tokens), part.fuse_for_inference(FuseOptions(torch.bfloat16, pack=False))(tokens)
    return float((edges != joined).float().sum() / edges.float().sum())


def locating(network: GDSTrack, tokens: Tensor, picture: Tensor, noise: Tensor) -> Callable[[], object]:
    return lambda: inference(lambda: network.locate(tokens, picture, noise).candidates.boxes)


def described(cost: Any) -> dict[str, Any]:
    return {"gmacs": cost.macs / 1e9, "operations": cost.kernels}


def training(phase: str, samples: int, repeats: int, seconds: float, *overrides: str) -> dict[str, dict[str, Any]]:
    """What a step of a phase takes: plain with all gradients, plain with frozen weights, ours."""
    stage, number = {"1a": (1, 0), "1b": (1, 1), "2": (2, -1)}[phase]
    experiment, net = build(*(f"MODEL.STAGE=stage{stage}", *overrides))
    net.train()
    plain = PlainGDSTrack(net).train()
    sizes = net.backbone.template_size, net.backbone.search_size
    template, search = (torch.randn(samples, n, 6, s, s) for n, s in zip((1, 2), sizes, strict=True))
    boxes = torch.tensor([0.3, 0.4, 0.2, 0.3]).expand(samples, 2, 4)
    batch = Batch(template, search, boxes[:, :1], boxes, torch.zeros(samples, dtype=torch.int64))
    objective, train = GDSTrackObjective(experiment.config, net), phases_of(experiment.config.train)[number].train

    def ours() -> Tensor:
        return objective(net, batch, Progress(1, 100)).total

    def plainly() -> Tensor:
        found, diffusion = plain(template[:, 0], search[:, 0], search[:, 1], stage)
        predicted, target = cxcywh_to_xyxy(found.boxes[:, 0]), cxcywh_to_xyxy(boxes[:, 0])
        giou, _ = giou_loss(predicted, target, skip_swapped=False)
        return 2 * giou + 5 * (predicted - target).abs().mean() + diffusion

    ways, rows = {}, {}
    for name, loss, frozen in (("plain", plainly, False), ("plain, frozen", plainly, True), ("ours", ours, True)):

        def run(loss: Callable[[], Tensor] = loss, frozen: bool = frozen) -> float:
            for parameter in net.parameters():
                parameter.requires_grad_(True)
            net.generate_adjacency.requires_grad_(False)
            groups = parameter_groups(net, train) if frozen else None
            every = [{"params": [p for p in net.parameters() if p.requires_grad]}]
            return step(build_optimizer(groups or every, train), loss)

        ways[name] = run
        rows[name] = {"peak_mib": peak_mib(run)}
        net.zero_grad(set_to_none=True)
    times = best_times(ways, repeats, seconds)
    for name, row in rows.items():
        row |= {"seconds": times[name], "share_of_plain": times[name] / times["plain"]}
        row["share_of_memory"] = row["peak_mib"] / rows["plain"]["peak_mib"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=4, help="rounds, of which the quickest counts, at least")
    parser.add_argument("--seconds", type=float, default=30.0, help="go on for so long, up to five times the rounds")
    parser.add_argument("--steps", nargs="*", choices=("1a", "1b", "2"), default=[], help="training steps, no frame")
    parser.add_argument("--batch", type=int, default=1, help="samples of a training step")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the configuration")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"torch": torch.__version__, "processor": processor_name(), "threads": options.threads}
    if not options.steps:
        _, net = build(*options.set)
        found |= {"frame": frame(net, options.repeats, options.seconds), "edges_changed": flipped(net)}
        show(f"a frame, {options.threads} thread(s), {processor_name()}", found["frame"])
        print(f"edges that joined projections change: {found['edges_changed']:.2%}")
    for phase in options.steps:
        rows = training(phase, options.batch, options.repeats, options.seconds, *options.set)
        found[f"phase {phase}"] = rows
        show(f"a training step of phase {phase}, {options.batch} sample(s)", rows)
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
