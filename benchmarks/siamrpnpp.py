"""SiamRPN++ or SiamAttn (boxes only) for one frame, against plain ones (`plain_siamrpnpp.py`, `plain_siamattn.py`).

Time, operations and multiply-accumulates per frame: plain, and ours as it is trained, official (float32) and fast
(bfloat16 where the processor has it), and by engines, for some numbers of sequences in a batch. Runs are interleaved,
the quickest of each counts. Weights are random, with scores that differ.

    PYTHONPATH=. python benchmarks/siamrpnpp.py --threads 1 --output siamrpnpp.json
    PYTHONPATH=. python benchmarks/siamrpnpp.py --method siamattn
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import best_times, inference, no_grad
from plain_siamattn import PlainSiamAttn
from plain_siamrpnpp import SIDE, PlainSiamRPN
from ways import by_engines

from lib.bench import choose_dtype, counting
from lib.deploy import ENGINES, Inference, prepare
from lib.methods import load_experiment
from lib.methods.siamrpnpp import SiamRPN, SiamRPNTracker, SizedRegion
from lib.track import OneStreamState


def networks(method: str, device: torch.device) -> tuple[SiamRPNTracker, PlainSiamRPN]:
    """Our tracker and the plain network, with the same random weights."""
    experiment = load_experiment(method, method)
    torch.manual_seed(0)
    ours: SiamRPN = experiment.method.build_network(experiment.config, False)
    with torch.no_grad():
        ours.backbone.bn1.running_var.mul_(130.0**2)  # type: ignore[union-attr]
        for i, branch in enumerate(ours.rpn_head.branches()):
            branch.head[3].get_parameter("weight").mul_(0.1 if i % 2 else 1.0)
        for name, parameter in ours.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.1)
    ours = ours.eval().to(device)
    tracker: Any = experiment.build_tracker(ours)
    return tracker, (PlainSiamAttn if method == "siamattn" else PlainSiamRPN)(ours.state_dict())


def frame(
    tracker: SiamRPNTracker, plain: PlainSiamRPN, engines: list[str], rows: int, repeats: int, seconds: float
) -> dict[str, Any]:
    """Cost of a frame of `rows` sequences in each way."""
    device = tracker.device
    template, search = (torch.randint(0, 256, (rows, 3, s, s), dtype=torch.uint8, device=device) for s in (127, SIDE))
    sizes = torch.full((rows, 2), 60.0, dtype=torch.float64)
    none = torch.zeros(rows, 2, dtype=torch.float64)
    region = SizedRegion(search, none, torch.ones_like(none), none, sizes / SIDE)
    with torch.no_grad():
        features = plain.template(tracker.normalise(template))

        plains = {"plain": plain}
        if isinstance(plain, PlainSiamAttn):
            plains["no masks"] = copy.copy(plain)
            plains["no masks"].masks = False  # type: ignore[attr-defined]
        found: dict[str, Any] = {}
        ways: dict[str, Callable[[], object]] = {}
        for name, network in plains.items():

            def as_published(network: PlainSiamRPN = network) -> Any:
                return network.locate(features, tracker.normalise(search), sizes.numpy())

            with counting() as cost:
                expected = as_published()
            found[name] = {"gmacs": cost.macs / 1e9, "operations": cost.kernels}
            ways[name] = lambda run=as_published: no_grad(run)  # type: ignore[misc]
    fast = choose_dtype(device, "fast")[0]
    protocols = [("official", torch.float32), *([("fast", fast)] if fast != torch.float32 else [])]
    prepared = {n: prepare(tracker, Inference(t)) for n, t in protocols}
    for name, track in {"as trained": tracker, **prepared, **by_engines(tracker, engines)}.items():
        run = locating(track, region, template)
        no_grad(run)  # what is made once per size of the maps
        with torch.no_grad(), counting() as cost:
            boxes = run()
        middle = (boxes * SIDE - torch.tensor([SIDE / 2, SIDE / 2, 0, 0])).numpy()
        difference = float(np.abs(middle - expected).max())
        found[name] = {"gmacs": cost.macs / 1e9, "operations": cost.kernels, "box_difference_px": difference}
        ways[name] = lambda run=run: inference(run)  # type: ignore[misc]
    times = best_times(ways, repeats, seconds)
    for name, row in found.items():
        row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name]}
    return found


def locating(tracker: Any, region: SizedRegion, template: torch.Tensor) -> Callable[[], torch.Tensor]:
    """From the search region's pixels to the chosen boxes."""
    with torch.no_grad():
        kernels = tracker.network.encode_template(tracker.normalise(template))
    state = OneStreamState(torch.zeros(len(template), 4, dtype=torch.float64), kernels)
    return lambda: tracker.select_anchor(state, region, tracker.forward(state, region))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="siamrpnpp", choices=["siamrpnpp", "siamattn"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rows", nargs="+", type=int, default=[1], help="sequences in a batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engines", nargs="*", default=[], choices=list(ENGINES), help="computed by these as well")
    parser.add_argument("--repeats", type=int, default=4, help="rounds, of which the quickest counts, at least")
    parser.add_argument("--seconds", type=float, default=30.0, help="go on for so long, up to five times the rounds")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    tracker, plain = networks(options.method, torch.device(options.device))
    found: dict[str, Any] = {"torch": torch.__version__}
    for threads in options.threads:
        torch.set_num_threads(threads)
        for rows in options.rows:
            figures = frame(tracker, plain, options.engines, rows, options.repeats, options.seconds)
            found[f"{threads} threads, {rows} rows"] = figures
            print(f"a frame of {rows} sequence(s), {threads} thread(s)")
            for name, row in figures.items():
                print(f"  {name:<11}" + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
