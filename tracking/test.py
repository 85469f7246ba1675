"""Track a benchmark and print its scores.

  python tracking/test.py ostrack vitb_256_mae_ce_32x4_ep300 --dataset lasot --threads 16 --num_gpus 4
  python tracking/test.py ostrack vitb_256_mae_ce_32x4_ep300 --dataset got10k_test trackingnet --batch 16
  python tracking/test.py sdstrack cvpr2024_rgbt --dataset lasher --drop aux --drop_rate 0.5
  python tracking/test.py --tracker static --dataset synthetic
  torchrun --nnodes 2 --nproc_per_node 8 tracking/test.py ostrack vitb_256_mae_ce_32x4_ep300 --dataset lasot

Finished sequences are not tracked again, unless weights or configuration have changed (the old results are then moved
aside). A run that was ended in any way is continued by the same command. Exit code: 0 all is well, 1 a sequence
failed, 2 the command cannot be carried out, 130 ended by Ctrl-C.
"""

import argparse
import os
import sys

import _bootstrap  # noqa: F401

from lib.config import add_degradation_options, add_engine_options, add_experiment_options, add_machine_options


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", nargs="?", help="method: a folder of experiments/ (ostrack)")
    parser.add_argument("config", nargs="?", help="YAML file in experiments/SCRIPT, without its ending")
    what = parser.add_argument_group("what")
    what.add_argument(
        "--dataset",
        "--dataset_name",
        nargs="+",
        required=True,
        metavar="NAME",
        help="benchmarks: lasot, lasot_extension_subset, got10k_test, got10k_val, trackingnet, uav, nfs, otb, tnl2k, "
        "vasttrack, lasher, rgbt234, visevent, depthtrack, vot_rgbd22, synthetic, ...",
    )
    what.add_argument("--sequence", nargs="+", default=[], metavar="SEQ", help="only these: names or positions from 0")
    what.add_argument("--metric", help="metric variant (default: the benchmark's own)")
    what.add_argument(
        "--metric_options", nargs="+", default=[], metavar="NAME=VALUE", help="such as low=20 high=45 for VOT's EAO"
    )
    what.add_argument("--skip_missing", action="store_true", help="go on without sequences that are not on disk")
    tracker = parser.add_argument_group("tracker")
    tracker.add_argument(
        "--tracker", choices=["static", "classical", "mil"], help="a reference tracker, no SCRIPT CONFIG"
    )
    tracker.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="weights, also in the checkpoint folder, or 'latest' (default: epoch TEST.EPOCH)",
    )
    tracker.add_argument("--untrained", action="store_true", help="random weights, drawn with --seed")
    tracker.add_argument("--seed", type=int, default=42, help="for --untrained (default: 42)")
    add_experiment_options(tracker)
    tracker.add_argument(
        "--protocol",
        default="official",
        choices=["official", "fast"],
        help="official: float32, TF32 off, as papers report; fast: half precision where the device has it",
    )
    tracker.add_argument(
        "--compile", action="store_true", help="torch.compile, for GPUs; on CPUs it is slower than without"
    )
    add_engine_options(tracker)
    add_degradation_options(parser.add_argument_group("worse frames, for RGB-X: results get a folder of their own"))
    add_machine_options(parser.add_argument_group("machine"))
    results = parser.add_argument_group("results")
    results.add_argument("--runid", type=int, help="number of this run, part of the result folder's name")
    results.add_argument("--rerun", action="store_true", help="track finished sequences again")
    results.add_argument(
        "--save_video", nargs="?", const="worst:10", metavar="WHICH", help="worst:10, best:3, all, or names with commas"
    )
    results.add_argument("--debug", type=int, nargs="?", const=1, default=0, help="1: show the first failure in full")
    options = parser.parse_args(argv)
    if options.tracker and options.script:
        parser.error("--tracker stands in place of SCRIPT CONFIG")
    return options


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from lib.bench import Evaluation, TrackerChoice, check_wishes, evaluations, run_test
    from lib.bench.metrics import parse_options
    from lib.data import Degradation
    from lib.paths import load_paths

    console = Console(quiet=int(os.environ.get("RANK", "0")) > 0)  # under torchrun only the first process talks
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    choice = TrackerChoice(
        options.script, options.config, options.tracker, options.checkpoint, options.untrained, options.seed,
        options.protocol, options.compile, options.device, options.num_gpus,
        tuple(options.overrides), tuple(options.plugins), options.engine, options.calibration,
    )  # fmt: skip
    metric_options = parse_options(options.metric_options)
    check_wishes(options.metric, options.save_video, options.dataset, metric_options)
    degradation = Degradation.parse(
        options.drop, options.drop_rate, options.drop_fill, options.corrupt, options.degradation_seed
    )
    code = 0
    for benchmark, factory in evaluations(choice, options.dataset, paths):
        job = Evaluation(
            factory, benchmark, paths, 0 if options.debug else options.threads, options.batch, options.runid,
            tuple(options.sequence), options.metric, options.skip_missing, options.rerun, bool(options.debug),
            metric_options, degradation,
        )  # fmt: skip
        try:
            code = max(code, run_test(job, console, options.save_video))
        except KeyboardInterrupt:
            console.print(
                f"\nstopped; finished sequences are in {job.folder.path}, the same command continues", soft_wrap=True
            )
            return 130
    return code


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    try:
        return run(options)
    except (ValueError, OSError, RuntimeError, LookupError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
