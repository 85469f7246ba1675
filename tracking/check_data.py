"""Check data folders: sequences found and expected, the first missing file, pictures against annotation rows.

Without names every data set that is there is checked. Exit code 1 when something asked for is not as published.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import _bootstrap  # noqa: F401
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lib.bench.benchmarks import BENCHMARKS
from lib.catalogue import CATALOGUE
from lib.command import run_command
from lib.config import add_plugin_option
from lib.data import CheckPart, CheckResult, check_part, check_parts, choose_parts, write_vot_list
from lib.methods import load_plugins
from lib.paths import Paths, load_paths, parse_overrides
from tracking._options import CommandParser, at_least
from tracking._progress import show_progress

VOT_KEYS = ("depthtrack_test", "vot_rgbd22")
LINES_SHOWN = 5


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "datasets",
        nargs="*",
        help="such as lasot, lasot:test, trackingnet:0-3, lasher_test, lasot_lmdb, vid, FOLDER:path",
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
    parser.add_argument(
        "--threads", type=at_least(1), default=4, help="pictures read at a time with --full (default: 4)"
    )
    parser.add_argument(
        "--write_vot_lists",
        action="store_true",
        help="write list.txt and missing `sequence` files into the DepthTrack test and VOT-RGBD2022 folders that are "
        "there, so that the VOT toolkit downloads nothing",
    )
    parser.set_defaults(depth="normal")
    add_plugin_option(parser)
    lists = "with --write_vot_lists, which checks nothing"
    parser.no_effect("datasets --fast --full --partial --all --threads", lambda o: o.write_vot_lists, lists)
    parser.no_effect("--threads", lambda o: o.depth != "full", "without --full")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    load_plugins(args.plugins)
    given = parse_overrides(args.path)
    paths = load_paths(given, data_dir=args.data_dir)
    if args.write_vot_lists:
        check_given(given, VOT_KEYS)
        return write_vot_lists(paths)
    if args.datasets:
        parts = []
        for name in args.datasets:
            parts += [part for part in named_parts(name, paths) if part not in parts]
    else:
        parts = [part for part in check_parts() if paths.find(part.spec)]
    check_given(given, [key for part in parts for key in (part.spec.key, part.spec.copy_of)])
    if not parts:
        print(f"no data set below {paths.data_dir}; data/README.md shows the layouts", file=sys.stderr)
        return 1
    results = []
    for part in parts:
        with show_progress(part.name, unit="sequences") as bar:
            results.append(
                check_part(
                    part,
                    paths,
                    args.depth,
                    threads=args.threads,
                    needs_labels=any(
                        b.needs and (b.spec.key, b.part) == (part.spec.key, part.subset.label)
                        for b in BENCHMARKS.values()
                    ),
                    progress=bar.update,
                    begin=bar.reset,
                )
            )
    if not args.datasets:
        # A folder may hold one part of a data set; its other parts were not asked for.
        here = {result.part.spec.key for result in results if result.found}
        results = [result for result in results if result.found or result.part.spec.key not in here]
    print_results(results, Console(), partial=args.partial, all_lines=args.all)
    return int(any(result.is_wrong(args.partial) for result in results))


def named_parts(name: str, paths: Paths) -> list[CheckPart]:
    """The parts of a data set or benchmark; of a whole data set those whose folders are there, unless none is."""
    if name not in CATALOGUE and name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        name = f"{benchmark.spec.key}:{benchmark.part}"
    parts = choose_parts([name])
    there = [part for part in parts if part.pseudo or paths.find(part.spec)]
    for part in parts:
        if there and part not in there:
            print(f"{part.name}: not there, {paths.candidates(part.spec)[0]}", file=sys.stderr)
    return there or parts


def check_given(given: Mapping[str, str], keys: Sequence[str]) -> None:
    """ValueError for a data set of --path that is not among those that are checked. given: key -> folder."""
    for key, folder in given.items():
        if key in CATALOGUE and key not in keys:
            reason = f"{key} is not among the data sets to check" if Path(folder).exists() else "not there"
            raise ValueError(f"--path {key}={folder}: {reason}")


def print_results(
    results: Sequence[CheckResult], console: Console, *, partial: bool = False, all_lines: bool = False
) -> None:
    """Print one row per part; below, what is missing or wrong, where it was looked for, and the expected layout.

    Args:
        results: One for each part.
        console: Where to print.
        partial: As for `CheckResult.is_wrong`.
        all_lines: Print every problem instead of the first few.
    """
    table = Table(box=None, pad_edge=False)
    for i, head in enumerate(("data set", "state", "sequences", "!= rows", "broken")):
        table.add_column(head, no_wrap=True, justify="left" if i < 2 else "right")
    table.add_column(Text("first missing or wrong", overflow="ellipsis", no_wrap=True))
    for result in results:
        state = "[red]wrong" if result.is_wrong(partial) else "[green]ok"
        state = state if result.there or result.place.exists() else "[red]not there"
        broken = f"{result.broken} of {result.pictures}" if result.pictures else "-"
        counts = (f"{result.found} / {result.expected}", str(result.mismatched), broken)
        # Paths are shown as seen from the data set folder, without the alternatives that were tried.
        trouble = result.first_trouble(partial).replace(f"{result.place}/", "").partition(" (nor ")[0] or "-"
        cells = (escape(result.part.name), state, *(counts if result.there else ("-", "-", "-")))
        # Only its text is not wrapped: rich narrows this column first, and cuts the line.
        table.add_row(*cells, Text(trouble, overflow="ellipsis", no_wrap=True))
    console.print(table)
    console.print("!= rows: sequences whose pictures and annotation rows differ in number", style="dim", soft_wrap=True)
    for result in results:
        if result.first_trouble(partial):
            _print_lines(result, console, partial, all_lines)


def _print_lines(result: CheckResult, console: Console, partial: bool, all_lines: bool) -> None:
    """Print the place and layout of one part, and the first lines of its problems, or all of them."""
    console.print(f"\n[bold]{escape(result.part.name)}[/bold] in {escape(str(result.place))}", soft_wrap=True)
    console.print(f"  expected layout: {escape(result.part.spec.layout)}", highlight=False, soft_wrap=True)
    missing = result.missing_files
    if partial and result.found and not all_lines and len(missing) > 1:
        missing = [f"{result.missing} sequences are not there, which --partial accepts (--all names them)"]
    for lines in (missing, result.problems):
        shown = lines if all_lines else lines[:LINES_SHOWN]
        for line in shown:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        if len(shown) < len(lines):
            console.print(f"  ... and {len(lines) - len(shown)} more like this (--all shows them)", soft_wrap=True)


def write_vot_lists(paths: Paths) -> int:
    places = {key: place for key in VOT_KEYS if (place := paths.find(key)) is not None}
    if not places:
        looked = " or ".join(str(paths.candidates(key)[0]) for key in VOT_KEYS)
        raise FileNotFoundError(f"neither DepthTrack test nor VOT-RGBD2022 is at {looked}")
    wrong = False
    for key, place in places.items():
        made = write_vot_list(place, key)
        state = "written" if made.changed else "was right"
        print(f"{made.path}: {state}, {len(made.names)} sequences; {made.sequence_files} `sequence` files written")
        for problem in (*made.lacking, *made.problems):
            print(f"  {problem}", file=sys.stderr)
        wrong |= bool(made.lacking or made.problems)
    return int(wrong)


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 0: all as published; 1: something is not; 2: an error; 130: interrupted."""
    args = parse(argv)
    return run_command(lambda: run(args), interrupted="interrupted")


if __name__ == "__main__":
    sys.exit(main())
