"""What pre-training gives a small tracker: success on held-out procedural sequences, over seeds.

Per seed, three small OSTracks (ostrack synthetic_patches) learn with the same steps from the same videos. One begins
with masked appearance transfer (translate_template synthetic_small), one with the same network that learned to predict
the template as it is (synthetic_control), one with nothing. Pre-training sees the same videos and no others. Data,
trainings and results that are there already are not made again.

    PYTHONPATH=. python benchmarks/pretraining_gain.py --save_dir output/pretraining --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from commands import run, trained

STARTS = {"nothing": "", "reconstruction": "synthetic_control", "appearance transfer": "synthetic_small"}
"""What the tracker begins with -> configuration of its pre-training."""
TRAIN_SEED, TEST_SEED = 41, 42


@dataclass(frozen=True)
class Bench:
    """Where everything is. train_sequences, sequences: for training, and held-out ones; frames: of each of these.

    settings: KEY=VALUE for all trainings, such as a smaller DATA.TRAIN.SAMPLE_PER_EPOCH.
    """

    out: Path
    train_sequences: int
    sequences: int
    frames: int
    settings: tuple[str, ...]

    def data(self) -> None:
        for split, seed, count, frames in (
            ("train", TRAIN_SEED, self.train_sequences, 40),
            ("test", TEST_SEED, self.sequences, self.frames),
        ):
            folder = self.out / "data" / "synthetic" / split
            place = ("--output", str(folder), "--split", split, "--seed", str(seed))
            run("tracking/make_synthetic_data.py", *place, "--sequences", str(count), "--frames", str(frames))

    def score(self, start: str, seed: int) -> float:
        """Success AUC in percent of the tracker with this beginning."""
        data, settings = ("--data_dir", str(self.out / "data")), self.settings
        save = self.out / f"seed{seed}" / start.replace(" ", "_")
        begins: tuple[str, ...] = ()
        if STARTS[start]:
            file = trained("translate_template", STARTS[start], seed, save, *data, settings=settings)
            begins = (f"MODEL.PRETRAIN_FILE={file.resolve()}",)
        weights = trained("ostrack", "synthetic_patches", seed, save, *data, settings=(*settings, *begins))
        places = (*data, "--save_dir", str(save), "--checkpoint", str(weights))
        run("tracking/test.py", "ostrack", "synthetic_patches", "--dataset", "synthetic", "--batch", "8", *places)
        results = save / "test" / "tracking_results" / "ostrack" / "synthetic_patches" / "synthetic" / "scores.json"
        return float(json.loads(results.read_text())["headline"]["auc"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=Path("output/pretraining"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--train_sequences", type=int, default=400)
    parser.add_argument("--sequences", type=int, default=60, help="held-out sequences")
    parser.add_argument("--frames", type=int, default=60, help="of each")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for all trainings")
    args = parser.parse_args()
    bench = Bench(args.save_dir, args.train_sequences, args.sequences, args.frames, tuple(args.set))
    bench.data()
    table: dict[str, list[float]] = {start: [] for start in STARTS}
    for seed in args.seeds:
        for start, scores in table.items():
            scores.append(bench.score(start, seed))
            print(f"seed {seed}, {start}: AUC {scores[-1]:.2f}", flush=True)
    for start, scores in table.items():
        gains = [after - before for after, before in zip(scores, table["nothing"], strict=True)]
        spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
        mean = f"AUC {statistics.fmean(scores):.2f} ({statistics.fmean(gains):+.2f}, standard deviation {spread:.2f})"
        print(f"{start}: {mean}")
    (args.save_dir / "gains.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
