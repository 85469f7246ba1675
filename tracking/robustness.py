"""Measure an RGB-X tracker's dependence on each picture: its score as one is missing or corrupted more and more.

  python tracking/robustness.py sdstrack cvpr2024_rgbt --dataset lasher --report output/robustness
  python tracking/robustness.py sdstrack cvpr2024_rgbd --dataset depthtrack --drop aux --rates 0.2 0.5 1 --corrupt noise
  python tracking/robustness.py sdstrack cvpr2024_rgbt --with ostrack vitb_256_mae_ce_32x4_ep300 --dataset rgbt234

Every step is a run of tracking/test.py with --drop or --corrupt: what is finished is not tracked again, a run that was
ended is continued. Exit codes as there.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import ONE_DEVICE, CommandParser, add_machine_options


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument("script", help="method: a folder of experiments/")
    parser.add_argument("config", help="YAML file in experiments/SCRIPT, without its ending")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="an RGB-X benchmark: lasher, visevent, ...")
    parser.add_argument(
        "--with", dest="others", nargs=2, action="append", default=[], metavar=("SCRIPT", "CONFIG"),
        help="another tracker in the same plots; may be repeated",
    )  # fmt: skip
    worse = parser.add_argument_group("what gets worse")
    worse.add_argument(
        "--drop", nargs="*", choices=["rgb", "aux"], help="the picture that is missing (default: each in turn)"
    )
    worse.add_argument(
        "--rates", nargs="+", type=float, default=[0.25, 0.5, 0.75, 1.0], metavar="R",
        help="in these shares of the frames (default: 0.25 0.5 0.75 1)",
    )  # fmt: skip
    worse.add_argument("--fill", default="black", choices=["black", "repeat"], help="what stands there instead")
    worse.add_argument("--corrupt", nargs="+", default=[], metavar="KIND", help="noise, occlusion, or both of them")
    worse.add_argument(
        "--on",
        nargs="+",
        default=["rgb", "aux"],
        choices=["rgb", "aux", "both"],
        help="the pictures that are corrupted",
    )
    worse.add_argument(
        "--strengths", nargs="+", type=float, default=[0.1, 0.2, 0.4], metavar="S", help="(default: 0.1 0.2 0.4)"
    )
    worse.add_argument("--degradation_seed", type=int, default=0, help="another draw of all that (default: 0)")
    tracker = parser.add_argument_group("trackers")
    tracker.add_argument("--checkpoint", metavar="FILE", help="weights of the first tracker, or 'latest'")
    tracker.add_argument("--untrained", action="store_true", help="random weights")
    add_experiment_options(tracker)
    add_machine_options(parser.add_argument_group("machine"))
    parser.add_argument("--sequence", nargs="+", default=[], metavar="SEQ", help="only these sequences")
    parser.add_argument("--metric", help="metric variant (default: the benchmark's own)")
    parser.add_argument("--skip_missing", action="store_true", help="go on without sequences that are not on disk")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="robustness.html, plots and tables go there")
    parser.add_argument("--title", default="", help="title of the page")
    parser.no_effect(*ONE_DEVICE, warn=True)
    parser.no_effect("--rates --fill", lambda o: o.drop == [], "where --drop names no picture")
    parser.no_effect("--on --strengths", lambda o: not o.corrupt, "without --corrupt")
    chance = "where nothing is drawn: without --corrupt and --rates below 1"
    parser.no_effect("--degradation_seed", lambda o: not o.corrupt and (o.drop == [] or set(o.rates) <= {0, 1}), chance)
    parser.no_effect("--title", lambda o: not o.report, "without --report")
    return parser.parse_args(argv)


def run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    from rich.console import Console

    from lib.bench import (
        EvalJob,
        Sweep,
        TrackerSpec,
        curves_by_kind,
        measure_robustness,
        robustness_table,
        start_processes,
        write_robustness,
    )
    from lib.bench.benchmarks import get_benchmark
    from lib.files import require_writable
    from lib.methods import load_plugins
    from lib.paths import load_paths

    load_plugins(options.plugins)
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    benchmark = get_benchmark(options.dataset)
    seed = options.degradation_seed
    drop = ["rgb", "aux"] if options.drop is None else options.drop
    sweeps = [Sweep("drop", picture, options.rates, options.fill, seed) for picture in drop]
    sweeps += [Sweep(kind, on, options.strengths, seed=seed) for kind in options.corrupt for on in options.on]
    if not sweeps:
        raise ValueError("nothing gets worse: give --drop rgb aux, or --corrupt noise occlusion")
    if options.report:
        require_writable(options.report)
    specs = [TrackerSpec.from_options(options)]
    for script, config in options.others:
        specs.append(TrackerSpec.from_options(options, script=script, config=config, checkpoint=None, overrides=()))
    jobs = {
        f"{spec.script} {spec.config}": EvalJob(
            spec.resolve(paths, benchmark.name),
            benchmark,
            paths,
            processes=options.threads,
            batch=options.batch,
            names=tuple(options.sequence),
            metric=options.metric,
            skip_missing=options.skip_missing,
        )
        for spec in specs
    }
    code = start_processes(__file__, argv, options.threads)
    if code is not None:
        return code
    found = measure_robustness(jobs, sweeps, Console(quiet=os.environ.get("RANK", "0") != "0"))
    if found is None:
        return 0
    for kind in curves_by_kind(found):
        print(f"\n{robustness_table(found, kind).text()}")
    if options.report:
        print(f"\nreport: {write_robustness(found, options.report, options.title)}")
    return 1 if found.failures else 0


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(
        lambda: run(options, sys.argv[1:] if argv is None else argv), interrupted="stopped; the same command continues"
    )


if __name__ == "__main__":
    sys.exit(main())
