"""Gains of small trackers by pre-training, pseudo labels and the diffusion: success on held-out videos, over seeds.

A small OSTrack (ostrack synthetic_patches) and a small GDSTrack (translate_track synthetic_stage1, then
synthetic_stage2) learn with the same steps from the same rendered RGB-T videos of one moving target, of which OSTrack
sees the visible pictures. They begin with nothing; with masked appearance transfer (translate_template
synthetic_small); or with the same network that learned to predict the template as it is (synthetic_control). Or they
begin with nothing and learn from pseudo labels, drawn by their quality. Stage 1 from nothing also goes on for as many
steps as stage 2 has (translate_track synthetic_control).

Every beginning and seed is a process; data, trainings and results that are there already are not made again, and a run
that `--limit` ended is continued by the same command.

    PYTHONPATH=. python benchmarks/gdstrack_gains.py --save_dir output/gains --seeds 1 2 3 --jobs 4
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from subprocess import CalledProcessError, TimeoutExpired

from commands import run, trained

from lib.cores import available_cores
from lib.methods import load_experiment

TRUTH = ("DATA.TRAIN.DATASETS_NAME=[LASHER]",)
PSEUDO = ("DATA.TRAIN.DATASETS_NAME=[LASHER_pseudo]", "DATA.SAMPLER_MODE=quality")
BEGINNINGS = {
    "nothing": ("", TRUTH, ("GDSTrack", "stage 1 goes on")),
    "appearance transfer": ("synthetic_small", TRUTH, ()),
    "reconstruction": ("synthetic_control", TRUTH, ()),
    "pseudo labels": ("", PSEUDO, ("GDSTrack",)),
}
"""Name -> configuration of the pre-training, what is learnt from, and which trackers stage 1 is followed by."""
TRACKERS = {
    "OSTrack": ("ostrack", "synthetic_patches"),
    "GDSTrack, stage 1": ("translate_track", "synthetic_stage1"),
    "GDSTrack": ("translate_track", "synthetic_stage2"),
    "stage 1 goes on": ("translate_track", "synthetic_control"),
}
"""The last two begin with the second one."""
TRAIN_SEED, TEST_SEED = 61, 62
Scores = dict[str, dict[str, float]]
"""Of a seed: beginning -> tracker -> success AUC in percent."""


@dataclass(frozen=True)
class Bench:
    """Where everything is, and how much of it.

    Attributes:
        out: Folder.
        train_videos, train_frames, test_videos, test_frames: Of the rendered data.
        scale: Share of the configurations' samples per epoch.
        device: cpu or cuda.
        settings: KEY=VALUE for all trainings.
        deadline: Time of `time.monotonic` at which everything is ended.
    """

    out: Path
    train_videos: int
    train_frames: int
    test_videos: int
    test_frames: int
    scale: float
    device: str
    settings: tuple[str, ...]
    deadline: float = math.inf

    @property
    def data(self) -> Path:
        return self.out / "data"

    def make_data(self) -> str:
        """Render videos and label those for training; returns the overlap of labels and truth, in words."""
        make = ("tracking/make_synthetic_data.py", "--data_dir", str(self.data), "--layout", "lasher")
        kind = ("--width", "240", "--height", "180", "--difficulty", "0.3", "--distractors", "0")
        log = self.out / "data.log"
        for split, seed, videos, frames in (
            ("train", TRAIN_SEED, self.train_videos, self.train_frames),
            ("test", TEST_SEED, self.test_videos, self.test_frames),
        ):
            size = ("--seed", str(seed), "--sequences", str(videos), "--frames", str(frames))
            run(*make, "--split", split, *size, *kind, log=log, deadline=self.deadline)
        label = ("tracking/make_pseudo_labels.py", "--dataset", "LASHER", "--data_dir", str(self.data))
        run(*label, log=log, deadline=self.deadline)
        return [line for line in log.read_text().splitlines() if line.startswith("overlap with")][-1]

    def folder(self, beginning: str, seed: int) -> Path:
        return self.out / f"seed{seed}" / beginning.replace(" ", "_")

    def trained(self, script: str, config: str, folder: Path, seed: int, *settings: str) -> Path:
        """The last weights of a training, which is done if it is not yet."""
        samples = load_experiment(script, config).config.data.train.sample_per_epoch
        size = f"DATA.TRAIN.SAMPLE_PER_EPOCH={max(round(samples * self.scale), 1)}"
        return trained(
            script, config, seed, folder, "--data_dir", str(self.data), "--device", self.device,
            settings=("TRAIN.NUM_WORKER=0", size, *settings, *self.settings),
            log=folder / "log.txt", deadline=self.deadline,
        )  # fmt: skip

    def score(self, script: str, config: str, folder: Path, weights: Path) -> float:
        """Success AUC in percent."""
        places = ("--data_dir", str(self.data), "--save_dir", str(folder), "--checkpoint", str(weights))
        how = ("--dataset", "lasher", "--skip_missing", "--batch", "24", "--device", self.device)
        log = folder / "log.txt"
        run("tracking/test.py", script, config, *how, *places, log=log, deadline=self.deadline)
        results = folder / "test" / "tracking_results" / script / config / "lasher" / "scores.json"
        return float(json.loads(results.read_text())["headline"]["auc"])

    def chain(self, beginning: str, seed: int) -> str:
        """All trainings and tests with one beginning; scores are in a file as they come. Returns what ended it."""
        pretraining, data, later = BEGINNINGS[beginning]
        folder, scores = self.folder(beginning, seed), dict[str, float]()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            start: tuple[str, ...] = ()
            if pretraining:
                start = from_file(self.trained("translate_template", pretraining, folder, seed, *data))
            for name in ("OSTrack", "GDSTrack, stage 1", *later):
                script, config = TRACKERS[name]
                weights = self.trained(script, config, folder, seed, *data, *start)
                scores[name] = self.score(script, config, folder, weights)
                (folder / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
                if config == "synthetic_stage1":
                    start = from_file(weights)
        except TimeoutExpired:
            return "ended by the limit"
        except CalledProcessError as error:
            said = (folder / "log.txt").read_text().splitlines()
            return f"{error.cmd[0]} ended with {error.returncode}: {said[-1] if said else 'no message'}"
        return "done"

    def scores(self, seed: int) -> Scores:
        """The results of a seed that are there."""
        files = {beginning: self.folder(beginning, seed) / "scores.json" for beginning in BEGINNINGS}
        return {name: json.loads(file.read_text()) if file.is_file() else {} for name, file in files.items()}


def from_file(weights: Path) -> tuple[str, ...]:
    return (f"MODEL.PRETRAIN_FILE={weights.resolve()}",)


def table(found: dict[int, Scores], overlap: str) -> str:
    """Markdown: mean AUC of every beginning, and its gain over nothing of the same seed; stage 2 likewise."""
    lines = ["| begins with, learns from | " + " | ".join(("OSTrack", "GDSTrack, stage 1", "GDSTrack")) + " |"]
    lines.append("|---|---:|---:|---:|")
    for name in BEGINNINGS:
        cells = [cell(found, (name, t), ("nothing", t)) for t in ("OSTrack", "GDSTrack, stage 1", "GDSTrack")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| from nothing | GDSTrack |", "|---|---:|"]
    for tracker in ("GDSTrack, stage 1", "stage 1 goes on", "GDSTrack"):
        gain = cell(found, ("nothing", tracker), ("nothing", "GDSTrack, stage 1"))
        lines.append(f"| {'stage 2' if tracker == 'GDSTrack' else tracker} | {gain} |")
    return "\n".join([*lines, "", f"Pseudo labels: {overlap}."])


def cell(found: dict[int, Scores], which: tuple[str, str], base: tuple[str, str]) -> str:
    """Mean over seeds, and in brackets mean and standard deviation of the differences from `base`."""
    scores = {seed: s[which[0]][which[1]] for seed, s in found.items() if which[1] in s[which[0]]}
    if not scores:
        return "-"
    gains = [score - found[s][base[0]][base[1]] for s, score in scores.items() if base[1] in found[s][base[0]]]
    text = f"{statistics.fmean(scores.values()):.1f}"
    if which != base and gains:
        spread = f" +- {statistics.stdev(gains):.1f}" if len(gains) > 1 else ""
        text += f" ({statistics.fmean(gains):+.1f}{spread})"
    return text if len(scores) == len(found) else f"{text}, {len(scores)} of {len(found)} seeds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--save_dir", type=Path, default=Path("output/gains"))
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--beginnings", nargs="+", choices=list(BEGINNINGS), default=list(BEGINNINGS), help="only these")
    add("--jobs", type=int, default=available_cores(), help="processes, of one thread each")
    add("--device", default="cpu", help="cpu or cuda")
    add("--scale", type=float, default=1.0, help="share of the configurations' samples per epoch")
    add("--train_videos", type=int, default=60)
    add("--train_frames", type=int, default=40)
    add("--test_videos", type=int, default=24, help="held-out ones")
    add("--test_frames", type=int, default=50)
    add("--limit", type=float, default=math.inf, help="seconds after which what is there is reported")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for all trainings")
    args = parser.parse_args()
    os.environ["TRACKING_PSEUDO_LABELS_DIR"] = str(args.save_dir / "labels")
    args.save_dir.mkdir(parents=True, exist_ok=True)
    sizes = args.train_videos, args.train_frames, args.test_videos, args.test_frames
    deadline = time.monotonic() + args.limit
    bench = Bench(args.save_dir, *sizes, args.scale, args.device, tuple(args.set), deadline)
    overlap = bench.make_data()
    with ProcessPoolExecutor(args.jobs, get_context("fork")) as pool:
        chains = [(name, seed) for seed in args.seeds for name in args.beginnings]
        for (name, seed), end in zip(chains, pool.map(bench.chain, *zip(*chains, strict=True)), strict=True):
            print(f"seed {seed}, {name}: {end}", flush=True)
    found = {seed: bench.scores(seed) for seed in args.seeds}
    page = table(found, overlap)
    print(page)
    (args.save_dir / "gains.json").write_text(json.dumps({"scores": found, "overlap": overlap}, indent=1) + "\n")
    (args.save_dir / "gains.md").write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
