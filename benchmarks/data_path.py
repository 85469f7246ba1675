"""Speed of making training samples from decoded frames, against the straightforward way.

The straightforward way merges, greys and mirrors whole frames, pads crops and full-size masks, and makes float pictures
on the CPU, as published training code does; with depth it colours whole maps. Both run on one core and give the same
pictures, which is checked first. Decoding is left out.

    PYTHONPATH=. python benchmarks/data_path.py --height 720 --width 1280 --modality rgbt
    PYTHONPATH=. python benchmarks/data_path.py --height 360 --width 640 --modality rgbd
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lib.config import Data, Region
from lib.data import (
    Draws,
    Frame,
    FrameSet,
    Image,
    InvalidSampleError,
    Levels,
    Mask,
    Modality,
    Normalise,
    Processing,
    Sample,
    depth_to_levels,
    grey_picture,
    jitter_box,
    mirror_box,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DATA = Data(template=Region(128, 2.0), search=Region(256, 4.0, center_jitter=3.0, scale_jitter=0.25))
PROCESS = Processing(DATA)


Depth = NDArray[np.uint16]
Way = Callable[["Shot", Draws], object]


@dataclass(frozen=True)
class Shot:
    """The content of a sample, as decoded. depth: maps of template and search frame, in place of second pictures."""

    clip: FrameSet
    depth: tuple[Depth, Depth] | None = None

    def seen(self, colour: Callable[[Depth], Image | Levels]) -> FrameSet:
        """The frames with their second pictures."""
        if self.depth is None:
            return self.clip
        template, search = (
            (Frame(frames[0].rgb, colour(depth)),)
            for frames, depth in zip((self.clip.template, self.clip.search), self.depth, strict=True)
        )
        return replace(self.clip, template=template, search=search)


def coloured(depth: Depth) -> Image:
    """The published depth recipe, step by step on the whole map."""
    limit = min(np.median(depth) * 3, 10000)
    near = np.where(depth > limit, limit, depth).astype(np.uint16)
    levels = cv2.normalize(near, np.zeros_like(near), alpha=0, beta=255, norm_type=cv2.NORM_MINMAX).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_JET), dtype=np.uint8)


def padded_crop(image: Image, box_xywh: list[float], factor: float, size: int) -> tuple[Image, Mask]:
    """Cut, pad picture and mask to the full crop, resize both."""
    x, y, w, h = box_xywh
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + 0.5 * w - 0.5 * side), round(y + 0.5 * h - 0.5 * side)
    height, width = image.shape[:2]
    pads = max(0, -top), max(0, top + side - height + 1), max(0, -left), max(0, left + side - width + 1)
    region = image[top + pads[0] : top + side - pads[1], left + pads[2] : left + side - pads[3]]
    padded = cv2.copyMakeBorder(region, *pads, cv2.BORDER_CONSTANT)
    mask = np.ones((side, side))
    mask[pads[0] : side - pads[1], pads[2] : side - pads[3]] = 0
    crop = np.asarray(cv2.resize(padded, (size, size)), dtype=np.uint8)
    return crop, cv2.resize(mask, (size, size)).astype(bool)


def straightforward(shot: Shot, draws: Draws) -> list[torch.Tensor]:
    """Normalised float crops of template and search frame."""
    crops, clip = [], shot.seen(coloured)
    mean, std = (torch.tensor([*v, *v]).reshape(6, 1, 1) for v in (MEAN, STD))
    kinds = (
        (clip.template[0], clip.template_boxes[0], DATA.template, draws.template[0]),
        (clip.search[0], clip.search_boxes[0], DATA.search, draws.search[0]),
    )
    for frame, box, rule, draw in kinds:
        pictures = [picture for picture in (frame.rgb, frame.aux) if picture is not None]
        image, target = np.concatenate(pictures, axis=2), box.astype(np.float32)
        if draws.changes[0] and frame.second is None:
            image = grey_picture(image)
        if draws.changes[1]:
            image, target = np.ascontiguousarray(image[:, ::-1]), mirror_box(target, image.shape[1])
        jittered = jitter_box(target, draw.normal, draw.uniform, rule.scale_jitter, rule.center_jitter)
        crop, mask = padded_crop(image, jittered.tolist(), rule.factor, rule.size)
        if mask.all():
            raise InvalidSampleError("padding only")
        gain, flipped = draw.changes
        x = torch.from_numpy(crop.transpose(2, 0, 1)).float().mul(gain / 255).clamp(0, 1)
        x = x.flip(2) if flipped else x
        crops.append((x - mean[: len(x)]) / std[: len(x)])
    return crops


def ours(shot: Shot, draws: Draws) -> Sample:
    """The library's way."""
    return PROCESS.apply(shot.seen(depth_to_levels), draws)


