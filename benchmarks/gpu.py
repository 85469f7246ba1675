"""Speed of trackers on a GPU: the network alone, a whole step, an evaluation from JPEG files, training steps.

For every configuration: a network as it was trained, called kernel by kernel (`plain`), and the two protocols, with a
CUDA graph per batch size; `fast compiled` on request. Weights are random, frames are 1280 x 720. Beside each figure is
its limit: what the card could do if nothing but products, weights and launches took time, by ceilings measured first.
The evaluation runs `tracking/test.py` with the shipped network (a random one would lose its target and cut ever larger
regions) on synthetic sequences of that size, just written, that run forwards and backwards in turn. Another line has
128 targets in one video. Training steps are those of one batch of rendered frames on the device, read before.

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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import torch

from lib.bench import Effort, TrackerSpec, counting, demo_spec, made_up_picture, time_calls
from lib.data import Frame, decode_image, encode_picture
from lib.deploy import prepare
from lib.distributed import World
from lib.machine import processor_name
from lib.methods import load_experiment
from lib.objectives import Progress
from lib.paths import Paths
from lib.track import StagedTracker
from lib.train import CheckpointFolder, Trainer, TrainLog, TrainOptions, build_setup

CONFIGURATIONS = (
    ("ostrack", "vitb_256_mae_ce_32x4_ep300"),
    ("ostrack", "vitb_256_mae_32x4_ep300"),
    ("loretrack", "loretrack_128"),
    ("sdstrack", "cvpr2024_rgbt"),
    ("cstrack_s1", "cstrack_s1"),
    ("cstrack_s2", "cstrack_s2"),
    ("translate_track", "LasHeR"),
    ("transt", "transt"),
    ("trdimp", "trdimp"),
    ("siamrpnpp", "siamrpnpp"),
    ("siamattn", "siamattn"),
)
TRAININGS = (
    ("ostrack", "vitb_256_mae_ce_32x4_ep300", 32, "rgb"),
    ("sdstrack", "cvpr2024_rgbt", 16, "rgbt"),
    ("siamrpnpp", "siamrpnpp", 56, "rgb"),
)
"""Configuration, its batch and the pictures of its frames."""
PRECISIONS = ("fp32", "tf32", "bf16")
WAYS = ("plain", "official", "fast", "fast compiled")
SIZE_WH = (1280, 720)
TARGETS = 128
"""In one video."""


@dataclass(frozen=True)
class Line:
    """One way of computing one configuration at one batch size.

    Attributes:
        network_ms: Median time of the network for the batch, in milliseconds, the device's work included.
        step_ms: Of a whole step: crops, copies, network, boxes.
        network_fps: Frames per second of the network alone.
        step_fps: Frames per second of whole steps.
        limit_fps: Frames per second of the network that the card's ceilings allow.
        kernels: Operations of the network per call, as PyTorch dispatches them.
        gmac: 1e9 multiply-accumulates per frame.
        weights_mb: 1e6 bytes of weights.
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
    limit_fps: float
    kernels: int
    gmac: float
    weights_mb: float
    memory_mib: float


