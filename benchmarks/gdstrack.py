"""GDSTrack against a plain implementation (`plain_gdstrack.py`): a frame, and a step of each phase.

A frame: time, operations and multiply-accumulates; plain, and ours as it is trained, official (float32) and fast (half
precision where the device has it), on a GPU as one CUDA graph, and by engines; how far boxes differ; and the share of
the graph's edges that change, by the whole network of each way and by joined projections alone. A step: time, and the
memory of what it keeps, its gradients and moments; plain with gradients of all weights, plain with frozen weights, and
ours. Runs are interleaved, the quickest of each counts; with one thread it is the processor's time, which other
programs disturb little. Weights are random.

    PYTHONPATH=. python benchmarks/gdstrack.py --threads 1 --output gdstrack.json
    PYTHONPATH=. python benchmarks/gdstrack.py --steps 1a 1b 2 --batch 4
    PYTHONPATH=. python benchmarks/gdstrack.py --device cuda --batches 1 16 --seconds 4 --page gdstrack.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference import best_times, no_grad
from plain_gdstrack import PlainGDSTrack
from plain_ostrack import MEAN, STD
from torch import Tensor
from training_step import markdown, peak_mib, step
from ways import by_engines

from lib.bench import choose_dtype, counting
from lib.data import Batch, Normalise, cxcywh_to_xyxy
from lib.deploy import ENGINES, GraphedCall, fuse_network
from lib.machine import processor_name
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


def frame(
    experiment: Any, ours: GDSTrack, engines: list[str], batch: int, repeats: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Cost of a frame of each of `batch` sequences in each way."""
    backbone, device = ours.backbone, next(ours.parameters()).device
    plain, normalise = PlainGDSTrack(ours).eval(), Normalise(MEAN, STD).to(device)
    template, search = (
        torch.randint(0, 256, (batch, 6, s, s), dtype=torch.uint8).to(device)
        for s in (backbone.template_size, backbone.search_size)
    )
    z, x, noise = normalise(template), normalise(search), torch.randn(batch, *ours.noise_shape).to(device)
    fast = choose_dtype(device, "fast")[0]
    with torch.no_grad(), counting() as cost:
        expected, _ = plain.locate(z, x, noise[:, 0])
    found: dict[str, dict[str, Any]] = {"plain": described(cost)}
    ways: dict[str, Callable[[], object]] = {"plain": lambda: no_grad(lambda: plain.locate(z, x, noise[:, 0])[0])}
    protocols = [("official", torch.float32), *([("fast", fast)] if fast != torch.float32 else [])]
    networks = [(n, fuse_network(ours, FuseOptions(t, normalise)), template, search) for n, t in protocols]
    by: Any = by_engines(experiment.build_tracker(ours), engines)
    computed = [(n, t.network, template, search) for n, t in by.items()]
    edges = edges_of(ours, z, x)
    for name, network, first, picture in (("as trained", ours, z, x), *networks, *computed):
        with torch.no_grad():
            known = network.encode_template(first)
            with counting() as cost:
                boxes = network.locate(known, picture, noise).candidates.boxes[:, 0]
        found[name] = described(cost) | {"box_difference": float((boxes - expected).abs().max())}
        if name not in by:
            found[name]["edges_changed_%"] = 100 * changed(edges, edges_of(network, first, picture))
        call = GraphedCall(network.locate) if device.type == "cuda" and network is not ours else network.locate
        ways[name] = locating(call, known, picture, noise)
    times = best_times(ways, repeats, seconds, device)
    for name, row in found.items():
        row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name]}
    return found


@torch.no_grad()
def edges_of(network: GDSTrack, template: Tensor, search: Tensor) -> Tensor:
    """The graph of a frame, [B, N, N] bool."""
    tokens = network.backbone.encode(network.encode_template(template), network.backbone.embed_search(search))
    return network.generate_adjacency(tokens.flatten(1, 2))


