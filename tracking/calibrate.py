"""Calibrate the scores of a trained tracker: they become the overlap with the target that is to be expected.

  python tracking/calibrate.py ostrack synthetic_small --dataset synthetic --overwrite
  python tracking/calibrate.py ostrack vitb_256_mae_ce_32x4_ep300 --dataset got10k_val lasot

Tracks the benchmarks, fits a perceptron of 4 units on the network's own maps, and writes it next to the weights as
<weights>.confidence.json, where tracking/test.py, the demo and unitrack.load find it. Prints how reliable raw and
calibrated scores are on videos that were not fitted on.
"""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import CommandParser, at_least
from tracking._progress import show_progress


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("script", help="method: a folder of experiments/ (ostrack)")
    add("config", help="YAML file in experiments/SCRIPT, without its ending")
    add(
        "--dataset",
        nargs="+",
        required=True,
        metavar="NAME",
        help="benchmarks, as tracking/test.py takes them",
    )
    add("--videos", type=at_least(2), help="so many of each benchmark, from the first on (default: all)")
    add("--checkpoint", metavar="FILE", help="weights (default: epoch TEST.EPOCH)")
    add_experiment_options(parser)
    add("--batch", type=at_least(1), default=16, help="videos at a time (default: 16)")
    add("--overwrite", action="store_true", help="replace a fit that is there")
    add("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    add("--data_dir", help="parent of the data set folders (default: local.yaml)")
    add("--save_dir", help="where checkpoints are (default: local.yaml)")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    from lib.bench import TrackerSpec, calibrate_scores, collect_samples
    from lib.bench.benchmarks import get_benchmark
    from lib.files import require_writable
    from lib.models import sha256_of
    from lib.paths import load_paths
    from lib.track import StagedTracker, confidence_file

    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    videos = [v for name in options.dataset for v in get_benchmark(name).sequences(paths)[: options.videos]]
    spec = TrackerSpec.from_options(options, scores="raw").resolve(paths)
    tracker = spec.build()
    if not isinstance(tracker, StagedTracker) or spec.checkpoint is None:
        raise ValueError(f"the scores of {options.script} {options.config} cannot be calibrated: no stages of a step")
    path = confidence_file(Path(spec.checkpoint))
    if path.exists() and not options.overwrite:
        raise FileExistsError(f"{path} is there already; --overwrite replaces it")
    require_writable(path.parent)
    with show_progress(f"{len(videos)} videos, twice", 2 * sum(map(len, videos)), "frames") as bar:
        samples = collect_samples(tracker, videos, batch=options.batch, progress=bar.update)
    about = {"dataset": options.dataset, "videos": len(videos), "weights": sha256_of(Path(spec.checkpoint))}
    result = calibrate_scores(samples, about)
    result.calibration.save(path)
    print(f"{len(videos)} videos, {len(samples.raw)} frames; on videos that were not fitted on:")
    for name, found in (("raw", result.raw), ("calibrated", result.calibrated)):
        auroc = "-" if found.auroc is None else f"{found.auroc:.3f}"
        print(f"  {name:<11} AUROC of overlap below 0.2: {auroc}   calibration error: {found.calibration_error:.3f}")
    print(f"written: {path}")
    if result.calibrated.calibration_error >= result.raw.calibration_error:
        print(
            "warning: on other videos these scores are worse than the raw ones; fit on more videos, or delete the file",
            file=sys.stderr,
        )
    return 0


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
