"""Changes by ONLINE: success with and without the filter, on rendered sequences and on clips, and its cost.

The shipped network tracks sequences with look-alikes, and without other objects, with ONLINE and without. Settings are
chosen on sequences of another seed than those that are reported. Results that are there already are not made again.

    PYTHONPATH=. python benchmarks/online_filter.py --save_dir output/online --clips FOLDER
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lib.bench import TrackerSpec
from lib.data import Frame, iou_xywh, open_source
from lib.paths import load_paths
from lib.track import Tracker
from synthetic import build_synthetic

KINDS = {
    "look-alikes": "attributes=SIM+DEF+CM",
    "alone": "attributes=DEF+CM,distractors=0",
}
TUNING, REPORTED = (71,), (1, 2, 3)
"""Seeds."""
SETTINGS = ("WEIGHT: 0.3", "WEIGHT: 0.6", "MIX: product, WEIGHT: 1.0")
THRESHOLDS = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Clip:
    """A video in memory. truth: [N, 4], NaN where there is none."""

    frames: list[Frame]
    truth: NDArray[np.float64]


def rendered(kind: str, seed: int, count: int, length: int) -> list[Clip]:
    """Sequences of one kind."""
    videos = build_synthetic(f"SYNTHETIC:seed={9000 + seed},sequences={count},length={length},{KINDS[kind]}")
    found = []
    for video in videos:
        truth = np.where(video.visible[:, None], video.boxes_xywh, np.nan)
        found.append(Clip([video.read_frame(t) for t in range(length)], truth))
    return found


def real(folder: Path) -> dict[str, Clip]:
    """Clips below a folder: a video and `groundtruth.txt` (x, y, w, h; nan where there is no truth) each."""
    found = {}
    for file in sorted(folder.glob("*/groundtruth.txt")):
        video = next(p for p in file.parent.iterdir() if p.suffix in (".avi", ".mp4", ".webm"))
        truth = np.loadtxt(file, delimiter=",")
        frames = [grab.frame for grab in open_source(video) if grab.frame is not None]
        found[file.parent.name] = Clip(frames[: len(truth)], truth)
    return found


def build(settings: str) -> Tracker:
    """The shipped network's tracker; settings: of ONLINE, empty for none."""
    overrides = (f"ONLINE={{{settings}}}",) if settings else ()
    return TrackerSpec("ostrack", "synthetic_small", device="cpu", overrides=overrides).resolve(load_paths()).build()


@torch.no_grad()
def success(tracker: Tracker, clips: Sequence[Clip], batch: int = 8) -> list[float]:
    """Success AUC of every clip in percent; clips of one length."""
    found = []
    for first in range(0, len(clips), batch):
        part = clips[first : first + batch]
        state = tracker.init([c.frames[0] for c in part], torch.from_numpy(np.stack([c.truth[0] for c in part])))
        boxes = []
        for t in range(1, len(part[0].frames)):
            state, prediction = tracker.step(state, [c.frames[t] for c in part])
            boxes.append(prediction.boxes_xywh.numpy())
        for clip, mine in zip(part, np.stack(boxes, axis=1), strict=True):
            known = np.isfinite(clip.truth[1:]).all(axis=1)
            overlaps = iou_xywh(mine[known], clip.truth[1:][known])
            found.append(100 * float((overlaps[:, None] > THRESHOLDS).mean()))
    return found


def kept(file: Path, settings: str, clips: Sequence[Clip]) -> list[float]:
    """A result, computed where it is not there yet."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(success(build(settings), clips)))
    found: list[float] = json.loads(file.read_text())
    return found


@torch.no_grad()
def cost(trackers: Sequence[Tracker], clips: Sequence[Clip], rounds: int = 40) -> list[list[float]]:
    """Processor time of a frame in ms: first frames, then the mean of later ones; trackers take turns."""
    firsts, boxes = [c.frames[0] for c in clips], torch.from_numpy(np.stack([c.truth[0] for c in clips]))
    times: list[list[list[float]]] = [[[], []] for _ in trackers]
    states = []
    for tracker, spent in zip(trackers, times, strict=True):
        tracker.init(firsts, boxes)
        began = time.process_time()
        states.append(tracker.init(firsts, boxes))
        spent[0].append(time.process_time() - began)
    for t in range(rounds):
        for i, tracker in enumerate(trackers):
            began = time.process_time()
            states[i], _ = tracker.step(states[i], [c.frames[1 + t % (len(c.frames) - 1)] for c in clips])
            times[i][1].append(time.process_time() - began)
    return [[1e3 * statistics.fmean(part) / len(clips) for part in spent] for spent in times]


def change(before: Sequence[float], after: Sequence[float]) -> str:
    """Mean difference and its standard error over clips."""
    gains = np.subtract(after, before)
    return f"{gains.mean():+.2f} +- {gains.std() / len(gains) ** 0.5:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=Path("output/online"))
    parser.add_argument("--sequences", type=int, default=24, help="of each kind and seed")
    parser.add_argument("--frames", type=int, default=50, help="of each")
    parser.add_argument("--clips", type=Path, help="folder of real clips: a video and groundtruth.txt each")
    parser.add_argument("--tune", nargs="+", default=SETTINGS, help="settings of ONLINE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    size = args.sequences, args.frames

    def scores(kind: str, seed: int, settings: Sequence[str]) -> list[list[float]]:
        """Of every setting, on the same sequences, which are rendered where a result is missing."""
        files = [args.save_dir / f"{kind}_{seed}_{size[0]}x{size[1]}" / f"{s or 'plain'}.json" for s in settings]
        clips = rendered(kind, seed, *size) if not all(f.is_file() for f in files) else []
        return [kept(f, s, clips) for f, s in zip(files, settings, strict=True)]

    gains: dict[str, float] = {}
    for kind in KINDS:
        for seed in TUNING:
            plain, *others = scores(kind, seed, ["", *args.tune])
            for settings, found in zip(args.tune, others, strict=True):
                print(
                    f"tuning, {kind}: {settings}: {change(plain, found)} from {statistics.fmean(plain):.2f}", flush=True
                )
                gains[settings] = gains.get(settings, 0.0) + statistics.fmean(found) - statistics.fmean(plain)
    best = max(gains, key=lambda settings: gains[settings])
    print(f"chosen: {best}", flush=True)
    for kind in KINDS:
        total: list[list[float]] = [[], []]
        for seed in REPORTED:
            pair = scores(kind, seed, ["", best])
            print(f"{kind}, seed {seed}: {statistics.fmean(pair[0]):.2f}, {change(*pair)}", flush=True)
            total = [a + b for a, b in zip(total, pair, strict=True)]
        print(f"{kind}, all: {statistics.fmean(total[0]):.2f}, {change(*total)}", flush=True)
    trackers = [build(""), build(best)]
    for name, clip in (real(args.clips) if args.clips else {}).items():
        files = [args.save_dir / "clips" / f"{name}_{s or 'plain'}.json" for s in ("", best)]
        pair = [kept(f, s, [clip]) for f, s in zip(files, ("", best), strict=True)]
        print(f"clip {name}: {pair[0][0]:.2f} without, {pair[1][0]:.2f} with", flush=True)
    shown = rendered("look-alikes", TUNING[0], 8, 12)
    for rows in (1, 8):
        (first, frame), (learned, online) = cost(trackers, shown[:rows])
        print(f"batch {rows}: first frame {first:.1f} and {learned:.1f} ms, a frame {frame:.2f} and {online:.2f} ms")


if __name__ == "__main__":
    main()
