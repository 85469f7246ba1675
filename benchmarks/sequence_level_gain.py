"""Gain of sequence-level training: success on held-out procedural videos, over seeds, against a control.

A network goes on learning, once by its own decisions and once frame by frame, with as many steps and search regions and
the same learning rate; both are tested on videos that none of them saw. Which network (--kind):

- shipped: the shipped one (ostrack slt_synthetic, slt_control); no trial that settings were chosen by saw the videos
  either (those had --test_seed 21).
- ostrack_corner: a small OSTrack with a corner head, trained before (synthetic_demo).
- gdstrack: stage 1 of a small GDSTrack, trained before (translate_track synthetic_stage1), on RGB-T videos.
- siamrpnpp, siamattn: a small one, trained before (synthetic_small), on videos without masks.

Every seed is a process. Data, trainings and results that are there already are not made again; a run that --limit
ended is continued by the same command.

    PYTHONPATH=. python benchmarks/sequence_level_gain.py --save_dir output/slt --seeds 1 2 3
    PYTHONPATH=. python benchmarks/sequence_level_gain.py --kind ostrack_corner --policy_weight 5 --save_dir output/c
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from subprocess import CalledProcessError, TimeoutExpired

from commands import run, trained

from lib.methods import load_experiment
from lib.paths import load_paths

SHIPPED, TRAIN_SEED = "synthetic_small", 61
WAYS = {"sequence level": "slt_synthetic", "frame level": "slt_control"}
Scores = dict[str, float]
"""AUC of every video, in percent, and of all under an empty name."""


@dataclass(frozen=True)
class Kind:
    """A network that goes on learning.

    Attributes:
        script: of its configurations.
        start: configuration that it is trained with before; empty: it is the shipped one.
        settings: KEY=VALUE for all of its trainings and tests.
        videos: --layout, --width and so on of the videos that it learns from, and is tested on.
        benchmark: their name.
        start_script: of the configuration `start`, where it is another one.
        start_settings: KEY=VALUE for the training before.
    """

    script: str
    start: str
    settings: tuple[str, ...]
    videos: tuple[str, ...]
    benchmark: str
    start_script: str = ""
    start_settings: tuple[str, ...] = ()


EASY = ("--layout", "lasher", "--width", "240", "--height", "180", "--difficulty", "0.3")
LASHER = "DATA.TRAIN.DATASETS_NAME=[LASHER]"
CORNER = "MODEL.HEAD={TYPE: CORNER, NUM_CHANNELS: 64}"
QUICK = ("TRAIN.BATCH_SIZE=8", "TRAIN.LR=0.0005")
"""More and smaller steps than the configurations have: networks from nothing learn more of as many samples."""
SLOW = "TRAIN.LR=0.00005"
"""For both ways: at four times this rate the policy's gradients undo what the corners have learned."""
KINDS = {
    "shipped": Kind("ostrack", "", (), (), "synthetic"),
    "ostrack_corner": Kind("ostrack", "synthetic_demo", (CORNER, LASHER, SLOW), EASY, "lasher", start_settings=QUICK),
    "gdstrack": Kind("translate_track", "synthetic_stage1", (LASHER, SLOW), EASY, "lasher", start_settings=QUICK),
    "siamrpnpp": Kind("slt_siamrpnpp", "synthetic_small", (LASHER,), EASY, "lasher", "siamrpnpp", QUICK),
    "siamattn": Kind("slt_siamattn", "synthetic_small", (LASHER,), EASY, "lasher", "siamattn", QUICK),
}


