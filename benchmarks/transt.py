"""TransT's network for one frame on the CPU, against a plain implementation (`plain_transt.py`).

Time, operations and multiply-accumulates per frame: plain, and ours as it is trained, official (float32) and fast
(bfloat16 where the processor has it). Runs are interleaved, the quickest of each counts. Weights are random.

    PYTHONPATH=. python benchmarks/transt.py --threads 1 2 --output transt.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference import best_times, inference, no_grad
from plain_ostrack import MEAN, STD
from plain_transt import PlainTransT
from torch import Tensor

from lib.bench import choose_dtype, counting
from lib.data import Normalise
from lib.deploy import fuse_network
from lib.methods import load_experiment
from lib.methods.transt import TransT
from lib.models.heads import dense_candidates
from lib.models.layers import FuseOptions


def networks() -> tuple[TransT, PlainTransT]:
    """Ours and the plain one, with the same random weights."""
    experiment = load_experiment("transt", "transt")
    torch.manual_seed(0)
    ours: TransT = experiment.method.build_network(experiment.config, False)
    plain = PlainTransT()
    plain.load_state_dict(ours.state_dict())
    return ours.eval(), plain.eval()


def frame(ours: TransT, plain: PlainTransT, repeats: int, seconds: float) -> dict[str, Any]:
    """Cost of a frame in each way."""
    template, search = (torch.randint(0, 256, (1, 3, s, s), dtype=torch.uint8) for s in (128, 256))
    normalise = Normalise(MEAN, STD)
    z, x = normalise(template), normalise(search)
    fast = choose_dtype(torch.device("cpu"), "fast")[0]
    with torch.no_grad():
        features = plain.features(z)
        tokens = ours.encode_template(z)
        with counting() as cost:
            expected = dense_candidates(*plain(features, x))
    found: dict[str, Any] = {"plain": described(cost)}
    ways: dict[str, Callable[[], object]] = {"plain": lambda: no_grad(lambda: plain(features, x))}
    for name, network, picture, start in (
        ("as trained", ours, x, tokens),
        *((n, fuse_network(ours, FuseOptions(t, normalise, grid=32)), search, None) for n, t in protocols(fast)),
    ):
        with torch.no_grad():
            known = network.encode_template(template) if start is None else start
            with counting() as cost:
                cells = network.locate(known, picture)
        difference = float((cells.boxes - expected.boxes).abs().max())
        found[name] = described(cost) | {"box_difference": difference}
        ways[name] = locating(network, known, picture)
    times = best_times(ways, repeats, seconds)
    for name, row in found.items():
        row |= {"ms": times[name] * 1e3, "times_plain": times["plain"] / times[name]}
    return found


def protocols(fast: torch.dtype) -> list[tuple[str, torch.dtype]]:
    return [("official", torch.float32), *([("fast", fast)] if fast != torch.float32 else [])]


def locating(network: TransT, tokens: Tensor, picture: Tensor) -> Callable[[], object]:
    return lambda: inference(lambda: network.locate(tokens, picture).scores)


def described(cost: Any) -> dict[str, Any]:
    return {"gmacs": cost.macs / 1e9, "operations": cost.kernels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=4, help="rounds, of which the quickest counts, at least")
    parser.add_argument("--seconds", type=float, default=30.0, help="go on for so long, up to five times the rounds")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    ours, plain = networks()
    found: dict[str, Any] = {"torch": torch.__version__}
    for threads in options.threads:
        torch.set_num_threads(threads)
        rows = frame(ours, plain, options.repeats, options.seconds)
        found[f"{threads} threads"] = rows
        print(f"a frame, {threads} thread(s)")
        for name, row in rows.items():
            print(f"  {name:<11}" + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
