"""SDSTrack on the CPU against a plain implementation (`plain_sdstrack.py`): a frame, and a training step.

Tracking: time of the network for one frame, plain and in the ways of `ways.py`, operations and multiply-accumulates per
frame where PyTorch computes it, and the share of this machine's matrix-product rate that the plain
network's products would need. Training: time of forward, backward and update with clean and masked pass, and the memory
that a step takes beyond weights. Runs are interleaved, the quickest of each counts. Weights are random.

    PYTHONPATH=. python benchmarks/sdstrack.py --threads 1 2 --output sdstrack.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference import add_rates, best_times, inference, limit_ways, no_grad
from plain_ostrack import MEAN, STD
from plain_sdstrack import Pass, PlainSDSTrack
from torch import Tensor, nn
from torch.nn import functional as F
from training_step import kernels, saved_mib, show, step
from ways import WAYS, dtype_of, installed

from lib.bench import counting
from lib.data import Batch, Normalise, cxcywh_to_xyxy, xywh_to_xyxy
from lib.deploy import PROCEDURAL, Inference, calibration_clips, prepare
from lib.methods import load_experiment
from lib.models.layers import MaskRates, PatchMasks
from lib.models.losses import focal_loss, gaussian_heatmap, giou_loss
from lib.objectives import Progress
from lib.paths import load_paths
from lib.train import build_optimizer, parameter_groups

LONGEST = 30.0
"""Seconds of one measurement, beyond the rounds that were asked for."""
CENTRE = 27
"""The template token that judges candidates."""


def networks() -> tuple[Any, nn.Module, PlainSDSTrack]:
    """The experiment, our network and the plain one, with the same random weights."""
    experiment = load_experiment("sdstrack", "cvpr2024_rgbt")
    torch.manual_seed(0)
    ours = experiment.method.build_network(experiment.config, False).eval()
    plain = PlainSDSTrack().eval()
    plain.load_state_dict(ours.state_dict())
    return experiment, ours, plain


def tracking(experiment: Any, ours: nn.Module, plain: PlainSDSTrack, names: list[str], repeats: int) -> dict[str, Any]:
    template, search = (torch.randint(0, 256, (1, 6, s, s), dtype=torch.uint8) for s in (128, 256))
    normalise = Normalise(MEAN, STD)
    z, x = normalise(template), normalise(search)
    mask = torch.arange(64)[None] == CENTRE
    with torch.no_grad(), counting() as cost:
        expected = plain(z, x, mask)[0]
    found: dict[str, Any] = {"plain": {"gmacs": cost.macs / 1e9, "operations": cost.kernels}}
    ways = limit_ways()
    ways["plain"] = lambda: no_grad(lambda: plain(z, x, mask))
    tracker, clips = experiment.build_tracker(ours, None), calibration_clips(PROCEDURAL[True], load_paths())[::3]
    for name, way in installed(names).items():
        quick: Any = prepare(tracker, Inference(dtype_of(way), engine=way.engine, clips=lambda: clips))
        quick = quick.network
        with torch.no_grad():
            tokens = quick.encode_template(template)
            with counting() as cost:
                output = quick.locate(tokens, search)
        difference = float((output.candidates.best_boxes() - expected.boxes).abs().max())
        found[name] = {"gmacs": cost.macs / 1e9, "operations": cost.kernels, "box_difference": difference}
        ways[name] = lambda q=quick, t=tokens: inference(lambda: q.locate(t, search))
    times = best_times(ways, repeats, LONGEST)
    add_rates(found, times)
    return found


def training(experiment: Any, ours: nn.Module, plain: PlainSDSTrack, samples: int, repeats: int) -> dict[str, Any]:
    data = make_batch(samples)
    masks = MaskRates().draw(samples, 64, 256, torch.device("cpu"))
    config = experiment.config.train
    steps: dict[str, Callable[[], float]] = {}
    for name, network in (("plain", plain), ("ours", ours)):
        network.train()
        network.get_submodule("box_head").eval()
        optimizer = build_optimizer(parameter_groups(network, config), config)
        objective = experiment.method.build_objective(experiment.config, ours)
        loss = plain_loss(plain, data, masks) if name == "plain" else our_loss(objective, ours, data, masks)
        steps[name] = lambda o=optimizer, f=loss: step(o, f)
    found = {name: {"loss": run(), "mib": saved_mib(run), "operations": kernels(run)} for name, run in steps.items()}
    times = best_times(dict(steps), repeats, LONGEST)
    for name, row in found.items():
        row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name]}
    return found


def make_batch(samples: int) -> Batch:
    boxes = torch.tensor([[0.36, 0.41, 0.27, 0.19]]).expand(samples, 1, 4).contiguous()
    z, x = (torch.randn(samples, 1, 6, s, s) for s in (128, 256))
    return Batch(z, x, boxes, boxes, torch.zeros(samples, dtype=torch.int64))


def our_loss(objective: Any, network: nn.Module, data: Batch, masks: PatchMasks) -> Callable[[], Tensor]:
    progress = Progress(epoch=40, epochs=40)
    return lambda: objective.learn(network, data, progress, masks).total


def plain_loss(network: PlainSDSTrack, data: Batch, masks: PatchMasks) -> Callable[[], Tensor]:
    """Stochastic depth is left out, which makes the plain step cheaper."""
    mask = (torch.arange(64)[None] == CENTRE).expand(len(data), -1)
    hidden = [masks.template[:, 0], masks.search[:, 0], masks.template[:, 1], masks.search[:, 1]]

    def frame_level(one: Pass) -> Tensor:
        target = data.search_boxes[:, 0]
        corners = xywh_to_xyxy(target).clamp(0, 1)
        giou, _ = giou_loss(cxcywh_to_xyxy(one.boxes), corners)
        focal = focal_loss(one.score, gaussian_heatmap(target, 16))
        return 2 * giou + 5 * F.l1_loss(cxcywh_to_xyxy(one.boxes), corners) + focal

    def loss() -> Tensor:
        clean, masked = network(data.template[:, 0], data.search[:, 0], mask, 0.7, hidden)
        mse = torch.stack([F.mse_loss(a, b) for a, b in zip(clean.fused, masked.fused, strict=True)]).mean()
        return 0.6 * frame_level(clean) + 0.2 * frame_level(masked) + 0.1 * mse

    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="of a frame, in addition to plain"
    )
    parser.add_argument("--repeats", type=int, default=8, help="rounds, of which the quickest counts")
    parser.add_argument("--samples", type=int, default=2, help="of the training batch; 0: no training step")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    experiment, ours, plain = networks()
    found: dict[str, Any] = {"torch": torch.__version__}
    for threads in options.threads:
        torch.set_num_threads(threads)
        rows = tracking(experiment, ours.eval(), plain.eval(), options.ways, options.repeats)
        show(f"a frame, {threads} thread(s)", rows)
        found[f"frame, {threads} threads"] = rows
    if options.samples:
        rows = training(experiment, ours, plain, options.samples, max(1, options.repeats // 2))
        show(f"a training step of {options.samples} samples, {options.threads[-1]} thread(s)", rows)
        found["training"] = rows
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