@dataclass(frozen=True)
class Bench:
    """Where everything is, and how much of it.

    Attributes:
        out: Folder.
        videos, frames: Number of the held-out videos, and of the frames of each.
        test_seed: Which held-out videos.
        scale: Share of the samples per epoch of the trainings before, and of those that follow.
        device: cpu or cuda.
        policy_weight: SLT.POLICY_WEIGHT in place of the configuration's.
        deadline: Time of `time.monotonic` at which everything is ended.
    """

    out: Path
    videos: int
    frames: int
    test_seed: int
    scale: tuple[float, float]
    device: str
    policy_weight: float | None
    deadline: float

    def data(self, kind: Kind) -> Path:
        """Folder of the videos, which are made if they are not there."""
        folder = self.out / f"test_seed{self.test_seed}"
        parts = {"test": (self.test_seed, self.videos, self.frames)}
        if kind.videos:
            parts["train"] = (TRAIN_SEED, 60, 40)
        for split, (seed, count, frames) in parts.items():
            size = ("--split", split, "--seed", str(seed), "--sequences", str(count), "--frames", str(frames))
            place = ("--data_dir", str(folder)) if kind.videos else ("--output", str(folder / "synthetic" / split))
            run("tracking/make_synthetic_data.py", *place, *size, *kind.videos, deadline=self.deadline)
        return folder

    def chain(self, name: str, seed: int) -> tuple[dict[str, Scores], str]:
        """Scores before and after every way's training, as far as they are there, and what ended the chain."""
        kind, folder, found = KINDS[name], self.out / f"{name}_seed{seed}", dict[str, Scores]()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            start = load_paths().pretrained / f"{SHIPPED}.safetensors"
            first = replace(kind, script=kind.start_script or kind.script)
            if kind.start:
                start = self.trained(first, kind.start, seed, folder, self.scale[0], settings=kind.start_settings)
            found["before"] = self.scores(first, kind.start or SHIPPED, start, folder)
            for way, config in WAYS.items():
                by_itself = way == "sequence level"
                begin = (f"SLT.START={start.resolve()}",) if by_itself else ()
                if by_itself and self.policy_weight is not None:
                    begin += (f"SLT.POLICY_WEIGHT={self.policy_weight}",)
                load = () if by_itself else ("--load", str(start))
                weights = self.trained(kind, config, seed, folder, self.scale[1], *load, settings=begin)
                found[way] = self.scores(kind, config, weights, folder)
        except TimeoutExpired:
            return found, "ended by the limit"
        except CalledProcessError as error:
            return found, f"{error.cmd[0]} failed, see {folder / 'log.txt'}"
        return found, "done"

    def trained(
        self, kind: Kind, config: str, seed: int, folder: Path, scale: float, *more: str, settings: tuple[str, ...] = ()
    ) -> Path:
        """The last weights of a training, which is done if it is not yet."""
        samples = load_experiment(kind.script, config).config.data.train.sample_per_epoch
        size = f"DATA.TRAIN.SAMPLE_PER_EPOCH={max(round(samples * scale), 1)}"
        places = ("--data_dir", str(self.out / f"test_seed{self.test_seed}"), "--device", self.device)
        return trained(
            kind.script, config, seed, folder, *places, *more, settings=(size, *kind.settings, *settings),
            log=folder / "log.txt", deadline=self.deadline,
        )  # fmt: skip

    def scores(self, kind: Kind, config: str, weights: Path, folder: Path) -> Scores:
        """Scores of a tracker with these weights on the held-out videos."""
        save = folder / f"test_seed{self.test_seed}"
        how = ("--dataset", kind.benchmark, "--skip_missing", "--batch", "12", "--device", self.device)
        data = ("--data_dir", str(self.out / f"test_seed{self.test_seed}"))
        sets = [s for s in kind.settings if s.startswith("MODEL.")]
        places = (*data, "--save_dir", str(save), "--checkpoint", str(weights), *(["--set", *sets] if sets else []))
        run("tracking/test.py", kind.script, config, *how, *places, log=folder / "log.txt", deadline=self.deadline)
        results = save / "test" / "tracking_results" / kind.script / config / kind.benchmark / "scores.json"
        found = json.loads(results.read_text())
        return {"": found["headline"]["auc"], **{n: s["auc"] for n, s in found["sequences"].items()}}


def summary(way: str, chains: list[dict[str, Scores]]) -> str:
    """One line: mean change and its spread over seeds, and how many videos it is spread over."""
    runs = [found for found in chains if way in found]
    if not runs:
        return f"{way}: -"
    changes = [found[way][""] - found["before"][""] for found in runs]
    spread = statistics.stdev(changes) if len(changes) > 1 else 0.0
    names = [name for name in runs[0]["before"] if name]
    means = [statistics.fmean(found[way][n] - found["before"][n] for found in runs) for n in names]
    better, worse = sum(m > 0.5 for m in means), sum(m < -0.5 for m in means)
    before = statistics.fmean(found["before"][""] for found in runs)
    return (
        f"{way}: {statistics.fmean(changes):+.2f} AUC from {before:.2f} over {len(changes)} seeds (standard deviation "
        f"{spread:.2f}); {better} of {len(names)} videos gain more than half a point, {worse} lose more"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--save_dir", type=Path, default=Path("output/slt"))
    add("--kind", nargs="+", choices=KINDS, default=["shipped"])
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--videos", type=int, default=160, help="held-out ones")
    add("--frames", type=int, default=80, help="of each")
    add("--test_seed", type=int, default=90210, help="which held-out videos")
    add("--start_scale", type=float, default=1.0, help="share of the samples per epoch of the training before")
    add("--scale", type=float, default=1.0, help="share of the samples per epoch of those that are compared")
    add("--policy_weight", type=float, help="in place of the configuration's")
    add("--device", default="cpu", help="cpu or cuda")
    add("--jobs", type=int, default=1, help="processes")
    add("--limit", type=float, default=math.inf, help="seconds after which what is there is reported")
    args = parser.parse_args()
    args.save_dir.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        args.save_dir, args.videos, args.frames, args.test_seed, (args.start_scale, args.scale), args.device,
        args.policy_weight, time.monotonic() + args.limit,
    )  # fmt: skip
    for videos in {KINDS[name].videos: name for name in args.kind}.values():
        bench.data(KINDS[videos])
    chains = [(name, seed) for name in args.kind for seed in args.seeds]
    table: dict[str, list[dict[str, Scores]]] = {name: [] for name in args.kind}
    with ProcessPoolExecutor(args.jobs, get_context("fork")) as pool:
        for (name, seed), (found, end) in zip(chains, pool.map(bench.chain, *zip(*chains, strict=True)), strict=True):
            table[name].append(found)
            print(f"{name}, seed {seed}: {end}; AUC", {way: round(s[""], 2) for way, s in found.items()}, flush=True)
    for name, rows in table.items():
        print(name)
        for way in WAYS:
            print(f"  {summary(way, rows)}")
    (args.save_dir / "gain.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"all scores by video: {args.save_dir / 'gain.json'}")


if __name__ == "__main__":
    main()
