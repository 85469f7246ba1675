"""Videos of results on disk: one mp4 per sequence with the boxes of each tracker and the ground truth.

python tracking/vis_results.py --dataset lasot --results ours=output/test/tracking_results/ostrack/x/lasot b=other/lasot
"""

import argparse
import json
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_plugin_option
from lib.files import user_path
from tracking._options import CommandParser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="benchmark that the results are of")
    parser.add_argument("--results", nargs="+", required=True, metavar="LABEL=FOLDER", help="folders with <seq>.txt")
    parser.add_argument(
        "--which", default="worst:10", help="worst:10, best:3 (by scores.json of the first folder), all, or names"
    )
    parser.add_argument("--output", type=Path, help="folder for the videos (default: videos/ in the first results)")
    parser.add_argument("--data_dir", help="parent of the data set folders (default: local.yaml)")
    add_plugin_option(parser)
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    from lib.bench import select_videos, write_videos
    from lib.bench.benchmarks import get_benchmark
    from lib.methods import load_plugins
    from lib.paths import load_paths

    load_plugins(options.plugins)
    folders = {}
    for text in options.results:
        label, sign, path = ("", "", text) if Path(text).exists() else text.partition("=")
        folder = user_path(path if sign else text)
        folders[label if sign else folder.parent.name or folder.name] = folder
    first = next(iter(folders.values()))
    scores = {}
    if (first / "scores.json").is_file():
        table = json.loads((first / "scores.json").read_text(encoding="utf-8"))["sequences"]
        scores = {name: next(iter(row.values())) for name, row in table.items()}
    paths = load_paths(data_dir=options.data_dir)
    sequences = get_benchmark(options.dataset).sequences(paths, skip_missing=True)
    chosen = select_videos(options.which, [s.name for s in sequences], scores)
    for path in write_videos(sequences, folders, options.output or first / "videos", chosen):
        print(path)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
