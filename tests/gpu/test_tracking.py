"""Trackers on a GPU: the boxes of the CPU, row by row, as graphs, compiled and in half precision."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.bench import TrackerSpec, demo_spec
from lib.data import CROP_STYLES, Frame, decode_image, encode_picture, gpu_jpeg_decoder, iou_xywh
from lib.deploy import AutocastTracker, GraphedCall, Inference, prepare
from lib.track import StagedTracker, Tracker
from synthetic import build_synthetic
from tests.support.small_trackers import BOXES, IDS, METHODS, SMALL, clip

method = pytest.mark.parametrize(("script", "config", "overrides"), METHODS, ids=IDS)


def build(script: str, config: str, overrides: tuple[str, ...], device: str, protocol: str = "official") -> Tracker:
    """A small tracker with random weights, the same on every device."""
    spec = TrackerSpec(
        script=script, config=config, untrained=True, overrides=overrides, device=device, protocol=protocol
    )
    return spec.build()


def follow(tracker: Tracker, clips: list[list[Frame]], boxes: torch.Tensor) -> torch.Tensor:
    """Boxes [frames - 1, B, 4] of a batch."""
    state, found = tracker.init([c[0] for c in clips], boxes), []
    for i in range(1, len(clips[0])):
        state, prediction = tracker.step(state, [c[i] for c in clips])
        found.append(prediction.boxes_xywh)
    return torch.stack(found)


@method
def test_official_gives_the_boxes_of_the_cpu(script: str, config: str, overrides: tuple[str, ...]) -> None:
    clips = [clip(i, 12) for i in range(3)]
    expected = follow(build(script, config, overrides, "cpu"), clips, BOXES)
    found = follow(build(script, config, overrides, "cuda"), clips, BOXES)
    assert (found - expected).abs().max() <= 1e-3


@method
def test_rows_of_a_batch_know_nothing_of_each_other(script: str, config: str, overrides: tuple[str, ...]) -> None:
    clips = [clip(i, 12) for i in range(3)]
    tracker = build(script, config, overrides, "cuda")
    together = follow(tracker, clips, BOXES)
    alone = torch.cat([follow(tracker, [c], BOXES[i : i + 1]) for i, c in enumerate(clips)], dim=1)
    assert (together - alone).abs().max() <= 1e-3


@method
def test_graphs_give_the_boxes_of_single_kernels_to_the_bit(
    script: str, config: str, overrides: tuple[str, ...]
) -> None:
    clips = [clip(i, 12) for i in range(3)]
    graphed = build(script, config, overrides, "cuda")
    assert isinstance(graphed, StagedTracker)
    assert all(isinstance(getattr(graphed.network, name), GraphedCall) for name in graphed.frame_calls)
    spec = TrackerSpec(script=script, config=config, untrained=True, overrides=overrides, device="cuda")
    eager = prepare(spec.build_plain())
    torch.testing.assert_close(follow(graphed, clips, BOXES), follow(eager, clips, BOXES), rtol=0, atol=0)
    assert all(getattr(graphed.network, name).capturable for name in graphed.frame_calls)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_another_gpu_gives_the_boxes_of_the_first() -> None:
    clips = [clip(i, 12) for i in range(3)]
    first, other = (follow(build(*METHODS[0], device), clips, BOXES) for device in ("cuda:0", "cuda:1"))
    assert (first - other).abs().max() <= 1e-3


def shipped(device: str, protocol: str = "official", compiled: bool = False) -> Tracker:
    """The network that comes with the project."""
    return demo_spec(TrackerSpec(device=device, protocol=protocol, compile=compiled, checkpoint=SMALL)).build()


@pytest.fixture(scope="module")
def videos() -> tuple[list[list[Frame]], torch.Tensor]:
    """Four synthetic videos of 101 frames, and their first boxes."""
    data = build_synthetic("SYNTHETIC:seed=990002,sequences=4,length=101,difficulty=0.2")
    clips = [[v.read_frame(i) for i in range(101)] for v in data]
    return clips, torch.stack([torch.from_numpy(v.boxes_xywh[0].copy()) for v in data])


@pytest.fixture(scope="module")
def official(videos: tuple[list[list[Frame]], torch.Tensor]) -> torch.Tensor:
    """Boxes of the shipped network on the CPU, [100, 4, 4]."""
    return follow(shipped("cpu"), *videos)


def overlap(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Mean overlap of boxes [..., 4]."""
    return float(iou_xywh(found.reshape(-1, 4).numpy(), expected.reshape(-1, 4).numpy()).mean())


def test_official_agrees_with_the_cpu_over_a_hundred_frames(
    videos: tuple[list[list[Frame]], torch.Tensor], official: torch.Tensor
) -> None:
    found = follow(shipped("cuda"), *videos)
    # Boxes are parts of the search region's side, four times the target's, with the 24 bits of float32.
    sides = 4 * official[..., 2:].prod(dim=-1, keepdim=True).sqrt()
    assert ((found - official).abs() <= torch.clamp(2.5e-6 * sides, min=1e-3)).all()


