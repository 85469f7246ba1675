"""Speed of roll-outs for sequence-level training, against the straightforward way.

The straightforward way decodes a batch when it is needed, cuts and normalises the crop of every tracker by itself,
gives the network the template picture in every frame, and takes cells, boxes and overlaps in Python loops, as published
training code does. Both follow the same clips with the same network and the same random numbers and arrive at the same
overlaps, which is checked first. Both run the network once per frame, for all trackers together.

    PYTHONPATH=. python benchmarks/rollout.py --height 720 --width 1280 --clips 8 --frames 24
    PYTHONPATH=. python benchmarks/rollout.py --config vitb_256_mae_ce_32x4_ep300 --clips 2 --frames 6
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from lib.config import SLT
from lib.data import (
    Frame,
    FrameSet,
    Modality,
    TrackingSampler,
    Video,
    VisibleClipSampler,
    WholeFrames,
    build_clip_loader,
    clip_box,
    decode_image,
    iou_xywh,
)
from lib.deploy import prepare_for_rollout
from lib.methods import load_experiment
from lib.methods.ostrack import OSTrackTracker
from lib.models import load_into, read_checkpoint
from lib.objectives import SoftmaxPolicy
from lib.paths import load_paths
from lib.track import roll_out

MEAN, STD = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
POLICY = SoftmaxPolicy()
SHIPPED = "synthetic_small"


@dataclass(frozen=True)
class Reader:
    """Frames of a video in memory, as JPEG files."""

    files: list[bytes]

    def __call__(self, index: int) -> Frame:
        return Frame(decode_image(self.files[index % len(self.files)], str(index)))

    def path(self, index: int) -> str:
        return str(index)


@dataclass
class Videos:
    """Videos of smooth noise in which a box wanders."""

    height: int
    width: int
    count: int
    frames: int
    name: str = "noise"
    modality: Modality = Modality.RGB
    is_video: bool = True

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Video:
        rng = np.random.default_rng(index)
        side = rng.uniform(0.06, 0.15, 2) * min(self.height, self.width)
        start = rng.uniform(0.2, 0.6, 2) * (self.width, self.height)
        path = start + np.cumsum(rng.uniform(-0.01, 0.012, (self.frames, 2)) * (self.width, self.height), axis=0)
        boxes = np.concatenate([path, np.tile(side, (self.frames, 1))], axis=1)
        files = []
        for _ in range(4):
            coarse = rng.integers(0, 256, (self.height // 16, self.width // 16, 3), dtype=np.uint8)
            files.append(cv2.imencode(".jpg", cv2.resize(coarse, (self.width, self.height)))[1].tobytes())
        there = np.ones(self.frames, dtype=bool)
        reader = Reader(files)
        return Video(str(index), boxes, there, there, reader, reader.path)


def one_crop(frame: Frame, box_xywh: list[float], factor: float, size: int) -> tuple[Tensor, float]:
    """Normalised [3, S, S] and the resize factor: the picture is padded, cut and resized."""
    x, y, w, h = box_xywh
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5)
    height, width = frame.size_hw
    pads = max(0, -top), max(0, top + side - height + 1), max(0, -left), max(0, left + side - width + 1)
    region = frame.rgb[top + pads[0] : top + side - pads[1], left + pads[2] : left + side - pads[3]]
    crop = cv2.resize(cv2.copyMakeBorder(region, *pads, cv2.BORDER_CONSTANT), (size, size))
    x_float = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))).float() / 255
    return (x_float - MEAN) / STD, size / side


def one_overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


@torch.no_grad()
def straightforward(track: OSTrackTracker, clips: list[FrameSet]) -> list[float]:
    """Each clip's advantage."""
    s, count = track.settings, len(clips)
    boxes = [c.search_boxes[0].tolist() for c in clips] * 2
    templates = [
        one_crop(c.template[0], c.template_boxes[0].tolist(), s.template_factor, s.template_size)[0] for c in clips
    ]
    centred = torch.stack([template_box(c, s.template_factor, s.template_size) for c in clips] * 2)
    sums = [0.0] * (2 * count)
    for t in range(1, len(clips[0].search)):
        frames = [c.search[t] for c in clips] * 2
        crops = [one_crop(f, b, s.search_factor, s.search_size) for f, b in zip(frames, boxes, strict=True)]
        template = torch.stack(templates * 2)
        mask = track.network.template_mask(centred)
        output = track.network(template, torch.stack([c for c, _ in crops]), mask)
        response = output.candidates.scores * track.window
        cells = response.argmax(dim=1)
        cells[count:] = POLICY.draw(response[count:])
        chosen = output.candidates.boxes_at(cells)
        for i, (_, resize) in enumerate(crops):
            side = s.search_size / resize
            cx, cy, w, h = (float(v) * side for v in chosen[i])
            middle = boxes[i][0] + boxes[i][2] / 2, boxes[i][1] + boxes[i][3] / 2
            found = middle[0] + cx - side / 2 - w / 2, middle[1] + cy - side / 2 - h / 2, w, h
            boxes[i] = list(clip_box(found, *frames[i].size_hw, 10))
            sums[i] += one_overlap(boxes[i], clips[i % count].search_boxes[t].tolist())
    steps = len(clips[0].search) - 1
    return [(sums[count + i] - sums[i]) / steps for i in range(count)]


