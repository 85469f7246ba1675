"""Gain of the search for lost targets where targets leave the picture: native F-scores, and returns that are found.

Long sequences are rendered whose target leaves and comes back, by formulas and, with --pictures, of photographs and
cut-outs; a network that comes with the project tracks them with and without --reacquire. F by the protocols of
DepthTrack (vot_longterm) and of VOT2018-LT (pysot_longterm), in percent; a return counts as found when within ten
frames of it the box overlaps the target by at least half. Data and results that are there already are not made again.

    PYTHONPATH=. python benchmarks/lost_targets.py --save_dir output/lost --pictures output/pictures/test
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from commands import run

from lib.bench.metrics import overlap

METRICS = ("vot_longterm", "pysot_longterm")
WITHIN, FOUND = 10, 0.5


def count_returns(truth: Path, result: Path) -> tuple[int, int]:
    """Returns of the target, and those after which it was found."""
    boxes = np.loadtxt(truth / "groundtruth.txt", delimiter=",")
    absent = np.zeros(len(boxes), dtype=bool)
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        absent |= np.loadtxt(truth / name, delimiter=",") > 0
    share = np.where(absent, 0.0, overlap(np.loadtxt(result, delimiter=","), boxes))
    returns = np.flatnonzero(absent[:-1] & ~absent[1:]) + 1
    return len(returns), sum(bool((share[k : k + WITHIN] >= FOUND).any()) for k in returns)


def measure(place: Path, config: str, checkpoint: Path | None, reacquire: bool) -> dict[str, float]:
    """Scores of the network on the sequences of a folder."""
    options = ["--data_dir", str(place), "--save_dir", str(place), "--batch", "8"]
    options += ["--checkpoint", str(checkpoint)] if checkpoint else []
    options += ["--reacquire"] if reacquire else []
    folder = config + ("_reacquire" if reacquire else "")
    results = place / "test" / "tracking_results" / "ostrack" / folder / "synthetic"
    scores: dict[str, float] = {}
    for metric in METRICS:
        run("tracking/test.py", "ostrack", config, "--dataset", "synthetic", "--metric", metric, *options)
        scores[metric] = json.loads((results / "scores.json").read_text())["headline"]["f_score"]
    folders = [file.parent for file in sorted((place / "synthetic" / "test").glob("*/*/groundtruth.txt"))]
    counts = np.array([count_returns(folder, results / f"{folder.name}.txt") for folder in folders]).sum(axis=0)
    return {**scores, "returns": int(counts[0]), "found": int(counts[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=Path("output/lost"))
    parser.add_argument("--pictures", type=Path, help="made by scripts/collect_pictures.py")
    parser.add_argument("--config", default="synthetic_small", help="of experiments/ostrack (default: synthetic_small)")
    parser.add_argument("--checkpoint", type=Path, help="weights with a fit next to them (default: the shipped ones)")
    parser.add_argument("--sequences", type=int, default=12, help="of either kind")
    parser.add_argument("--frames", type=int, default=120, help="of each")
    parser.add_argument("--seed", type=int, default=33)
    args = parser.parse_args()
    kinds: dict[str, tuple[str, ...]] = {"procedural": ()}
    if args.pictures:
        kinds["photographs"] = ("--lifelike", "--pictures", str(args.pictures))
    print("| sequences | search | F, DepthTrack | F, VOT2018-LT | returns found |\n|---|---|---:|---:|---:|")
    for kind, options in kinds.items():
        place = args.save_dir / kind
        size = ("--sequences", str(args.sequences), "--frames", str(args.frames), "--seed", str(args.seed))
        data = ("--split", "test", "--output", str(place / "synthetic" / "test"), "--attributes", "OV", "SV", "CM")
        run("tracking/make_synthetic_data.py", *data, *size, *options)
        for reacquire in (False, True):
            s = measure(place, args.config, args.checkpoint, reacquire)
            found = f"{s['found']} of {s['returns']}"
            print(f"| {kind} | {'yes' if reacquire else 'no'} | {s[METRICS[0]]:.1f} | {s[METRICS[1]]:.1f} | {found} |")


if __name__ == "__main__":
    main()