def make_shots(height: int, width: int, modality: Modality, count: int) -> list[Shot]:
    """Noise frames with a target of about a tenth of the picture's side, anywhere in it."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(4)]
    maps = [rng.integers(0, 9000, (height, width), dtype=np.uint16) for _ in range(4)]
    has_picture = modality in (Modality.RGBT, Modality.RGBE)
    frames = [Frame(p, pictures[i - 1] if has_picture else None) for i, p in enumerate(pictures)]
    shots = []
    for i in range(count):
        side = rng.uniform(0.05, 0.2, 2) * min(height, width)
        corner = rng.random(2) * (np.array([width, height]) - side)
        box = np.array([[*corner, *side]])
        pair = (frames[i % 4],), (frames[(i + 1) % 4],)
        clip = FrameSet(*pair, box, box + rng.uniform(-8, 8, (1, 4)), modality, "noise", str(i), (0, 1))
        shots.append(Shot(clip, (maps[i % 4], maps[(i + 1) % 4]) if modality is Modality.RGBD else None))
    return shots


def rate(make: Way, shots: list[Shot], draws: list[Draws], seconds: float) -> float:
    """Samples per second; invalid ones count, since they cost time as well."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        attempt(make, shots[done % len(shots)], draws[done % len(draws)])
        done += 1
    return done / (time.perf_counter() - began)


def attempt(make: Way, shot: Shot, draw: Draws) -> object | None:
    """The sample, or None where it is invalid."""
    try:
        return make(shot, draw)
    except InvalidSampleError:
        return None


def check_equal(shots: list[Shot], draws: list[Draws]) -> None:
    """Stop where the two ways give different pictures."""
    normalise = Normalise(MEAN, STD)
    for shot, draw in zip(shots, draws, strict=True):
        try:
            sample, plain = ours(shot, draw), straightforward(shot, draw)
        except InvalidSampleError:
            continue
        for found, colour, expected in (
            (sample.template, sample.template_colour, plain[0]),
            (sample.search, sample.search_colour, plain[1]),
        ):
            torch.testing.assert_close(normalise(torch.from_numpy(found), torch.from_numpy(colour))[0], expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=720, help="of the frames, pixels")
    parser.add_argument("--width", type=int, default=1280, help="of the frames, pixels")
    parser.add_argument("--modality", type=Modality, default=Modality.RGB, help="rgb, rgbt, rgbd, rgbe")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each way is run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    shots = make_shots(options.height, options.width, options.modality, 40)
    rng = np.random.default_rng(1)
    draws = [PROCESS.draw(rng, 1, 1) for _ in shots]
    check_equal(shots, draws)
    plain = rate(straightforward, shots, draws, options.seconds)
    quick = rate(ours, shots, draws, options.seconds)
    size = f"{options.width} x {options.height} {options.modality.value}"
    print(f"{size}: {quick:.0f} samples/s, straightforward {plain:.0f} samples/s, ratio {quick / plain:.1f}")


if __name__ == "__main__":
    main()
