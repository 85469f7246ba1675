"""CSTrack on the CPU against a plain implementation (`plain_cstrack.py`): a frame of either stage, and a training step.

Tracking: time of the network for one frame, plain and in the ways of `ways.py`, operations and multiply-accumulates per
frame where PyTorch computes it, and the share of this machine's matrix-product rate that the plain
network's products would need. In stage 2 the memory is full. Training: time of forward, backward and update,
operations, and the memory that a step takes, with and without activation checkpointing. Runs are interleaved, the
quickest of each counts. Weights are random.

    PYTHONPATH=. python benchmarks/cstrack.py --threads 1 2 --output cstrack.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference import add_rates, best_times, inference, limit_ways, no_grad
from plain_cstrack import PlainCSTrack
from plain_ostrack import MEAN, STD
from torch import Tensor, nn
from torch.nn import functional as F
from training_step import kernels, peak_mib, show, step
from ways import WAYS, dtype_of, installed

from lib.bench import counting
from lib.data import Batch, Normalise, cxcywh_to_xyxy, xywh_to_xyxy
from lib.deploy import PROCEDURAL, Inference, calibration_clips, prepare
from lib.methods import load_experiment
from lib.methods.cstrack import CSTrack
from lib.models.losses import focal_loss, gaussian_heatmap, giou_loss
from lib.objectives import Progress
from lib.paths import load_paths
from lib.train import build_optimizer, parameter_groups

LONGEST = 60.0
"""Seconds of one measurement, beyond the rounds that were asked for."""
FRAMES = {1: 1, 2: 6}
"""Search frames of a training sample, by stage."""


def networks(stage: int) -> tuple[Any, CSTrack, PlainCSTrack]:
    """The experiment, our network and the plain one, with the same random weights."""
    experiment = load_experiment(f"cstrack_s{stage}", f"cstrack_s{stage}", ["MODEL.PRETRAIN_FILE=''"])
    torch.manual_seed(0)
    ours = experiment.method.build_network(experiment.config, False).eval()
    plain = PlainCSTrack(stage == 2, dropout=0.0).eval()
    plain.load_state_dict(ours.state_dict())
    return experiment, ours, plain


def tracking(experiment: Any, ours: CSTrack, plain: PlainCSTrack, names: list[str], repeats: int) -> dict[str, Any]:
    template, search = (torch.randint(0, 256, (1, 6, s, s), dtype=torch.uint8) for s in (128, 256))
    normalise, shares = Normalise(MEAN, STD), torch.rand(1, 2, 64)
    z, x = normalise(template), normalise(search)
    masks = [shares[:, 0, :, None], shares[:, 1, :, None]]
    memory = [torch.randn(1, 16, 512) for _ in range(4)]
    with torch.no_grad(), counting() as cost:
        expected = plain([z, z], x, masks, memory)
    found: dict[str, Any] = {"plain": {"gmacs": cost.macs / 1e9, "operations": cost.kernels}}
    ways = limit_ways()
    ways["plain"] = lambda: no_grad(lambda: plain([z, z], x, masks, memory))
    tracker, clips = experiment.build_tracker(ours, None), calibration_clips(PROCEDURAL[True], load_paths())[::3]
    for name, way in installed(names).items():
        quick: Any = prepare(tracker, Inference(dtype_of(way), engine=way.engine, clips=lambda: clips))
        quick = quick.network
        entries = None if ours.memory is None else torch.stack(memory, dim=1).to(dtype_of(way))
        with torch.no_grad():
            typed = quick.update_template(
                quick.encode_template(template, shares[:, 0]), shares[:, 0], template, shares[:, 1]
            )
            with counting() as cost:
                output = quick.locate(typed, search, entries)
        difference = float((output.candidates.best_boxes() - expected.boxes).abs().max())
        found[name] = {"gmacs": cost.macs / 1e9, "operations": cost.kernels, "box_difference": difference}
        ways[name] = lambda q=quick, t=typed, m=entries: inference(lambda: q.locate(t, search, m))
    times = best_times(ways, repeats, LONGEST)
    add_rates(found, times)
    return found


def training(stage: int, samples: int, repeats: int) -> dict[str, Any]:
    experiment, ours, plain = networks(stage)
    _, checkpointed, _ = networks(stage)
    checkpointed.backbone.checkpointing = True
    config, data = experiment.config.train, make_batch(samples, FRAMES[stage])
    objective = experiment.method.build_objective(experiment.config, ours)
    shares = objective.foreground_masks(data.template_boxes)
    losses: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "plain": (plain, plain_loss(plain, data, shares)),
        "ours": (ours, our_loss(objective, ours, data)),
        "checkpointed": (checkpointed, our_loss(objective, checkpointed, data)),
    }
    steps: dict[str, Callable[[], float]] = {}
    for name, (network, loss) in losses.items():
        without_chance(network.train())
        optimizer = build_optimizer(parameter_groups(network, config), config)
        steps[name] = lambda o=optimizer, f=loss: step(o, f)
    found = {
        name: {"loss": run(), "peak_mib": peak_mib(run), "operations": kernels(run)} for name, run in steps.items()
    }
    times = best_times(dict(steps), repeats, LONGEST)
    for name, row in found.items():
        row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name]}
    return found


def our_loss(objective: Any, network: CSTrack, data: Batch) -> Callable[[], Tensor]:
    return lambda: objective(network, data, Progress(epoch=1, epochs=1)).total


def without_chance(network: nn.Module) -> None:
    """No dropout and no stochastic depth, so that losses are equal."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]
        if hasattr(module, "rate"):
            module.rate = 0.0  # type: ignore[assignment]


