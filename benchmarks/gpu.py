"""How fast trackers are on a GPU: the network alone, a whole step, and an evaluation from JPEG files.

For every configuration: a network as it was trained, called kernel by kernel (`plain`), and the two protocols, with a
CUDA graph per batch size; `fast` also compiled. Weights are random, frames are 1280 x 720. The evaluation runs
`tracking/test.py` with the shipped network (a random one would lose its target and cut ever larger regions) on
synthetic sequences of that size, once to warm up the file cache and once for the figure.

    PYTHONPATH=. python benchmarks/gpu.py --output gpu.json --page gpu.md
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import torch

from lib.bench import SHIPPED, Effort, TrackerSpec, counting, made_up_picture, processor_name, time_calls
from lib.data import Frame
from lib.track import OneStreamTracker

CONFIGURATIONS = (
    ("ostrack", "vitb_256_mae_ce_32x4_ep300"),
    ("ostrack", "vitb_256_mae_32x4_ep300"),
    ("loretrack", "loretrack_128"),
    ("sdstrack", "cvpr2024_rgbt"),
    ("cstrack_s1", "cstrack_s1"),
    ("cstrack_s2", "cstrack_s2"),
    ("transt", "transt"),
)
WAYS = ("plain", "official", "fast", "fast compiled")
SIZE_WH = (1280, 720)


@dataclass(frozen=True)
class Line:
    """One way of computing one configuration at one batch size.

    Attributes:
        network_ms: Median time of the network for the batch, in milliseconds, the device's work included.
        step_ms: Of a whole step: crops on the processor, copies, network, boxes.
        network_fps: Frames per second of the network alone.
        step_fps: Frames per second of whole steps.
        kernels: Operations of the network per call, as PyTorch dispatches them.
        memory_mib: Peak memory on the device.
    """

    script: str
    config: str
    way: str
    batch: int
    network_ms: float
    step_ms: float
    network_fps: float
    step_fps: float
    kernels: int
    memory_mib: float


def build(script: str, config: str, way: str) -> OneStreamTracker:
    """The tracker with random weights; without the file that published initial weights come from."""
    spec = TrackerSpec(
        script=script, config=config, untrained=True, device="cuda", protocol="fast" if "fast" in way else "official",
        compile="compiled" in way,
    )  # fmt: skip
    tracker = spec.build_plain() if way == "plain" else spec.build()
    assert isinstance(tracker, OneStreamTracker)
    return tracker


@torch.no_grad()
def measure(script: str, config: str, way: str, batches: list[int], effort: Effort) -> list[Line]:
    """Measure one way of computing a configuration at all batch sizes."""
    torch.cuda.reset_peak_memory_stats()
    tracker = build(script, config, way)
    device = tracker.device
    frame = Frame(made_up_picture(*SIZE_WH), made_up_picture(*SIZE_WH, seed=1) if tracker.reads_aux else None)
    box = torch.tensor([[500.0, 300.0, 120.0, 90.0]], dtype=torch.float64)
    lines = []
    for size in batches:
        state = tracker.init([frame] * size, box.repeat(size, 1))
        state, _ = tracker.step(state, [frame] * size)  # CSTrack's first frame has no memory
        region = tracker.crop_search(state, [frame] * size)
        with counting() as cost:
            tracker.forward(state, region)
        network = time_calls(lambda s=state, r=region: tracker.forward(s, r), device, effort).median
        step = time_calls(lambda s=state, n=size: tracker.step(s, [frame] * n), device, effort).median
        lines.append(
            Line(
                script, config, way, size, network, step, size / network * 1e3, size / step * 1e3, cost.kernels,
                torch.cuda.max_memory_allocated() / 2**20,
            )
        )  # fmt: skip
        print(
            f"{config:<28} {way:<14} batch {size:<4} network {network:8.2f} ms {lines[-1].network_fps:9.1f}/s   "
            f"step {step:8.2f} ms {lines[-1].step_fps:9.1f}/s   {cost.kernels} operations",
            flush=True,
        )
    return lines


def evaluation(folder: Path, more: list[str], videos: int, length: int) -> float:
    """Frames per second of `tracking/test.py` from JPEG files, start-up and metrics left out."""
    command = [
        sys.executable, "tracking/test.py", "ostrack", "synthetic_small", "--checkpoint", str(SHIPPED),
        "--dataset", "synthetic", "--device", "cuda", "--protocol", "fast",
        "--data_dir", str(folder), "--save_dir", str(folder), "--rerun", *more,
    ]  # fmt: skip
    for _ in range(2):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        whole = time.perf_counter() - began
    rate = float(re.findall(r"([\d.]+) frames/s over all workers", done.stdout + done.stderr)[-1])
    print(
        f"evaluation {chr(32).join(more)}: {rate:.1f} frames/s; {videos * length / whole:.1f} with start-up",
        flush=True,
    )
    return rate


def machine() -> str:
    """Card, processor and versions in a sentence."""
    return (
        f"{torch.cuda.get_device_name(0)}; {processor_name()}, {os.cpu_count()} cores; "
        f"torch {torch.__version__}, OpenCV {cv2.__version__}."
    )


def page(lines: list[Line], evaluations: dict[str, float], about: str) -> str:
    """The figures as Markdown."""
    batches = sorted({r.batch for r in lines})
    out = [
        about, "", "Frames per second of the network, and of whole steps from decoded frames (in brackets):", "",
        f"| configuration | way | {' | '.join(f'batch {b}' for b in batches)} | operations | memory, MiB |",
        "|---|---|" + "---:|" * (len(batches) + 2),
    ]  # fmt: skip
    for script, config in dict.fromkeys((r.script, r.config) for r in lines):
        for way in WAYS:
            rows = {r.batch: r for r in lines if (r.script, r.config, r.way) == (script, config, way)}
            if rows:
                cells = [f"{rows[b].network_fps:.0f} ({rows[b].step_fps:.0f})" if b in rows else "" for b in batches]
                first, last = rows[min(rows)], rows[max(rows)]
                out.append(
                    f"| {script} {config} | {way} | {' | '.join(cells)} | {first.kernels} | {last.memory_mib:.0f} |"
                )
    if evaluations:
        out += ["", "Evaluation by `tracking/test.py --protocol fast` from JPEG files of 1280 x 720:", ""]
        out += ["| options | frames per second |", "|---|---:|"]
        out += [f"| {name} | {rate:.0f} |" for name, rate in evaluations.items()]
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [f"{script}/{config}" for script, config in CONFIGURATIONS]
    parser.add_argument("--configs", nargs="+", default=names, metavar="SCRIPT/CONFIG")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=0.7, help="time per figure")
    parser.add_argument("--videos", type=int, default=32, help="of the evaluation; 0: leave it out")
    parser.add_argument("--length", type=int, default=60, help="frames of these videos")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--page", type=Path, default=Path("gpu.md"))
    options = parser.parse_args()
    effort = Effort(warm_up=4, repeats=50, seconds=options.seconds)
    lines: list[Line] = []
    evaluations: dict[str, float] = {}

    def save() -> None:
        found = {"machine": machine(), "lines": [asdict(r) for r in lines], "evaluations": evaluations}
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        options.page.write_text(page(lines, evaluations, machine()), encoding="utf-8")

    if options.videos:
        with tempfile.TemporaryDirectory() as folder:
            make = ("--split", "test", "--sequences", options.videos, "--frames", options.length)
            make = (*make, "--width", SIZE_WH[0], "--height", SIZE_WH[1], "--workers", os.cpu_count() or 1)
            target = Path(folder) / "synthetic/test"
            subprocess.run(
                [sys.executable, "tracking/make_synthetic_data.py", "--output", str(target), *map(str, make)],
                check=True, capture_output=True,
            )  # fmt: skip
            for more in (["--batch", "1"], ["--batch", "32"], ["--batch", "16", "--threads", "4"]):
                try:
                    evaluations[" ".join(more)] = evaluation(Path(folder), more, options.videos, options.length)
                except RuntimeError as error:
                    print(error, flush=True)
                save()
    for name in options.configs:
        for way in options.ways:
            try:
                lines += measure(*name.split("/"), way, options.batches, effort)
            except Exception as error:  # one configuration that fails leaves the others their figures
                print(f"{name} {way}: {type(error).__name__}: {error}", flush=True)
            torch.cuda.empty_cache()
            save()


if __name__ == "__main__":
    main()
