"""The commands `transform_got10k.py` and `transform_trackingnet.py`."""

from __future__ import annotations

import sys

from lib.command import run_command
from tracking._options import CommandParser, add_folder_options, at_least


def submission_command(benchmark_name: str, description: str, argv: list[str] | None = None) -> int:
    """The commands `tracking/transform_*.py`.

    Args:
        benchmark_name: Benchmark of the server.
        description: Text of `--help`.
        argv: Command line; None for that of the process.

    Returns:
        Exit code.
    """
    parser = CommandParser(description=description)
    parser.add_argument("--tracker_name", required=True, help="method, as given to tracking/test.py")
    parser.add_argument("--cfg_name", required=True, help="configuration, as given to tracking/test.py")
    parser.add_argument(
        "--runids",
        type=at_least(0),
        nargs="+",
        help="pack these runs of tracking/test.py --runid, of which GOT-10k takes three",
    )
    parser.add_argument("--integers", action="store_true", help="whole pixels, as the OSTrack family has submitted")
    add_folder_options(parser, "where results are")
    options = parser.parse_args(argv)

    def run() -> None:
        from lib.bench import pack_submission, shortfall
        from lib.bench.benchmarks import get_benchmark
        from lib.paths import load_paths, results_folder

        paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
        benchmark = get_benchmark(benchmark_name)
        method = (paths.save_dir, options.tracker_name, options.cfg_name)
        folder, *more = (results_folder(*method, n) / benchmark.name for n in options.runids or [None])
        print(pack_submission(benchmark, folder, paths, exact=not options.integers, repetitions=more))
        if note := shortfall(benchmark, len(benchmark.names(paths))):
            print(f"note: {note}", file=sys.stderr)

    return run_command(run)