@pytest.mark.parametrize("style", ["area", "context", "pysot"])
def test_crops_of_the_device_are_those_of_opencv_to_the_bit(style: str) -> None:
    rng = np.random.default_rng(5)
    frames = [f for i in range(20) for f in clip(i, 4)]
    centres, sides = rng.uniform(-20, 170, (80, 2)), np.exp(rng.uniform(0, 4.5, (80, 2)))
    boxes = torch.from_numpy(np.concatenate([centres - sides / 2, sides], axis=1))
    crops, border = CROP_STYLES[style](), CROP_STYLES[style]().borders(frames)
    expected = crops.crop_frames(frames, boxes, 4.0, 96, border).pixels
    found = crops.crop_frames(frames, boxes, 4.0, 96, border, torch.device("cuda")).pixels
    assert torch.equal(found.cpu(), expected)


def test_the_same_run_twice_gives_the_same_boxes(videos: tuple[list[list[Frame]], torch.Tensor]) -> None:
    tracker = shipped("cuda", "fast")
    torch.testing.assert_close(follow(tracker, *videos), follow(tracker, *videos), rtol=0, atol=0)


def test_compiled_agrees_with_the_cpu(videos: tuple[list[list[Frame]], torch.Tensor], official: torch.Tensor) -> None:
    found = follow(shipped("cuda", compiled=True), *videos)
    assert (found - official).abs().max() <= 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_on_the_same_targets(
    videos: tuple[list[list[Frame]], torch.Tensor], official: torch.Tensor, dtype: torch.dtype
) -> None:
    plain = demo_spec(TrackerSpec(device="cuda", checkpoint=SMALL)).build_plain()
    tracker = prepare(plain, Inference(dtype, cuda_graph=True))
    assert isinstance(tracker, AutocastTracker) == (dtype == torch.float16)
    clips, boxes = videos
    state, found = tracker.init([c[0] for c in clips], boxes), []
    for i, expected in enumerate(official, start=1):
        _, prediction = tracker.step(state, [c[i] for c in clips])
        found.append(prediction.boxes_xywh)
        state = replace(state, boxes_xywh=expected)  # every step starts where float32 was
    assert overlap(torch.stack(found), official) > 0.95


def test_official_computes_without_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    shipped("cuda")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    assert ((a.cuda() @ b.cuda()).cpu().double() - exact).abs().max() < 1e-3
    picture, kernel = torch.randn(1, 64, 16, 16, generator=generator), torch.randn(64, 64, 3, 3, generator=generator)
    want = torch.nn.functional.conv2d(picture.double(), kernel.double())
    got = torch.nn.functional.conv2d(picture.cuda(), kernel.cuda()).cpu().double()
    assert (got - want).abs().max() < 1e-3


def test_evaluation_by_the_command_gives_the_boxes_of_the_cpu(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    make = ("--split", "test", "--sequences", 5, "--frames", 12, "--width", 160, "--height", 120, "--workers", 2)
    command("tracking/make_synthetic_data.py", "--output", tmp_path / "data/synthetic/test", *make)
    found = {}
    for run, device, more in ((1, "cpu", ()), (2, "cuda", ("--batch", 3)), (3, "cuda", ("--batch", 2, "--threads", 2))):
        command(
            "tracking/test.py", "ostrack", "synthetic_small", "--dataset", "synthetic", "--untrained", "--runid", run,
            "--device", device, "--data_dir", tmp_path / "data", "--save_dir", tmp_path, *more,
        )  # fmt: skip
        files = sorted((tmp_path / "test/tracking_results/ostrack").glob(f"*_00{run}/synthetic/*.txt"))
        boxes = [np.loadtxt(p, delimiter=",") for p in files if not p.stem.endswith(("_time", "_score"))]
        assert len(boxes) == 5
        found[run] = np.concatenate(boxes)
    np.testing.assert_allclose(found[2], found[1], atol=2e-3)
    np.testing.assert_allclose(found[3], found[1], atol=2e-3)


def test_jpeg_files_decoded_on_the_gpu_are_nearly_those_of_opencv_in_threads_too() -> None:
    video = next(iter(build_synthetic("SYNTHETIC:seed=990002,sequences=1,length=8,difficulty=0.2")))
    files = [encode_picture(video.read_frame(i).rgb) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(gpu_jpeg_decoder(torch.device("cuda")), files))
    for file, picture in zip(files, found, strict=True):
        difference = np.abs(picture.astype(int) - decode_image(file, "frame"))
        assert difference.mean() <= 1
        assert difference.max() <= 40
