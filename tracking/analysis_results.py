"""Compare trackers on a benchmark, from result files: ours or anybody's.

  python tracking/analysis_results.py ostrack vitb_256_mae_ce_32x4_ep300 --dataset lasot
  python tracking/analysis_results.py --dataset lasot --results ours=output/a theirs=downloads/b --report output/report
  python tracking/analysis_results.py --dataset lasot --results downloads/*.zip --latex
  python tracking/analysis_results.py --gt annotations --results a b --metric matlab

SCRIPT CONFIG [CONFIG ...] reads what tracking/test.py wrote; --results reads any folder with one text file per
sequence (comma, tab or space; boxes x y w h or eight corner numbers), or an experiment's folder of the VOT toolkit
(WORKSPACE/results/TRACKER/EXPERIMENT), or a pack as authors publish them: zip, tar, .mat, or a folder of those, with
folders per tracker, run or benchmark. Tables are in percent; the best are bold in a terminal, and marked by *.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.bench import (
    Comparison,
    ResultSource,
    Scoring,
    check_requests,
    load_runs,
    read_truth,
    with_attributes,
)
from lib.bench.benchmarks import BenchmarkVideo, get_benchmark
from lib.bench.metrics import METRICS, parse_options
from lib.command import run_command
from lib.config import add_plugin_option
from lib.data import Video
from lib.files import require_writable
from lib.methods import load_plugins
from lib.paths import Paths, load_paths, results_folder
from lib.registry import listed, suggest
from tracking._options import CommandParser, add_folder_options


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "tracker", nargs="*", metavar="NAME", help="SCRIPT CONFIG [CONFIG ...]: results of tracking/test.py"
    )
    parser.add_argument(
        "--dataset", help="benchmark: lasot, got10k_val, otb, uav, lasher, visevent, synthetic, ... or FOLDER:path"
    )
    parser.add_argument(
        "--gt", type=Path, help="folder of ground truth, <seq>.txt each, in place of the benchmark's files"
    )
    parser.add_argument("--absent", type=Path, help="with --gt: folder of <seq>.txt labels, 1 = target absent")
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="LABEL=DIR",
        help="result folders or archives; the label may be left out; LABEL=DIR,DIR averages runs of one tracker",
    )
    parser.add_argument(
        "--metric",
        "--variant",
        help=f"metric variant: {', '.join(METRICS)} (default: the benchmark's own; ostrack with --gt)",
    )
    parser.add_argument(
        "--float", dest="exact", action="store_true", help="take the copies with all digits where there are any"
    )
    parser.add_argument(
        "--exclude_invalid_frames", action="store_true", help="divide by valid frames (ostrack, pytracking)"
    )
    parser.add_argument(
        "--metric_options", nargs="+", default=[], metavar="NAME=VALUE", help="such as low=20 high=45 for VOT's EAO"
    )
    parser.add_argument("--attribute", nargs="+", default=[], help="only sequences with all of these attributes")
    parser.add_argument("--skip_missing", action="store_true", help="leave out sequences that some tracker lacks")
    parser.add_argument("--per_sequence", action="store_true", help="print the table of sequences, too")
    parser.add_argument("--latex", action="store_true", help="print tables as LaTeX")
    parser.add_argument("--csv", action="store_true", help="print tables as CSV")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write report.html, tables and plots there")
    parser.add_argument("--training_log", type=Path, help="JSONL log of a training, for the report")
    parser.add_argument("--title", help="title of the report")
    text = "what a tracker is, in a sentence for the reader of table and report"
    parser.add_argument("--about", nargs="+", default=[], metavar="LABEL=SENTENCE", help=text)
    add_folder_options(parser, "where tracking/test.py wrote")
    add_plugin_option(parser)
    parser.no_effect("--absent", lambda o: not o.gt, "without --gt")
    parser.no_effect("--csv", lambda o: o.latex, "with --latex")
    parser.no_effect("--training_log --title", lambda o: not o.report, "without --report")
    args = parser.parse_args(argv)
    if not args.dataset and not args.gt:
        parser.error("give --dataset NAME, or --gt FOLDER with the ground truth")
    if len(args.tracker) == 1:
        parser.error(f"{args.tracker[0]!r}: expected SCRIPT CONFIG [CONFIG ...]")
    if args.tracker and not args.dataset:
        parser.error("SCRIPT CONFIG needs --dataset NAME")
    if not args.tracker and not args.results:
        parser.error("nothing to compare: give SCRIPT CONFIG, or --results LABEL=DIR ...")
    if any("=" not in text for text in args.about):
        parser.error("--about: expected LABEL=SENTENCE ...")
    if args.training_log and not args.training_log.is_file():
        parser.error(f"--training_log {args.training_log}: no such file")
    return args


def sources(args: argparse.Namespace, paths: Paths) -> list[ResultSource]:
    """Our own results first, in the order of the command line."""
    found = []
    if args.tracker:
        script, *configs = args.tracker
        name = get_benchmark(args.dataset).name
        found = [ResultSource(config, (results_folder(paths.save_dir, script, config) / name,)) for config in configs]
    return found + [ResultSource.parse(text) for text in args.results]


def run(args: argparse.Namespace) -> int:
    load_plugins(args.plugins)
    if args.report:
        require_writable(args.report)
    paths = load_paths(data_dir=args.data_dir, save_dir=args.save_dir)
    benchmark = get_benchmark(args.dataset) if args.dataset else None
    options = parse_options(args.metric_options)
    if args.exclude_invalid_frames:
        options["exclude_invalid_frames"] = True
    if benchmark is None or args.gt:
        variant = args.metric or (benchmark.metric if benchmark else "ostrack")
        scoring = Scoring(variant, benchmark.tag if benchmark else "", args.exact, options)
    else:
        scoring = Scoring.of(benchmark, args.metric, args.exact, **options)
    check_requests(scoring.variant, None, options=options)
    videos: list[Video] = []
    sequences: list[BenchmarkVideo]
    if args.gt:
        sequences = read_truth(args.gt, args.absent)
        if benchmark is not None:
            sequences = [replace(s, other_names=benchmark.other_names_of(s.name)) for s in sequences]
    else:
        assert benchmark is not None
        sequences = list(benchmark.sequences(paths, skip_missing=args.skip_missing))
        videos = list(sequences)
    if args.attribute:
        sequences = with_attributes(sequences, args.attribute)
    runs = load_runs(sources(args, paths), sequences, scoring, args.skip_missing)
    about = dict(text.split("=", 1) for text in args.about)
    labels = [run.name for run in runs]
    for name in about:
        if name not in labels:
            raise ValueError(f"--about {name}: no such tracker{suggest(name, labels)} (there: {listed(labels)})")
    comparison = Comparison(benchmark.title if benchmark else str(args.gt), runs, sequences, videos)
    print("\n".join(comparison.notes))
    for stem, table in comparison.tables.items():
        if stem != "sequences" or args.per_sequence:
            print()
            print(table.latex() if args.latex else table.csv() if args.csv else table.text(bold=sys.stdout.isatty()))
    print("".join(f"\n{name}: {text}" for name, text in about.items()))
    if args.report:
        print(f"report: {comparison.write_report(args.report, args.title, args.training_log, about)}")
    return 1 if comparison.unscored else 0


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
