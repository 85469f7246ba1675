"""Make boxes for videos that nobody annotated, from what moves in them, so that any method can be trained on them.

Nothing but the pictures is read; where a data set has annotations, the overlap of the boxes with them is printed.
The same command continues an interrupted run. Train from the labels with DATASETS_NAME: [LASHER_pseudo].
"""

import argparse
import shlex
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.cores import available_cores
from lib.data import LabelJob, LabelReport, LabelSettings, make_labels
from lib.data.datasets import open_videos
from lib.paths import load_paths
from tracking._options import CommandParser, at_least
from tracking._progress import show_progress


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("--dataset", required=True, help="name in DATASETS_NAME, such as LASHER, LASOT, TRACKINGNET:0-3, FOLDER:path")
    add("--data_dir", type=Path, help="parent of the data set folders (default: local.yaml)")
    add(
        "--output",
        type=Path,
        help="parent of the labels' folders (default: pseudo_labels_dir of local.yaml, where training looks for them)",
    )
    add("--use_lmdb", type=int, choices=[0, 1], default=0, help="read the pictures from the LMDB copy")
    add(
        "--flow",
        type=Path,
        metavar="FOLDER",
        help="flow files <video>/<picture>.flo or .npy, of every third frame (default: computed by OpenCV)",
    )
    add("--gap", type=at_least(1), default=3, help="every how many frames the flow is evaluated (default: 3)")
    add(
        "--linear",
        action="store_true",
        help="interpolate in the order of time; the published procedure has the weights of both ends exchanged",
    )
    add(
        "--seed",
        type=at_least(0),
        default=0,
        help="of the moves of boxes outside the first and last found one (default: 0)",
    )
    add("--workers", type=at_least(1), default=available_cores(), help="processes (default: all cores)")
    add("--restart", action="store_true", help="make the labels of these videos again")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    paths = load_paths(data_dir=args.data_dir)
    videos = open_videos(args.dataset, paths, bool(args.use_lmdb))
    folder = (args.output or paths.pseudo_labels) / videos.name
    settings = LabelSettings(gap=args.gap, linear=args.linear)
    job = LabelJob(videos, folder, settings, args.flow and args.flow.resolve(), args.seed)
    with show_progress(args.dataset, len(videos), "videos") as meter:
        report = make_labels(job, args.workers, restart=args.restart, progress=meter.update)
    code = show(report, folder, args.dataset)
    if report.file is not None and folder.parent.resolve() != paths.pseudo_labels.resolve():
        print(f"training finds them with TRACKING_PSEUDO_LABELS_DIR={shlex.quote(str(folder.parent.resolve()))}")
    return code


def show(report: LabelReport, folder: Path, name: str) -> int:
    """Print the result of a run.

    Args:
        report: The result.
        folder: Of the labels.
        name: Of the data set.

    Returns:
        Exit code.
    """
    there = report.videos - report.made - len(report.failed)
    print(f"{name}: {report.videos} videos, {report.made} labelled now, {there} were there; {report.kept} kept")
    for reason, count in report.left_out.items():
        print(f"  {count} left out: {reason}")
    if report.overlaps:
        iou, good = (sum(values) / len(report.overlaps) for values in zip(*report.overlaps, strict=True))
        given = f"overlap with annotations ({len(report.overlaps)} videos)"
        print(f"{given}: mean IoU {iou:.3f}, {good:.1%} of frames above 0.5")
    for line in report.failed:
        print(f"  not labelled: {line}", file=sys.stderr)
    if report.file is None:
        print(f"no video in {folder} is good enough to learn from; nothing was written", file=sys.stderr)
        return 1
    others = f" (and {report.others} other videos)" if report.others else ""
    base, colon, part = name.partition(":")
    print(f"{report.file}{others}; train from it with DATASETS_NAME: ['{base}_pseudo{colon}{part}']")
    return int(bool(report.failed))


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 0: done; 1: a video could not be read, or no label is good enough; 2: an error."""
    args = parse(argv)
    return run_command(lambda: run(args), interrupted="interrupted; give the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
