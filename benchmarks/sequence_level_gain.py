"""What sequence-level training changes: success on held-out procedural sequences, over seeds, against a control.

The shipped network goes on learning, once by its own decisions (experiments/ostrack/slt_synthetic.yaml) and once frame
by frame (slt_control.yaml), with as many steps and search regions and the same learning rate; both are tested on
sequences that none of them saw, nor any trial that settings were chosen by (those had --test_seed 21). Data, trainings
and results that are there already are not made again.

    PYTHONPATH=. python benchmarks/sequence_level_gain.py --save_dir output/slt --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from commands import run, trained

from lib.paths import load_paths

START = "synthetic_small"
WAYS = {"sequence level": "slt_synthetic", "frame level": "slt_control"}


@dataclass(frozen=True)
class Bench:
    """Where everything is."""

    out: Path
    sequences: int
    frames: int
    test_seed: int

    @property
    def start(self) -> Path:
        return load_paths().pretrained / f"{START}.safetensors"

    @property
    def tests(self) -> Path:
        """The held-out sequences, and below what trackers made of them."""
        return self.out / f"test_seed{self.test_seed}"

    def data(self) -> None:
        size = ["--sequences", str(self.sequences), "--frames", str(self.frames)]
        place = ["--output", str(self.tests / "synthetic" / "test"), "--split", "test"]
        run("tracking/make_synthetic_data.py", *place, *size, "--seed", str(self.test_seed))

    def trained(self, config: str, seed: int) -> Path:
        """The weights of one training, finished."""
        load = () if config == WAYS["sequence level"] else ("--load", str(self.start))
        return trained("ostrack", config, seed, self.out / f"{config}_seed{seed}", *load)

    def scores(self, name: str, config: str, checkpoint: Path) -> dict[str, float]:
        """AUC of every sequence, in percent, and of the whole under an empty name."""
        folder = self.tests / name
        results = folder / "test" / "tracking_results" / "ostrack" / config / "synthetic"
        place = ["--data_dir", str(self.tests), "--save_dir", str(folder), "--checkpoint", str(checkpoint)]
        run("tracking/test.py", "ostrack", config, "--dataset", "synthetic", "--batch", "8", *place)
        found = json.loads((results / "scores.json").read_text())
        return {"": found["headline"]["auc"], **{n: s["auc"] for n, s in found["sequences"].items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=Path("output/slt"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sequences", type=int, default=160, help="held-out sequences")
    parser.add_argument("--frames", type=int, default=80, help="of each")
    parser.add_argument("--test_seed", type=int, default=90210, help="which held-out sequences")
    args = parser.parse_args()
    bench = Bench(args.save_dir, args.sequences, args.frames, args.test_seed)
    bench.data()
    before = bench.scores("start", START, bench.start)
    print(f"before: AUC {before['']:.2f} on {len(before) - 1} held-out sequences", flush=True)
    table: dict[str, list[dict[str, float]]] = {}
    for way, config in WAYS.items():
        table[way] = []
        for seed in args.seeds:
            after = bench.scores(f"{config}_seed{seed}", config, bench.trained(config, seed))
            table[way].append(after)
            print(f"{way}, seed {seed}: AUC {after['']:.2f} ({after[''] - before['']:+.2f})", flush=True)
    for way, runs in table.items():
        print(summary(way, before, runs))
    numbers = {"before": before, **table}
    (args.save_dir / "gain.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"all scores by sequence: {args.save_dir / 'gain.json'}")


def summary(way: str, before: dict[str, float], runs: list[dict[str, float]]) -> str:
    """One line: mean change and its spread over seeds, and how many sequences it is spread over."""
    changes = [r[""] - before[""] for r in runs]
    spread = statistics.stdev(changes) if len(changes) > 1 else 0.0
    means = {name: statistics.fmean(r[name] for r in runs) - auc for name, auc in before.items() if name}
    better = sum(change > 0.5 for change in means.values())
    worse = sum(change < -0.5 for change in means.values())
    return (
        f"{way}: {statistics.fmean(changes):+.2f} AUC over {len(runs)} seeds (standard deviation {spread:.2f}); "
        f"{better} sequences gain more than half a point, {worse} lose more"
    )


if __name__ == "__main__":
    main()
