"""A step of masked appearance transfer against a plain implementation (`plain_mat.py`), in one run.

Samples per second, operations, and what is kept for the backward pass: plain, ours in float32, and in half precision
where the device has it, at the published sizes. Steps are interleaved, the quickest of each counts; the first losses
are compared. Weights are random.

    PYTHONPATH=. python benchmarks/mat.py --batch 4 --threads 1 --output mat.json
    PYTHONPATH=. python benchmarks/mat.py --batch 32 --device cuda --seconds 15 --page mat.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference import best_times
from plain_mat import PlainMAT
from torch import Tensor
from training_step import kernels, markdown, saved_mib, step

from lib.bench import choose_dtype
from lib.data import Batch
from lib.machine import processor_name
from lib.methods import load_experiment
from lib.methods.mat import AppearanceTransfer, TransferObjective
from lib.train import build_optimizer, parameter_groups


def losses(batch: int, device: torch.device) -> dict[str, tuple[Callable[[], Tensor], torch.optim.Optimizer]]:
    """The loss of each way and the optimiser of its network, with the same weights, pictures and masks."""
    experiment = load_experiment("translate_template", "common_pretrain")
    train = experiment.config.train
    torch.manual_seed(0)
    pictures = torch.randn(batch, 2, 3, 112, 112, device=device), torch.randn(batch, 1, 3, 224, 224, device=device)
    boxes = torch.zeros(batch, 1, 4, device=device)
    given = Batch(*pictures, boxes, boxes, torch.zeros(batch, dtype=torch.long))
    ours: AppearanceTransfer = experiment.method.build_network(experiment.config, True).to(device)
    noise = ours.autoencoder.draw_noise(batch, device)
    plain = PlainMAT().to(device)
    plain.load_state_dict(ours.autoencoder.state_dict())
    (template, wanted), search = pictures[0].unbind(1), pictures[1][:, 0]

    objective = TransferObjective(experiment.config, ours)

    def learn(dtype: torch.dtype) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
            return objective.learn(ours, given, noise).total

    ways: dict[str, tuple[Callable[[], Tensor], torch.optim.Optimizer]] = {
        "plain": (
            lambda: plain(template, wanted, search, noise),
            build_optimizer(parameter_groups(plain, train), train),
        )
    }
    optimizer = build_optimizer(parameter_groups(ours, train), train)
    for dtype in dict.fromkeys((torch.float32, choose_dtype(device, "fast")[0])):
        ways[str(dtype).removeprefix("torch.")] = (lambda dtype=dtype: learn(dtype), optimizer)  # type: ignore[misc]
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="samples of a step")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the quickest counts, at least")
    parser.add_argument("--seconds", type=float, default=60.0, help="go on for so long, up to five times the rounds")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    parser.add_argument("--page", type=Path, help="write the table to this Markdown file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways = losses(options.batch, options.device)
    rows: dict[str, dict[str, Any]] = {name: {"loss": float(loss().detach())} for name, (loss, _) in ways.items()}
    steps: dict[str, Callable[[], object]] = {}
    for name, (loss, optimizer) in ways.items():
        steps[name] = lambda loss=loss, optimizer=optimizer: step(optimizer, loss)
        rows[name]["saved_mib"] = saved_mib(steps[name])  # type: ignore[arg-type]
        rows[name]["operations"] = kernels(steps[name])  # type: ignore[arg-type]
    times = best_times(steps, options.repeats, options.seconds, options.device)
    for name, row in rows.items():
        row |= {"samples_per_second": options.batch / times[name], "times_plain": times["plain"] / times[name]}
    machine = processor_name() if options.device.type == "cpu" else torch.cuda.get_device_name(options.device)
    page = markdown(f"A step of {options.batch} samples, {machine}, {options.threads} thread(s)", rows)
    print(page, end="")
    if options.page:
        options.page.write_text(page, encoding="utf-8")
    if options.output:
        found = {"torch": torch.__version__, "machine": machine, "batch": options.batch, "threads": options.threads}
        options.output.write_text(json.dumps({**found, "ways": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