def changed(edges: Tensor, others: Tensor) -> float:
    """Edges that one of the two graphs has and the other has not, as a share of the first one's."""
    return float((edges != others).sum() / edges.sum())


@torch.no_grad()
def joined(ours: GDSTrack) -> float:
    """Share of the edges between random tokens that joined projections change."""
    part: Any = ours.generate_adjacency
    tokens = torch.randn(1, 2 * ours.backbone.grid_search**2, ours.backbone.width).to(part.linear1.weight.device)
    return changed(part(tokens), part.fuse_for_inference(FuseOptions(torch.bfloat16, pack=False))(tokens))


def locating(locate: Callable[..., Any], tokens: Tensor, picture: Tensor, noise: Tensor) -> Callable[[], object]:
    return lambda: no_grad(lambda: locate(tokens, picture, noise).candidates.boxes)


def described(cost: Any) -> dict[str, Any]:
    return {"gmacs": cost.macs / 1e9, "operations": cost.kernels}


def training(
    phase: str, samples: int, repeats: int, seconds: float, device: torch.device, *overrides: str
) -> dict[str, dict[str, Any]]:
    """Cost of a step of a phase: plain with all gradients, plain with frozen weights, ours."""
    stage, number = {"1a": (1, 0), "1b": (1, 1), "2": (2, -1)}[phase]
    experiment, net = build(*(f"MODEL.STAGE=stage{stage}", *overrides))
    net.to(device).train()
    plain = PlainGDSTrack(net).train()
    sizes = net.backbone.template_size, net.backbone.search_size
    template, search = (torch.randn(samples, n, 6, s, s, device=device) for n, s in zip((1, 2), sizes, strict=True))
    boxes = torch.tensor([0.3, 0.4, 0.2, 0.3], device=device).expand(samples, 2, 4)
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
    times = best_times(ways, repeats, seconds, device)
    for name, row in rows.items():
        row |= {"seconds": times[name], "share_of_plain": times[name] / times["plain"]}
        row["share_of_memory"] = row["peak_mib"] / rows["plain"]["peak_mib"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda")
    parser.add_argument("--engines", nargs="*", default=[], choices=list(ENGINES), help="a frame by these as well")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=4, help="rounds, of which the quickest counts, at least")
    parser.add_argument("--seconds", type=float, default=30.0, help="go on for so long, up to five times the rounds")
    parser.add_argument("--batches", type=int, nargs="+", default=[1], help="sequences at a time, of a frame")
    parser.add_argument("--steps", nargs="*", choices=("1a", "1b", "2"), default=[], help="training steps, no frame")
    parser.add_argument("--batch", type=int, default=1, help="samples of a training step")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the configuration")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    parser.add_argument("--page", type=Path, help="write the tables to this Markdown file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, effort = options.device, (options.repeats, options.seconds)
    machine = processor_name() if device.type == "cpu" else torch.cuda.get_device_name(device)
    where = f"{machine}, {options.threads} thread(s)"
    found: dict[str, Any] = {"torch": torch.__version__, "machine": machine, "threads": options.threads}
    pages: list[str] = []

    def add(title: str, rows: dict[str, dict[str, Any]]) -> None:
        found[title] = rows
        pages.append(markdown(f"{title}, {where}", rows))
        print(pages[-1], flush=True)

    if not options.steps:
        experiment, net = build(*options.set)
        net.to(device)
        for batch in options.batches:
            add(f"A frame of {batch} sequence(s)", frame(experiment, net, options.engines, batch, *effort))
        found["edges_changed_by_joined_projections"] = joined(net)
        pages.append(f"Edges between random tokens that joined projections change: {joined(net):.3%}.\n")
        print(pages[-1])
    for phase in options.steps:
        rows = training(phase, options.batch, *effort, device, *options.set)
        add(f"A training step of phase {phase}, {options.batch} sample(s)", rows)
    if options.page:
        options.page.write_text("\n".join(pages), encoding="utf-8")
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
