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
import sys
from collections.abc import Sequence

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import (
    ONE_DEVICE,
    CommandParser,
    add_confidence_options,
    add_degradation_options,
    add_engine_options,
    add_machine_options,
    at_least,
)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
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
        "vasttrack, lasher, rgbt234, visevent, depthtrack, vot_rgbd22, synthetic, ...; FOLDER:path for your own data",
    )
    what.add_argument("--sequence", nargs="+", default=[], metavar="SEQ", help="only these: names or positions from 0")
    what.add_argument("--metric", help="metric variant (default: the benchmark's own)")
    what.add_argument(
        "--metric_options", nargs="+", default=[], metavar="NAME=VALUE", help="such as low=20 high=45 for VOT's EAO"
    )
    what.add_argument("--skip_missing", action="store_true", help="go on without sequences that are not on disk")
    tracker = parser.add_argument_group("tracker")
    tracker.add_argument(
        "--tracker",
        dest="reference",
        choices=["static", "classical", "mil"],
        help="a reference tracker, no SCRIPT CONFIG",
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
    text = "gpu: JPEG files are decoded there; pixels differ by a few levels; needs --protocol fast (default: cpu)"
    tracker.add_argument("--decode", choices=["cpu", "gpu"], default="cpu", help=text)
    add_engine_options(tracker)
    add_confidence_options(tracker)
    add_degradation_options(parser.add_argument_group("worse frames, for RGB-X: results get a folder of their own"))
    add_machine_options(parser.add_argument_group("machine"))
    results = parser.add_argument_group("results")
    results.add_argument("--runid", type=at_least(0), help="number of this run, part of the result folder's name")
    results.add_argument(
        "--result_format",
        metavar="NAME",
        help="in place of the benchmark's own, a row of lib/bench/formats.yaml, such as float_comma3_test (GDSTrack)",
    )
    results.add_argument("--rerun", action="store_true", help="track finished sequences again")
    results.add_argument(
        "--save_video", nargs="?", const="worst:10", metavar="WHICH", help="worst:10, best:3, all, or names with commas"
    )
    results.add_argument("--debug", type=int, nargs="?", const=1, default=0, help="1: show the first failure in full")
    parser.no_effect(*ONE_DEVICE, warn=True)
    parser.no_effect("--threads", lambda o: o.debug, "with --debug, which tracks in this process", warn=True)
    options = parser.parse_args(argv)
    if options.reference and options.script:
        parser.error("--tracker stands in place of SCRIPT CONFIG")
    if not options.reference and not options.config:
        parser.error("give SCRIPT CONFIG in front of options that take several values, or --tracker static")
    return options


def run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    from lib.bench import EvalJob, TrackerSpec, check_requests, run_tests
    from lib.bench.benchmarks import get_benchmark
    from lib.bench.metrics import parse_options
    from lib.data import Degradation
    from lib.methods import load_plugins
    from lib.paths import load_paths

    load_plugins(options.plugins)
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    metric_options = parse_options(options.metric_options)
    benchmarks = [get_benchmark(name).with_format(options.result_format) for name in options.dataset]
    check_requests(options.metric, options.save_video, options.dataset, metric_options)
    spec = TrackerSpec.from_options(options)
    jobs = [
        EvalJob(
            spec.resolve(paths, benchmark.name),
            benchmark,
            paths,
            processes=0 if options.debug else options.threads,
            batch=options.batch,
            run_id=options.runid,
            names=tuple(options.sequence),
            metric=options.metric,
            metric_options=metric_options,
            skip_missing=options.skip_missing,
            rerun=options.rerun,
            debug=bool(options.debug),
            degradation=Degradation.parse(
                options.drop, options.drop_rate, options.drop_fill, options.corrupt, options.degradation_seed
            ),
        )
        for benchmark in benchmarks
    ]
    return run_tests(jobs, __file__, argv, options.save_video)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(
        lambda: run(options, sys.argv[1:] if argv is None else argv),
        debug=bool(options.debug),
        interrupted="stopped; finished sequences are kept, the same command continues",
    )


if __name__ == "__main__":
    sys.exit(main())
