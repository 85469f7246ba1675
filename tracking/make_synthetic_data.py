"""Write synthetic benchmarks to disk, in the layouts of published data sets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.cores import available_cores
from tracking._options import CommandParser, at_least
from tracking._progress import show_progress

if TYPE_CHECKING:
    from synthetic import Job


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    from synthetic import ATTRIBUTES, WRITERS

    parser = CommandParser(
        description=__doc__,
        epilog="attributes:\n" + "\n".join(f"  {name:4s} {a.meaning}" for name, a in ATTRIBUTES.items())
        + "\n\nexamples:\n  python tracking/make_synthetic_data.py --output data/synthetic/train --seed 1"
        + "\n  python tracking/make_synthetic_data.py --layout lasot got10k lasher --data_dir data --sequences 8",
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--layout",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(WRITERS)}; 'synthetic' (the default) is LaSOT's with names of its own. Several layouts "
        "show the same worlds, as their sensors see them",
    )
    add("--modality", choices=["rgb", "rgbt", "rgbd", "rgbe"], default="rgb", help="without --layout: picks the layout")
    add("--output", type=Path, help="folder that local.yaml points to for that data set")
    add("--data_dir", type=Path, help="instead of --output: parent of all data sets, each at its usual place below")
    add("--split", choices=["train", "val", "test"], default="train", help="parts of one seed share no sequence")
    add("--sequences", type=at_least(1), default=60, help="how many (default 60)")
    add("--frames", type=at_least(1), default=60, help="frames of each (default 60)")
    add("--seed", type=int, default=0, help="the same seed gives the same files (default 0)")
    add("--width", type=at_least(1), default=320, help="of a frame, in pixels (default 320)")
    add("--height", type=at_least(1), default=240, help="of a frame, in pixels (default 240)")
    add("--difficulty", type=float, default=0.5, help="0 (slow, clear) to 1 (default 0.5)")
    add("--distractors", type=at_least(0), help="other moving objects; drawn at random if not given")
    add(
        "--attributes",
        nargs="+",
        metavar="TAG",
        help="what must happen in every sequence; drawn at random if not given",
    )
    add(
        "--pictures",
        default="",
        metavar="FOLDER",
        help="made by scripts/collect_pictures.py; scenes and objects of them",
    )
    add(
        "--lifelike",
        action="store_true",
        help="hand-held cameras, blur, exposure, compression, tall targets, crossings",
    )
    add("--names", type=Path, help="file with one sequence name per line, instead of the data set's own")
    add("--workers", type=at_least(1), default=available_cores(), help="processes (default: all cores)")
    add(
        "--preview",
        type=Path,
        metavar="PICTURE",
        help="also write a contact sheet with true boxes (alone without --output)",
    )
    parser.no_effect("--modality", lambda o: o.layout, "with --layout, which says it")
    alone = "where nothing but --preview is written"
    parser.no_effect("--workers", lambda o: o.output is None and o.data_dir is None and o.preview, alone)
    args = parser.parse_args(argv)
    if args.output is not None and args.data_dir is not None:
        parser.error("give --output or --data_dir, not both")
    if args.output is None and args.data_dir is None and args.preview is None:
        parser.error("give --output FOLDER, --data_dir FOLDER or --preview PICTURE")
    if args.layout is None:
        args.layout = [{"rgb": "synthetic", "rgbt": "lasher", "rgbd": "depthtrack", "rgbe": "visevent"}[args.modality]]
    if len(args.layout) > 1 and (args.data_dir is None or args.preview or args.names):
        parser.error("several layouts go to --data_dir, without --output, --preview and --names")
    return args


def jobs_of(args: argparse.Namespace) -> list[Job]:
    from synthetic import Job, WorldConfig, usual_place

    tags = tuple(args.attributes) if args.attributes is not None else None
    config = WorldConfig(
        args.width, args.height, args.frames, args.difficulty, args.distractors, tags,
        pictures=args.pictures, lifelike=args.lifelike,
    )  # fmt: skip
    names = tuple(filter(None, args.names.read_text(encoding="utf-8-sig").splitlines())) if args.names else None
    roots = [usual_place(n, args.split, args.data_dir) if args.data_dir else args.output or Path() for n in args.layout]
    return [
        Job(layout, root, args.sequences, args.seed, args.split, config, names)
        for layout, root in zip(args.layout, roots, strict=True)
    ]


def write(job: Job, workers: int) -> None:
    from synthetic import write_benchmark

    fresh = 0
    with show_progress(f"{job.layout} {job.split}", job.sequences, "sequences") as meter:

        def show(done: int, written: int) -> None:
            nonlocal fresh
            fresh = written
            meter.update(done - meter.n)

        write_benchmark(job, workers, show)
    there = job.sequences - fresh
    print(f"{job.root}: {fresh} sequences written" + (f", {there} were there already" if there else ""))


def run(args: argparse.Namespace) -> None:
    from synthetic import contact_sheet, dataset_of, save_sheet

    jobs = jobs_of(args)
    if args.preview:
        save_sheet(contact_sheet(dataset_of(jobs[0])), args.preview)
        print(f"contact sheet: {args.preview}")
    if args.output is not None or args.data_dir is not None:
        for job in jobs:
            write(job, args.workers)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