def make_batch(samples: int, frames: int) -> Batch:
    boxes = torch.tensor([[0.36, 0.41, 0.27, 0.19]]).expand(samples, 2 + frames, 4).contiguous()
    z, x = (torch.randn(samples, n, 6, s, s) for n, s in ((2, 128), (frames, 256)))
    return Batch(z, x, boxes[:, :2], boxes[:, 2:], torch.zeros(samples, dtype=torch.int64))


def plain_loss(network: PlainCSTrack, data: Batch, shares: Tensor) -> Callable[[], Tensor]:
    target = data.search_boxes.transpose(0, 1).flatten(0, 1)
    corners = xywh_to_xyxy(target).clamp(0, 1)
    templates, searches, masks = data.template.unbind(1), data.search.unbind(1), shares[..., None].unbind(1)

    def loss() -> Tensor:
        found = network.clip(list(templates), list(searches), list(masks))
        boxes, score, confidence = (torch.cat([getattr(f, n) for f in found]) for n in ("boxes", "score", "confidence"))
        giou, iou = giou_loss(cxcywh_to_xyxy(boxes), corners)
        focal = focal_loss(score, gaussian_heatmap(target, 16))
        task = F.cross_entropy(torch.cat([f.task for f in found]), torch.zeros(len(target), dtype=torch.int64))
        l1, error = F.l1_loss(cxcywh_to_xyxy(boxes), corners), F.mse_loss(confidence[:, 0], iou)
        return 2 * giou + 5 * l1 + focal + task + error

    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--stages", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="of a frame, in addition to plain"
    )
    parser.add_argument("--repeats", type=int, default=8, help="rounds, of which the quickest counts")
    parser.add_argument("--samples", type=int, default=2, help="of the training batch; 0: no training step")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    found: dict[str, Any] = {"torch": torch.__version__}
    for stage in options.stages:
        experiment, ours, plain = networks(stage)
        for threads in options.threads:
            torch.set_num_threads(threads)
            title = f"stage {stage}, a frame, {threads} thread(s)"
            found[title] = tracking(experiment, ours, plain, options.ways, options.repeats)
            show(title, found[title])
        if options.samples:
            title = f"stage {stage}, a training step of {options.samples} samples, {options.threads[-1]} thread(s)"
            found[title] = training(stage, options.samples, max(1, options.repeats // 3))
            show(title, found[title])
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
