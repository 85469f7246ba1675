"""Search a tracker's settings on one benchmark, and see what the best ones give on another.

  python tracking/tune.py siamrpnpp siamrpnpp --dataset otb --test_dataset uav --trials 100 --batch 16 \\
      --keys PENALTY_K=0:0.3 WINDOW_INFLUENCE=0.2:0.6 SIZE_LR=0.2:0.6
  python tracking/tune.py transt transt --dataset got10k_val --test_dataset lasot --keys WINDOW_INFLUENCE=0.3:0.6:7
  python tracking/tune.py ostrack vitb_256_mae_ce_32x4_ep300 --dataset nfs --share 0.5 --keys SEARCH_FACTOR=3.5,4,4.5

Without --test_dataset, one half of the videos is searched on and the other one tested. Settings are rows of a batch;
frames are decoded once. Finished runs are not tracked again: the same command continues a search that was ended.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import ONE_DEVICE, CommandParser, add_engine_options, add_machine_options, at_least


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument("script", help="method: a folder of experiments/")
    parser.add_argument("config", help="YAML file in experiments/SCRIPT, without its ending")
    what = parser.add_argument_group("what")
    what.add_argument("--dataset", required=True, metavar="NAME", help="benchmark that settings are searched on")
    what.add_argument("--test_dataset", metavar="NAME", help="another one, that the best setting is tested on")
    what.add_argument(
        "--keys",
        nargs="+",
        required=True,
        metavar="KEY=VALUES",
        help="keys of TEST: LOW:HIGH, LOW:HIGH:NUMBER or A,B,C",
    )
    what.add_argument("--trials", type=at_least(0), default=0, help="random settings (default: all combinations)")
    what.add_argument("--seed", type=int, default=0, help="of random settings, of --share, of the halves (default: 0)")
    what.add_argument("--share", type=float, default=1.0, help="search on so many of the videos (default: 1, all)")
    what.add_argument("--metric", help="metric variant (default: the benchmark's own); its first score decides")
    what.add_argument("--skip_missing", action="store_true", help="go on without sequences that are not on disk")
    tracker = parser.add_argument_group("tracker")
    tracker.add_argument("--checkpoint", metavar="FILE", help="weights, or 'latest' (default: epoch TEST.EPOCH)")
    tracker.add_argument("--untrained", action="store_true", help="random weights")
    tracker.add_argument("--protocol", default="official", choices=["official", "fast"], help="see tracking/test.py")
    add_experiment_options(tracker)
    add_engine_options(tracker)
    add_machine_options(parser.add_argument_group("machine"))
    parser.no_effect(*ONE_DEVICE, warn=True)
    chance = "where nothing is drawn: without --trials and --share, and with --test_dataset"
    parser.no_effect("--seed", lambda o: not o.trials and o.share == 1 and o.test_dataset, chance)
    return parser.parse_args(argv)


def run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    from rich.console import Console

    from lib.bench import EvalJob, Span, TrackerSpec, Tuning, check_jobs, check_requests, start_processes, tune
    from lib.bench.benchmarks import get_benchmark
    from lib.paths import load_paths

    spans = [Span.parse(text) for text in options.keys]
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    dataset, test = get_benchmark(options.dataset), get_benchmark(options.test_dataset or options.dataset)
    if options.test_dataset and test.name == dataset.name:
        raise ValueError(
            f"--test_dataset is {dataset.title}, which is searched on; name another one, or none for halves of it"
        )
    check_requests(options.metric, None)
    spec = TrackerSpec.from_options(options, seed=42)
    search, check = (
        EvalJob(
            spec.resolve(paths, benchmark.name),
            benchmark,
            paths,
            processes=options.threads,
            batch=options.batch,
            metric=options.metric if benchmark is dataset else None,
            skip_missing=options.skip_missing,
        )
        for benchmark in (dataset, test)
    )
    search.require_scores()
    check_jobs([search, check], None)
    tuning = Tuning(search, check, spans, options.trials, options.seed, options.share)
    code = start_processes(__file__, argv, options.threads)
    return tune(tuning, Console(quiet=os.environ.get("RANK", "0") != "0")) if code is None else code


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(
        lambda: run(options, sys.argv[1:] if argv is None else argv),
        interrupted="stopped; finished settings are kept, the same command continues",
    )


if __name__ == "__main__":
    sys.exit(main())
