"""Copy a data set into LMDB, so that training reads one big file in place of millions of small ones.

Every picture is checked on the way. The same command continues an interrupted run; a finished copy says "complete".
Train from it with --use_lmdb 1.
"""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.catalogue import CATALOGUE
from lib.command import run_command
from lib.config import add_plugin_option
from lib.data import (
    PlanError,
    build_lmdb,
    count_files,
    finished_build,
    partial_folder,
    plan_lmdb,
    write_broken_list,
    write_sequence_list,
)
from lib.methods import load_plugins
from lib.paths import load_paths
from tracking._options import CommandParser, at_least
from tracking._progress import show_progress


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "--dataset", required=True, help="lasot, got10k, trackingnet, coco, vid, lasher, depthtrack, ..."
    )
    parser.add_argument("--data_dir", type=Path, help="parent of the data set folders (default: local.yaml)")
    parser.add_argument("--source", type=Path, help="folder of the data set (default: its path setting)")
    parser.add_argument("--target", type=Path, help="folder of the copy (default: the path setting of NAME_lmdb)")
    parser.add_argument(
        "--chunks", type=int, nargs="+", help="TrackingNet: training chunks, such as 0 1 2 3 (default: all)"
    )
    parser.add_argument("--allow_broken", action="store_true", help="store broken pictures as they are")
    parser.add_argument("--threads", type=at_least(1), default=8, help="files read at a time (default: 8)")
    add_plugin_option(parser)
    named = "with --source and --target, which name both folders"
    parser.no_effect("--data_dir", lambda o: o.source and o.target, named, warn=True)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    load_plugins(args.plugins)
    paths = load_paths(data_dir=args.data_dir)
    key = CATALOGUE[args.dataset].key
    if args.target is None and f"{key}_lmdb" not in CATALOGUE:
        raise PlanError(f"there is no default place for an LMDB copy of {args.dataset}; give --target")
    target = args.target or paths.candidates(f"{key}_lmdb")[0]
    source = args.source or paths.dataset(args.dataset)
    reports = []
    for plan in plan_lmdb(args.dataset, source, target, args.chunks):
        report = finished_build(plan)
        if report is None:
            if partial_folder(plan.target).exists():
                print(f"{plan.target}: going on with an interrupted build")
            print(f"{plan.target}: counting files in {plan.source}")
            with show_progress(plan.target.name, count_files(plan)) as meter:
                report = build_lmdb(plan, allow_broken=args.allow_broken, threads=args.threads, progress=meter.update)
        if report.state == "was complete":
            print(f"{report.target}: complete ({report.files} files); delete the folder to build it again")
        else:
            size = f"{report.written} written ({report.bytes / 1e6:.1f} MB), {report.already} were there"
            print(f"{report.target}: {report.state}: {report.files} files, {size}")
        reports.append(report)
    if key == "trackingnet":
        print(f"{target / 'seq_list.json'}: {write_sequence_list(target)} videos")
    broken_list = target.with_name(target.name + ".broken.txt")
    broken = write_broken_list(broken_list, reports)
    if broken:
        print(f"{broken} broken files are listed in {broken_list}", file=sys.stderr)
    if not all(report.finished for report in reports):
        print("not finished: repair them and give the same command again, or add --allow_broken", file=sys.stderr)
        return 1
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 0: complete; 1: pictures are broken; 2: an error; 130: interrupted."""
    args = parse(argv)
    return run_command(lambda: run(args), interrupted="interrupted; give the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