def template_box(clip: FrameSet, factor: float, size: int) -> Tensor:
    """The target in its template, in units of the crop's side."""
    _, _, w, h = clip.template_boxes[0].tolist()
    resize = size / math.ceil(math.sqrt(w * h) * factor)
    extent = torch.tensor([w, h], dtype=torch.float64) * resize
    return torch.cat([(size - 1) / 2 - extent / 2, extent]) / size


def ours(track: OSTrackTracker, clips: list[FrameSet]) -> list[float]:
    """The library's way."""
    quick = prepare_for_rollout(track)
    advantage: list[float] = roll_out(quick, clips, POLICY.draw).advantage().tolist()
    return advantage


Way = Callable[[OSTrackTracker, list[FrameSet]], list[float]]


@dataclass(frozen=True)
class Pace:
    """Clips per second, by the clock and by this process's processor time, which other processes do not touch."""

    clock: float
    processor: float

    def line(self, name: str, plain: Pace) -> str:
        return (
            f"{name:24s}{self.clock:6.2f} clips/s {self.clock / plain.clock:5.2f}x  "
            f"{self.processor:6.2f} per processor second {self.processor / plain.processor:5.2f}x"
        )


def pace(way: Way, track: OSTrackTracker, batches: Iterator[list[FrameSet]], seconds: float) -> Pace:
    """Decoding included; the first batch, for which worker processes start, is not counted."""
    way(track, next(batches))
    done, began, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        clips = next(batches)
        way(track, clips)
        done += len(clips)
    return Pace(done / (time.perf_counter() - began), done / (time.process_time() - used))


def overlaps_per_second(vectorised: bool, count: int, frames: int, seconds: float) -> float:
    """Overlaps of the boxes of a whole roll-out."""
    boxes = torch.rand(2, 2 * count * frames, 4, dtype=torch.float64)
    rows = [b.tolist() for b in boxes]
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        if vectorised:
            iou_xywh(boxes[0], boxes[1])
        else:
            for a, b in zip(*rows, strict=True):
                one_overlap(a, b)
        done += boxes.shape[1]
    return done / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=SHIPPED, help="of experiments/ostrack")
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--clips", type=int, default=8, help="per batch")
    parser.add_argument("--frames", type=int, default=24, help="per clip")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode ahead")
    parser.add_argument("--seconds", type=float, default=20.0, help="per measurement")
    args = parser.parse_args()
    track = tracker_of(args.config)
    slt = SLT(frames=args.frames, interval_prob=0.0)
    videos = Videos(args.height, args.width, 8, 3 * args.frames + 4)
    sampler = TrackingSampler([videos], [1.0], VisibleClipSampler(slt), WholeFrames(slt), seed=0)

    def batches(workers: int) -> Iterator[list[FrameSet]]:
        loader = build_clip_loader(sampler, 1000 * args.clips, args.clips, workers=workers)
        return (batch.clips for batch in loader.epoch(1))

    check_agreement(track, next(batches(0)))
    print(f"{args.clips} clips of {args.frames} frames, {args.width} x {args.height}, ostrack {args.config}")
    plain = pace(straightforward, track, batches(0), args.seconds)
    print(plain.line("straightforward", plain))
    print(pace(ours, track, batches(0), args.seconds).line("ours", plain))
    ahead = pace(ours, track, batches(args.workers), args.seconds)
    print(ahead.line(f"ours, {args.workers} decoding ahead", plain))
    decoded = [next(batches(0))]
    plain = pace(straightforward, track, itertools.cycle(decoded), args.seconds)
    print(plain.line("straightforward, decoded", plain))
    print(pace(ours, track, itertools.cycle(decoded), args.seconds).line("ours, decoded", plain))
    loop, whole = (overlaps_per_second(v, args.clips, args.frames, 1.0) for v in (False, True))
    print(f"overlaps alone: {loop / 1e6:.2f} million/s in a loop, {whole / 1e6:.2f} at once, {whole / loop:.0f}x")


def tracker_of(config: str) -> OSTrackTracker:
    """With the shipped weights where they fit, with random ones otherwise."""
    experiment = load_experiment("ostrack", config)
    torch.manual_seed(0)
    network = experiment.method.build_network(experiment.config, False)
    if config == SHIPPED:
        load_into(network, read_checkpoint(load_paths().pretrained / f"{SHIPPED}.safetensors").state_dict)
    track = experiment.build_tracker(network)
    if not isinstance(track, OSTrackTracker):
        raise TypeError(f"{config} is no OSTrack")
    return track


def check_agreement(track: OSTrackTracker, clips: list[FrameSet]) -> None:
    """Raises AssertionError where the two ways part."""
    found = []
    for way in (straightforward, ours):
        torch.manual_seed(1)
        found.append(torch.tensor(way(track, clips)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-3)


if __name__ == "__main__":
    main()
