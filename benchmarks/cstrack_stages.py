"""Gain of CSTrack's stage 2 over stage 1 under occlusion: small networks, synthetic RGB-T, RGB-D, RGB-E, over seeds.

Per seed: stage 1 from random weights; stage 2 from there (cstrack_s2 synthetic_small); and a control, stage 1 that goes
on with as many frames, steps and trained parameters but for the temporal module (cstrack_s1 synthetic_control). All are
tested on held-out sequences in each of which the target is covered partly and wholly. Data, trainings and results that
are there already are not made again.

    PYTHONPATH=. python benchmarks/cstrack_stages.py --save_dir output/cstrack --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from commands import run, trained

TRAININGS = {
    "stage 1": ("cstrack_s1", "synthetic_small"),
    "stage 2": ("cstrack_s2", "synthetic_small"),
    "stage 1 goes on": ("cstrack_s1", "synthetic_control"),
}
LAYOUTS = ("lasher", "depthtrack", "visevent")
HEADLINES = {"lasher": "auc", "depthtrack": "f_score", "visevent": "auc"}
"""The scores that are read of each benchmark."""
TRAIN_SEED, TEST_SEED = 31, 32
HAPPENING = ("FOC", "POC", "CM", "SV")
"""In every held-out sequence."""


@dataclass(frozen=True)
class Bench:
    """Where everything is. sequences: held-out ones, per modality; frames: of each."""

    out: Path
    sequences: int
    frames: int
    train_sequences: int

    def data(self) -> None:
        make = ("tracking/make_synthetic_data.py", "--data_dir", str(self.out / "data"), "--layout", *LAYOUTS)
        if not (self.out / "data" / "visevent" / "train").is_dir():
            size = ("--sequences", str(self.train_sequences), "--frames", "40", "--difficulty", "0.5")
            run(*make, "--split", "train", "--seed", str(TRAIN_SEED), *size)
        if not (self.out / "data" / "visevent" / "test").is_dir():
            size = ("--sequences", str(self.sequences), "--frames", str(self.frames), "--difficulty", "0.3")
            run(*make, "--split", "test", "--seed", str(TEST_SEED), *size, "--attributes", *HAPPENING)

    def trained(self, script: str, config: str, seed: int) -> None:
        trained(script, config, seed, self.out / f"seed{seed}", "--data_dir", str(self.out / "data"))

    def scores(self, script: str, config: str, seed: int) -> dict[str, float]:
        """Headline of each benchmark, in percent."""
        places = ("--data_dir", str(self.out / "data"), "--save_dir", str(self.out / f"seed{seed}"))
        where = ("--dataset", *LAYOUTS, "--skip_missing", "--batch", "8", *places)
        run("tracking/test.py", script, config, *where)
        results = self.out / f"seed{seed}" / "test" / "tracking_results" / script / config
        found = {name: json.loads((results / name / "scores.json").read_text()) for name in LAYOUTS}
        return {name: scores["headline"][HEADLINES[name]] for name, scores in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=Path("output/cstrack"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sequences", type=int, default=32, help="held-out sequences of each modality")
    parser.add_argument("--frames", type=int, default=80, help="of each")
    parser.add_argument("--train_sequences", type=int, default=146, help="of each modality")
    args = parser.parse_args()
    bench = Bench(args.save_dir, args.sequences, args.frames, args.train_sequences)
    bench.data()
    table: dict[str, list[dict[str, float]]] = {name: [] for name in TRAININGS}
    for seed in args.seeds:
        for name, (script, config) in TRAININGS.items():
            bench.trained(script, config, seed)
            table[name].append(bench.scores(script, config, seed))
            print(f"seed {seed}, {name}: {describe(table[name][-1])}", flush=True)
    for name, runs in table.items():
        print(f"{name}: {summary(runs, table['stage 1'])}")
    (args.save_dir / "stages.json").write_text(json.dumps(table, indent=1) + "\n")


def describe(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in scores.items()) + f", mean {mean(scores):.2f}"


def mean(scores: dict[str, float]) -> float:
    return statistics.fmean(scores.values())


def summary(runs: list[dict[str, float]], before: list[dict[str, float]]) -> str:
    """Mean over seeds of each benchmark, and the change of their mean from stage 1 of the same seed."""
    columns = {name: statistics.fmean(r[name] for r in runs) for name in runs[0]}
    changes = [mean(after) - mean(first) for after, first in zip(runs, before, strict=True)]
    spread = statistics.stdev(changes) if len(changes) > 1 else 0.0
    return f"{describe(columns)} ({statistics.fmean(changes):+.2f}, standard deviation {spread:.2f})"


if __name__ == "__main__":
    main()
