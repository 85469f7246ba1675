"""Check data folders: sequences found and expected, the first missing file, pictures against annotation rows.

Without names every data set that is there is checked. Exit code 1 when something asked for is not as published.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import _bootstrap  # noqa: F401
from rich.console import Console

from lib.bench.benchmarks import BENCHMARKS, Benchmark
from lib.data import (
    Depth,
    Finding,
    Part,
    check_part,
    choose,
    open_store,
    print_findings,
    show_progress,
    training_parts,
    write_vot_list,
)
from lib.data.datasets import StoredDataset
from lib.layouts import UnknownKeyError
from lib.paths import MissingPathError, Paths, PathsError, load_paths, parse_overrides

VOT_KEYS = ("depthtrack_test", "vot_rgbd22")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "datasets", nargs="*", help="such as lasot, lasot:test, trackingnet:0-3, lasher_test, lasot_lmdb, vid"
    )
    parser.add_argument("--data_dir", type=Path, help="parent of the data set folders")
    parser.add_argument("--path", action="append", default=[], metavar="KEY=FOLDER", help="folder of one data set")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument(
        "--fast", action="store_const", dest="depth", const="fast", help="annotations, first and last picture"
    )
    depth.add_argument("--full", action="store_const", dest="depth", const="full", help="read every picture")
    parser.add_argument("--partial", action="store_true", help="sequences that are not there are no fault")
    parser.add_argument("--all", action="store_true", help="print every problem, not the first few")
    parser.add_argument("--threads", type=int, default=4, help="pictures read at a time with --full (default: 4)")
    parser.add_argument(
        "--write_vot_lists",
        action="store_true",
        help="write list.txt and missing `sequence` files into the DepthTrack test and VOT-RGBD2022 folders that are "
        "there, so that the VOT toolkit downloads nothing",
    )
    parser.set_defaults(depth="normal")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0: all as published; 1: something is not; 2: cannot be asked so; 130: interrupted."""
    args = parse(argv)
    try:
        paths = load_paths(parse_overrides(args.path), data_dir=args.data_dir)
        if args.write_vot_lists:
            return write_vot_lists(paths)
        return run(args, paths)
    except (UnknownKeyError, PathsError, MissingPathError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def run(args: argparse.Namespace, paths: Paths) -> int:
    parts = all_parts()
    asked = choose(parts, args.datasets) if args.datasets else [p for p in parts if paths.find(p.key) is not None]
    if not asked:
        print(f"no data set below {paths.data_dir}; data/README.md shows the layouts", file=sys.stderr)
        return 1
    findings = [check(part, paths, args.depth, args.threads) for part in asked]
    if not args.datasets:
        findings = without_absent_parts(findings)
    print_findings(findings, Console(), partial=args.partial, all_lines=args.all)
    return int(any(finding.is_wrong(args.partial) for finding in findings))


def all_parts() -> list[Part]:
    """Training sets, their LMDB copies, and every test benchmark."""
    parts = {part.name: part for part in training_parts()}
    for name in BENCHMARKS:
        part = test_part(BENCHMARKS[name])
        parts.setdefault(part.name, part)
    return list(parts.values())


def test_part(benchmark: Benchmark) -> Part:
    label = {"got10k_val": "validation", "got10k_ltrval": "ltrval"}.get(benchmark.name, "test")
    truth = benchmark.truth_files if benchmark.scored else ()
    return Part(benchmark.root, label, partial(open_test, benchmark), benchmark.complete, truth)


def open_test(benchmark: Benchmark, path: Path) -> StoredDataset:
    return benchmark.read(open_store(path))


def check(part: Part, paths: Paths, depth: Depth, threads: int) -> Finding:
    with show_progress(part.name, 0, "sequences") as bar:
        return check_part(part, paths, depth, threads=threads, progress=bar, begin=bar.begin)


def without_absent_parts(findings: list[Finding]) -> list[Finding]:
    """Of a folder that holds one part of a data set, the other parts were not asked for."""
    here = {finding.part.key for finding in findings if finding.found}
    return [finding for finding in findings if finding.found or finding.part.key not in here]


def write_vot_lists(paths: Paths) -> int:
    places = {key: place for key in VOT_KEYS if (place := paths.find(key)) is not None}
    if not places:
        looked = " or ".join(str(paths.candidates(key)[0]) for key in VOT_KEYS)
        raise FileNotFoundError(f"neither DepthTrack test nor VOT-RGBD2022 is at {looked}")
    wrong = False
    for key, place in places.items():
        made = write_vot_list(place, key)
        told = "written" if made.changed else "was right"
        print(f"{made.path}: {told}, {len(made.names)} sequences; {made.sequence_files} `sequence` files written")
        for problem in (*made.lacking, *made.problems):
            print(f"  {problem}", file=sys.stderr)
        wrong |= bool(made.lacking or made.problems)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
