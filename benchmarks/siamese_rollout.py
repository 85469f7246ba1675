"""Speed of exploring clips for sequence-level training of SiamRPN++ and SiamAttn, against the published way.

The published way follows one clip at a time, with a greedy and an exploring tracker; it computes the template's
features in every frame, and a mask where the network draws some. Ours follows all clips in one batch, with the prepared
network, templates encoded once and no masks. Both greedy trackers arrive at the same boxes, which is checked; what is
drawn does not change the cost, so the published exploring tracker takes the best anchor too. Weights are random, of the
published size; time is this process's processor time, the least of some rounds.

    PYTHONPATH=. python benchmarks/siamese_rollout.py --method siamattn --clips 2 --frames 4
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plain_siamrpnpp import SIDE, PlainSiamRPN
from rollout import Videos
from siamrpnpp import networks

from lib.config import SLT
from lib.data import FrameSet, TrackingSampler, VisibleClipSampler, WholeFrames, build_clip_loader
from lib.deploy import prepare_for_rollout
from lib.methods.siamrpnpp import SiamRPNTracker
from lib.objectives import SoftmaxPolicy
from lib.track import roll_out

TEMPLATE, SMALLEST = 127, 10


@torch.no_grad()
def published(tracker: SiamRPNTracker, plain: PlainSiamRPN, clips: list[FrameSet]) -> NDArray[np.float64]:
    """Boxes [frames, clips, 4] of the greedy trackers."""
    found = []
    for clip in clips:
        box = torch.from_numpy(clip.template_boxes[:1])
        template = tracker.crop_template(clip.template[:1], box)
        boxes = [np.asarray(clip.search_boxes[0], dtype=np.float64) for _ in range(2)]
        steps = []
        for frame in clip.search[1:]:
            for k in (0, 1):
                x, y, w, h = boxes[k]
                centre, size = np.array([x + w / 2, y + h / 2]), np.array([w, h])
                side = float(np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2)) * SIDE / TEMPLATE)
                crop = tracker.crop_style.crop_frames(
                    [frame], torch.from_numpy(boxes[k])[None], 2 * SIDE / TEMPLATE, SIDE, template.padding
                ).pixels
                features = plain.template(tracker.normalise(template.crops))
                pixel = side / SIDE
                best = plain.locate(features, tracker.normalise(crop), (size / pixel)[None])[0]
                share = plain.shares[0] * tracker.test.size_lr
                height, width = frame.size_hw
                centre = (centre + best[:2] * pixel).clip(0, (width, height))
                size = (size * (1 - share) + best[2:] * pixel * share).clip(SMALLEST, (width, height))
                boxes[k] = np.concatenate([centre - size / 2, size])
            steps.append(boxes[0])
        found.append(steps)
    return np.array(found).transpose(1, 0, 2)


def ours(tracker: SiamRPNTracker, clips: list[FrameSet]) -> NDArray[np.float64]:
    """As `published`."""
    return roll_out(tracker, clips, SoftmaxPolicy().draw).boxes_xywh[0].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="siamrpnpp", choices=["siamrpnpp", "siamattn"])
    parser.add_argument("--clips", type=int, default=2, help="per batch")
    parser.add_argument("--frames", type=int, default=4, help="per clip")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    track, plain = networks(args.method, torch.device("cpu"))
    tracker: Any = getattr(track, "explorer", lambda: track)()
    slt = SLT(frames=args.frames, interval_prob=0.0)
    videos = Videos(360, 480, 4, 3 * args.frames + 4)
    sampler = TrackingSampler([videos], [1.0], VisibleClipSampler(slt), WholeFrames(slt), seed=0)
    clips = next(batch.clips for batch in build_clip_loader(sampler, args.clips, args.clips, workers=0).epoch(1))
    quick = prepare_for_rollout(tracker)
    ways: dict[str, Callable[[], NDArray[np.float64]]] = {
        "published": lambda: published(tracker, plain, clips),
        "ours": lambda: ours(quick, clips),
    }
    times = dict.fromkeys(ways, float("inf"))
    boxes = {}
    for _ in range(args.rounds):
        for name, way in ways.items():
            began = time.process_time()
            boxes[name] = way()
            times[name] = min(times[name], time.process_time() - began)
    difference = np.abs(boxes["ours"] - boxes["published"]).max()
    print(f"{args.method}: {args.clips} clips of {args.frames} frames; greedy boxes differ by {difference:.4f} pixels")
    for name, seconds in times.items():
        print(
            f"  {name:<10}{args.clips / seconds:.4f} clips per processor second, {times['published'] / seconds:.2f}x "
            f"({seconds / (2 * args.clips * (args.frames - 1)):.2f} s per tracked frame)"
        )


if __name__ == "__main__":
    main()
