"""Second course of the shipped network within a given time: render worlds, train variants side by side, keep releases.

Sequences of photographs and cut-outs (see scripts/collect_pictures.py) and procedural ones are rendered by all cores;
then every variant of experiments/ostrack/synthetic_lifelike.yaml goes on from the shipped weights with as many samples
as the rest of the time allows. Data are the limit, not the network: 3.6 ms of a core per sample, 0.4 s per sequence.

    PYTHONPATH=. python benchmarks/lifelike_training.py --pictures output/pictures/train --output output/lifelike
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib.cores import available_cores
from lib.methods import load_experiment
from lib.paths import checkpoint_folder

CONFIG = "synthetic_lifelike"
VARIANTS = {"biased": (), "unbiased": ("DATA.SEARCH.SCALE_BIAS=0.0",)}
"""Search regions around boxes that are too large on average, as the configuration has it, or right on average."""
PER_WORKER, START = 230, 15
"""Samples that a process makes in a second, and seconds that a training takes to begin."""


def start(*command: str, log: Path) -> subprocess.Popen[bytes]:
    """A command in a session of its own."""
    with log.open("ab") as stream:
        return subprocess.Popen([sys.executable, *command], stdout=stream, stderr=stream, start_new_session=True)


def end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for a command, and end it with all its processes once its time is over."""
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def render(place: Path, most: int, workers: int, deadline: float, *options: str) -> int:
    """As many sequences as there is time for. Returns their number."""
    place.mkdir(parents=True, exist_ok=True)
    names = place.with_suffix(".txt")
    names.write_text("".join(f"world-{k}\n" for k in range(1, most + 1)))
    size = ("--sequences", str(most), "--frames", "24", "--names", str(names), "--seed", "1")
    command = ("tracking/make_synthetic_data.py", "--output", str(place), *size, "--workers", str(workers), *options)
    end(start(*command, log=place.with_suffix(".log")), deadline)
    for part in place.rglob("*.part"):
        shutil.rmtree(part)
    return len(list(place.glob("*/*/groundtruth.txt")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="made by scripts/collect_pictures.py")
    parser.add_argument("--output", type=Path, required=True, help="data, trainings, and <variant>.safetensors, .json")
    parser.add_argument("--seconds", type=float, default=240, help="in all (default: 240)")
    parser.add_argument("--cores", type=int, default=available_cores(), help="processes (default: all cores)")
    parser.add_argument("--sequences", type=int, default=4000, help="at most, of either kind (default: 4000)")
    parser.add_argument("--samples", type=int, help="per variant (default: as many as there is time for)")
    parser.add_argument("--batch", type=int, default=128, help="samples per step (default: 128)")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--device", default="auto", help="of the trainings (default: auto)")
    args = parser.parse_args()
    began, out = time.monotonic(), args.output
    data = out / "synthetic"
    lifelike = ("--lifelike", "--pictures", str(args.pictures))
    photo = render(data / "photo", args.sequences, args.cores, began + 0.36 * args.seconds, *lifelike)
    plain = render(data / "train", args.sequences, args.cores, began + 0.46 * args.seconds)
    print(f"{photo} + {plain} sequences in {time.monotonic() - began:.0f} s", flush=True)

    workers = max(1, args.cores // len(args.variants) - 1)
    left = args.seconds - (time.monotonic() - began) - START
    samples = args.samples or int(PER_WORKER * workers * left)
    epochs = load_experiment("ostrack", CONFIG).config.train.epoch
    trainings = {}
    for name in args.variants:
        place = ("--config", CONFIG, "--save_dir", str(out / name), "--data_dir", str(out), "--device", args.device)
        rate = 0.0005 * (args.batch / 32) ** 0.5
        sets = (f"TRAIN.BATCH_SIZE={args.batch}", f"TRAIN.LR={rate:.5f}", f"TRAIN.NUM_WORKER={workers}",
                f"DATA.TRAIN.SAMPLE_PER_EPOCH={max(args.batch, samples // epochs)}", "TRAIN.SAVE_LAST_N_EPOCH=2",
                "TRAIN.SAVE_EPOCH_INTERVAL=1")  # fmt: skip
        command = ("lib/train/run_training.py", "--script", "ostrack", *place, "--set", *sets, *VARIANTS[name])
        trainings[name] = start(*command, log=out / f"{name}.log")
    for name, process in trainings.items():
        end(process, began + args.seconds)
        released = sorted(checkpoint_folder(out / name, "ostrack", CONFIG).glob("OSTrack_ep*.safetensors"))
        if not released:
            sys.exit(f"{name}: no epoch was finished; see {out / name}.log")
        for suffix in (".safetensors", ".json"):
            shutil.copy(released[-1].with_suffix(suffix), out / f"{name}{suffix}")
        print(
            f"{name}: {released[-1].stem} of {epochs} epochs, {samples} samples, after {time.monotonic() - began:.0f} s"
        )


if __name__ == "__main__":
    main()