@dataclass(frozen=True)
class Ceilings:
    """The ceilings of the card.

    Attributes:
        products: Number format -> multiply-accumulates per second of a large matrix product.
        bandwidth: Bytes per second that a large copy reads and writes.
        launch: Seconds per small kernel of a CUDA graph.
        decoding: JPEG files of a frame per second that all cores decode together.
    """

    products: dict[str, float]
    bandwidth: float
    launch: float
    decoding: float

    @classmethod
    def measured(cls) -> Ceilings:
        """Ceilings of this card."""
        device, effort = torch.device("cuda"), Effort(warm_up=3, repeats=20, seconds=0.3)

        def seconds(call: Callable[[], object]) -> float:
            return time_calls(call, device, effort).median / 1e3

        products = {}
        for dtype, side in ((torch.bfloat16, 8192), (torch.float32, 4096)):
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            products[str(dtype).removeprefix("torch.")] = side**3 / seconds(lambda a=a, b=b: a @ b)
        source = torch.randint(0, 255, (1 << 30,), dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        bandwidth = 2 * source.numel() / seconds(lambda: target.copy_(source))
        small, graph = torch.zeros(1024, device=device), torch.cuda.CUDAGraph()
        small += 1  # a kernel is loaded before it is captured
        with torch.cuda.graph(graph):
            for _ in range(1000):
                small += 1
        file = encode_picture(made_up_picture(*SIZE_WH))
        with ThreadPoolExecutor() as pool:
            for count in (50, 1000):
                began = time.perf_counter()
                for _ in pool.map(lambda _: decode_image(file, "frame"), range(count)):
                    pass
            decoding = count / (time.perf_counter() - began)
        return cls(products, bandwidth, seconds(graph.replay) / 1000, decoding)

    def frames_per_second(self, dtype: str, batch: int, gmac: float, weights_mb: float, kernels: int) -> float:
        """The limit of a network, see `Line`."""
        work = max(batch * gmac * 1e9 / self.products[dtype], weights_mb * 1e6 / self.bandwidth)
        return batch / (work + kernels * self.launch)


@torch.no_grad()
def measure(
    plain: StagedTracker, spec: TrackerSpec, way: str, batches: list[int], effort: Effort, ceilings: Ceilings
) -> list[Line]:
    """Measure one way of computing a configuration at all batch sizes."""
    torch.cuda.reset_peak_memory_stats()
    tracker = plain if way == "plain" else prepare(plain, spec.inference(plain))
    assert isinstance(tracker, StagedTracker)
    device = tracker.device
    frame = Frame(made_up_picture(*SIZE_WH), made_up_picture(*SIZE_WH, seed=1) if tracker.reads_aux else None)
    box = torch.tensor([[500.0, 300.0, 120.0, 90.0]], dtype=torch.float64)
    dtype = "bfloat16" if "fast" in way else "float32"
    weights = sum(p.numel() for p in plain.network.parameters()) * getattr(torch, dtype).itemsize / 1e6
    lines, gmac, one = [], 0.0, tracker.init([frame], box)
    for size in batches:
        state = type(one).cat([one] * size)
        after, _ = tracker.step(state, [frame] * size)  # CSTrack's first frame has no memory
        state = tracker.move_to(after, box.repeat(size, 1))  # random weights may have gone anywhere
        region = tracker.crop_search(state, [frame] * size)
        with counting() as cost:
            tracker.forward(state, region)
        gmac = gmac or cost.macs / size / 1e9
        network = time_calls(lambda s=state, r=region: tracker.forward(s, r), device, effort).median
        step = time_calls(lambda s=state, n=size: tracker.step(s, [frame] * n), device, effort).median
        limit = ceilings.frames_per_second(dtype, size, gmac, weights, cost.kernels)
        lines.append(
            Line(
                spec.script, spec.config, way, size, network, step, size / network * 1e3, size / step * 1e3, limit,
                cost.kernels, gmac, weights, torch.cuda.max_memory_allocated() / 2**20,
            )
        )  # fmt: skip
        print(
            f"{spec.config:<28} {way:<9} batch {size:<4} network {network:8.2f} ms {lines[-1].network_fps:8.1f}/s of "
            f"{limit:8.1f}   step {step:8.2f} ms {lines[-1].step_fps:8.1f}/s   {cost.kernels} operations",
            flush=True,
        )
    return lines


def make_videos(folder: Path, videos: int, length: int, times: int) -> None:
    """A benchmark of synthetic videos whose frames run forwards and backwards in turn, as hard links.

    Args:
        folder: Of data sets.
        videos: Number of videos.
        length: Frames of each that are rendered.
        times: Number of passes over them.
    """
    target = folder / "synthetic/test"
    make = ("--split", "test", "--sequences", videos, "--frames", length, "--width", SIZE_WH[0], "--height", SIZE_WH[1])
    command = (
        sys.executable,
        "tracking/make_synthetic_data.py",
        "--output",
        target,
        *make,
        "--workers",
        os.cpu_count(),
    )
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    order = [i for n in range(times) for i in (range(length) if n % 2 == 0 else reversed(range(length)))]
    for video in sorted(path.parent for path in target.rglob("img")):
        pictures = sorted((video / "img").iterdir())
        for position, index in enumerate(order[length:], start=length + 1):
            os.link(pictures[index], video / "img" / f"{position:08d}{pictures[index].suffix}")
        for file in video.glob("*.txt"):
            text = file.read_text(encoding="utf-8")
            if file.stem == "groundtruth":
                rows = text.splitlines()
                file.write_text("\n".join(rows[i] for i in order) + "\n", encoding="utf-8")
            elif text.count(",") == length - 1:  # one flag per frame
                flags = text.strip().split(",")
                file.write_text(",".join(flags[i] for i in order) + "\n", encoding="utf-8")


def evaluation(folder: Path, more: list[str]) -> float:
    """Frames per second of `tracking/test.py` from JPEG files, start-up and metrics left out."""
    command = [
        sys.executable, "tracking/test.py", "ostrack", "synthetic_small",
        "--checkpoint", "pretrained/synthetic_small.safetensors", "--dataset", "synthetic",
        "--device", "cuda", "--protocol", "fast",
        "--data_dir", str(folder), "--save_dir", str(folder), "--rerun", *more,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    rate = float(re.findall(r"([\d.]+) frames/s over all workers", done.stdout + done.stderr)[-1])
    print(f"evaluation {' '.join(more)}: {rate:.1f} frames/s", flush=True)
    return rate


@torch.no_grad()
def many_targets(tracker: StagedTracker, frames: int = 40) -> float:
    """Object-frames per second of `TARGETS` targets in one video, every frame decoded from its JPEG file once."""
    picture = made_up_picture(*SIZE_WH)
    file = encode_picture(picture)
    places = torch.rand(TARGETS, 2, dtype=torch.float64) * torch.tensor([1000.0, 500.0])
    boxes = torch.cat([places + 50, torch.full((TARGETS, 2), 100.0)], dim=1).double()
    state = tracker.init([Frame(picture)] * TARGETS, boxes)
    for i in range(frames + 5):
        if i == 5:  # graphs are captured by then
            torch.cuda.synchronize()
            began = time.perf_counter()
        _, prediction = tracker.step(state, [Frame(decode_image(file, "frame"))] * TARGETS)
    del prediction
    return TARGETS * frames / (time.perf_counter() - began)


def training(script: str, config: str, batch: int, modality: str, precision: str, effort: Effort) -> float:
    """Samples per second of training steps on one batch, all of an update included, with random weights."""
    data = f"DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=2,length=24,width=320,height=240,modality={modality}']"
    overrides = (
        data, "DATA.TRAIN.DATASETS_RATIO=[1]", f"DATA.TRAIN.SAMPLE_PER_EPOCH={batch}", "TRAIN.NUM_WORKER=0",
        f"TRAIN.BATCH_SIZE={batch}", f"TRAIN.PRECISION={precision}", "TRAIN.VAL_EPOCH_INTERVAL=0",
    )  # fmt: skip
    experiment, world = load_experiment(script, config, overrides), World(torch.device("cuda"))
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        setup = build_setup(
            experiment, world, Paths(here, here, here, here), TrainOptions(script, config), begins=False
        )
        trainer = Trainer(
            setup, experiment.config.train, world, CheckpointFolder(here / "checkpoints", "X"), TrainLog()
        )
        samples = next(iter(setup.train_loader.epoch(1)))
        call = partial(trainer.train_step, [setup.prepare(samples)], Progress(1, 1), 1.0)
        rate = batch / time_calls(call, world.device, effort).median * 1e3
    print(f"{config:<28} training in {precision}, batch {batch}: {rate:.1f} samples/s", flush=True)
    return rate


def machine() -> str:
    """Card, processor and versions in a sentence."""
    return (
        f"{torch.cuda.get_device_name(0)}; {processor_name()}, {os.cpu_count()} cores; "
        f"torch {torch.__version__}, OpenCV {cv2.__version__}."
    )


def page(
    lines: list[Line], evaluations: dict[str, float], trainings: dict[str, float], ceilings: Ceilings, about: str
) -> str:
    """The figures as Markdown."""
    batches = sorted({r.batch for r in lines})
    heads = " | ".join([*(f"batch {b}" for b in batches), "GMAC", "weights, MB", "operations", "memory, MiB"])
    rates = ", ".join(f"{rate / 1e12:.0f} TMAC/s in {name}" for name, rate in ceilings.products.items())
    out = [
        about,
        "",
        f"Ceilings of the card: {rates}; copies {ceilings.bandwidth / 1e12:.2f} TB/s; "
        f"{ceilings.launch * 1e6:.1f} microseconds per small kernel of a graph; {ceilings.decoding:.0f} JPEG files of "
        f"{SIZE_WH[0]} x {SIZE_WH[1]} per second on all cores.",
        "",
        "Frames per second of the network, of whole steps from decoded frames (in brackets), and of the network's",
        "limit by the ceilings (after the slash):",
        "",
        f"| configuration | way | {heads} |",
        "|---|---|" + "---:|" * (len(batches) + 4),
    ]
    for script, config in dict.fromkeys((r.script, r.config) for r in lines):
        for way in WAYS:
            rows = {r.batch: r for r in lines if (r.script, r.config, r.way) == (script, config, way)}
            if rows:
                cells = [
                    f"{rows[b].network_fps:.0f} ({rows[b].step_fps:.0f}) / {rows[b].limit_fps:.0f}" if b in rows else ""
                    for b in batches
                ]
                first, last = rows[min(rows)], rows[max(rows)]
                out.append(
                    f"| {script} {config} | {way} | {' | '.join(cells)} | {first.gmac:.1f} | {first.weights_mb:.0f} "
                    f"| {first.kernels} | {last.memory_mib:.0f} |"
                )
    if evaluations:
        out += ["", "Evaluation by `tracking/test.py --protocol fast` from JPEG files of 1280 x 720:", ""]
        out += ["| options | frames per second |", "|---|---:|"]
        out += [f"| {name} | {rate:.0f} |" for name, rate in evaluations.items()]
    if trainings:
        out += ["", "Training steps:", "", "| configuration, batch, number format | samples per second |", "|---|---:|"]
        out += [f"| {name} | {rate:.0f} |" for name, rate in trainings.items()]
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [f"{script}/{config}" for script, config in CONFIGURATIONS]
    parser.add_argument("--configs", nargs="*", default=names, metavar="SCRIPT/CONFIG")
    parser.add_argument("--ways", nargs="+", default=list(WAYS[:3]), choices=WAYS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=0.2, help="time per figure")
    parser.add_argument("--videos", type=int, default=64, help="of the evaluation; 0: leave it out")
    parser.add_argument("--length", type=int, default=15, help="frames of these videos that are rendered")
    parser.add_argument("--times", type=int, default=12, help="how often they are gone through")
    parser.add_argument("--training", action=argparse.BooleanOptionalAction, default=True, help="steps, half a minute")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--page", type=Path, default=Path("gpu.md"))
    options = parser.parse_args()
    effort = Effort(warm_up=4, repeats=50, seconds=options.seconds)
    lines: list[Line] = []
    evaluations: dict[str, float] = {}
    trainings: dict[str, float] = {}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    ceilings = Ceilings.measured()

    def save() -> None:
        found = {"machine": machine(), "ceilings": asdict(ceilings), "lines": [asdict(r) for r in lines]}
        found |= {"evaluations": evaluations, "trainings": trainings}
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        options.page.write_text(page(lines, evaluations, trainings, ceilings, machine()), encoding="utf-8")

    if options.videos:
        with tempfile.TemporaryDirectory() as folder:
            make_videos(Path(folder), options.videos, options.length, options.times)
            for more in (
                ["--batch", "32"],
                ["--batch", "16", "--threads", "4"],
                ["--batch", "8", "--threads", "8"],
                ["--batch", "32", "--decode", "gpu"],
                ["--batch", "16", "--threads", "4", "--decode", "gpu"],
            ):
                try:
                    evaluations[" ".join(more)] = evaluation(Path(folder), more)
                except RuntimeError as error:
                    print(error, flush=True)
                save()
        tracker = demo_spec(TrackerSpec(device="cuda", protocol="fast", scores="raw")).build()
        assert isinstance(tracker, StagedTracker)
        name = f"{TARGETS} targets in one video, object-frames"
        evaluations[name] = many_targets(tracker)
        print(f"{name}: {evaluations[name]:.1f}/s", flush=True)
    for name in options.configs:
        script, config = name.split("/")
        spec = TrackerSpec(script=script, config=config, untrained=True, device="cuda")
        plain = spec.build_plain()
        assert isinstance(plain, StagedTracker)
        for way in options.ways:
            of_way = TrackerSpec(
                script=script, config=config, untrained=True, device="cuda", compile="compiled" in way,
                protocol="fast" if "fast" in way else "official",
            )  # fmt: skip
            try:
                lines += measure(plain, of_way, way, options.batches, effort, ceilings)
            except Exception as error:  # one configuration that fails leaves the others their figures
                print(f"{name} {way}: {type(error).__name__}: {error}", flush=True)
            torch.cuda.empty_cache()
            save()
    for script, config, batch, modality in TRAININGS if options.training else ():
        for precision in PRECISIONS:
            name = f"{script} {config}, {batch}, {precision}"
            try:
                trainings[name] = training(script, config, batch, modality, precision, effort)
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {error}", flush=True)
            torch.cuda.empty_cache()
            save()


if __name__ == "__main__":
    main()
