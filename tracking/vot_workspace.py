"""Make a workspace of the VOT toolkit ready for a tracker, so that `vot evaluate` and `vot analysis` run in it.

  python tracking/vot_workspace.py Depthtrack_workspace --script sdstrack --config cvpr2024_rgbd
  cd Depthtrack_workspace && vot evaluate cvpr2024_rgbd && vot analysis cvpr2024_rgbd

Links the sequences (from local.yaml, or --sequences FOLDER), writes list.txt, missing `sequence` files and the
tracker's section of trackers.ini, and reports what the data lack. Results of other weights, another configuration
or another --region are set aside. --native_results lets the toolkit analyse what tracking/test.py has tracked.
Exit code: 0 ready (fewer sequences than published are only a warning), 1 a sequence cannot be run, 2 an error.
"""

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import CommandParser, add_engine_options, add_folder_options, at_least


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "workspace",
        type=Path,
        help="Depthtrack_workspace, VOT22RGBD_workspace, VOT2018_workspace, VOT2018LT_workspace, or another folder",
    )
    parser.add_argument(
        "--benchmark",
        help="for a new folder: depthtrack, vot_rgbd22, vot2018_lt, vot2016_supervised, vot2018_supervised or "
        "vot2019_supervised",
    )
    parser.add_argument("--script", help="method: a folder of experiments/")
    parser.add_argument("--config", help="YAML file in experiments/SCRIPT, without its ending")
    parser.add_argument("--name", help="the tracker's name in the toolkit (default: CONFIG)")
    parser.add_argument(
        "--tracker", dest="reference", choices=["static", "classical", "mil"], help="a reference tracker instead"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="weights (default: epoch TEST.EPOCH, as tracking/test.py)")
    parser.add_argument("--untrained", action="store_true", help="random weights, drawn with --seed")
    parser.add_argument("--seed", type=int, default=42, help="for --untrained (default: 42)")
    add_experiment_options(parser)
    add_engine_options(parser)
    parser.add_argument("--protocol", default="official", choices=["official", "fast"], help="as tracking/test.py")
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    parser.add_argument("--sequences", type=Path, metavar="FOLDER", help="the data set (default: local.yaml)")
    parser.add_argument(
        "--timeout", type=at_least(1), default=600, help="seconds the toolkit waits for a reply (default: 600)"
    )
    parser.add_argument(
        "--region",
        default="rectangle",
        choices=["rectangle", "polygon", "mask"],
        help="kind of region that the tracker replies with (default: rectangle, which every tracker gives)",
    )
    parser.add_argument("--native_results", action="store_true", help="link the results of tracking/test.py")
    parser.add_argument("--runid", type=at_least(0), help="with --native_results: the run's number")
    add_folder_options(parser, "where checkpoints are")
    parser.no_effect("--runid", lambda o: not o.native_results, "without --native_results")
    options = parser.parse_args(argv)
    if not options.reference and not (options.script and options.config):
        parser.error("give --script METHOD and --config NAME, or --tracker static")
    return options


def run(options: argparse.Namespace) -> int:
    from lib.bench import TrackerSpec
    from lib.bench.vot import (
        anchor_problems,
        find_sequences,
        link_results,
        link_sequences,
        open_workspace,
        toolkit_problem,
        write_tracker,
    )
    from lib.methods import load_plugins
    from lib.paths import load_paths

    load_plugins(options.plugins)
    paths = load_paths(data_dir=options.data_dir, save_dir=options.save_dir)
    spec = TrackerSpec.from_options(options, plugins=[os.path.abspath(p) for p in options.plugins])
    place = open_workspace(options.workspace, options.benchmark)
    name = options.name or options.reference or spec.experiment.name
    found = find_sequences(place, options.sequences, paths)
    aside = write_tracker(place, name, spec, paths, options.timeout, options.region)
    listed = link_sequences(place, found)
    print(f"{listed.path}: {len(listed.names)} sequences, {listed.sequence_files} `sequence` files written")
    print(f"{place.folder / 'trackers.ini'}: tracker {name}")
    if aside:
        print(f"results of other weights, another configuration or --region: moved to {aside}")
    if options.native_results:
        print(f"results: linked to {link_results(place, name, spec, paths, options.runid)}")
    problems = [*listed.problems, *anchor_problems(place, listed.names)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    for lack in listed.lacking:
        print(f"warning: {lack}", file=sys.stderr)
    if missing := toolkit_problem():
        print(f"warning: {missing}", file=sys.stderr)
    vot_command = "vot" if shutil.which("vot") else shlex.quote(str(Path(sys.executable).with_name("vot")))
    steps = ("analysis",) if options.native_results else ("evaluate", "analysis")
    print(
        f"next: cd {shlex.quote(str(place.folder))} && " + " && ".join(f"{vot_command} {step} {name}" for step in steps)
    )
    return int(bool(problems))


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
