"""The commands `RGBT_workspace/test_rgbt_mgpus.py` and `RGBE_workspace/test_rgbe_mgpus.py`.

The arguments, result paths and formats are those of the published runners (ViPT, CVPR 2023; SDSTrack, CVPR 2024); the
tracking is that of `tracking/test.py`, and sequences that are finished are kept in the same way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.bench import EvalJob, ResultFolder, TrackerSpec, run_tests
from lib.bench.benchmarks import get_benchmark
from lib.command import run_command
from lib.config import add_experiment_options
from lib.data import Degradation
from lib.files import write_text
from lib.methods import load_plugins
from lib.paths import load_paths
from lib.registry import suggest
from tracking._options import ONE_DEVICE, CommandParser, add_degradation_options, add_machine_options, at_least


@dataclass(frozen=True)
class RgbxWorkspace:
    """Names and defaults of a published workspace.

    Attributes:
        title: Modality, for the help.
        datasets: --dataset_name -> benchmark.
        config: Default of --yaml_name.
        fps_file: File of speeds, written into the result folder by sequential mode.
    """

    title: str
    datasets: Mapping[str, str]
    config: str
    fps_file: str

    def dataset(self, name: str) -> str:
        """Find the published spelling of a --dataset_name.

        Args:
            name: In any case.

        Raises:
            ValueError: It is unknown; the message has the nearest name.
        """
        known = {n.lower(): n for n in self.datasets}
        if name.lower() not in known:
            wanted = suggest(name, list(self.datasets))
            raise ValueError(f"--dataset_name {name!r}{wanted} (known: {', '.join(self.datasets)})")
        return known[name.lower()]


RGBT = RgbxWorkspace(
    "RGB-T",
    {
        "LasHeR": "lasher",
        "RGBT234": "rgbt234",
        "RGBT210": "rgbt210",
        "GTOT": "gtot",
        "VTUAVST": "vtuav",
        "VTUAVLT": "vtuav_lt",
    },
    "cvpr2024_rgbt",
    "fps_rgbt.txt",
)
RGBE = RgbxWorkspace("RGB-E", {"VisEvent": "visevent"}, "cvpr2024_rgbe", "fps_rgbe.txt")


def parse(workspace: RgbxWorkspace, folder: Path, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the published arguments, and those that replace edits in the published scripts.

    Args:
        workspace: Names and defaults.
        folder: The workspace, where results go.
        argv: Command line; None for that of the process.
    """
    first = next(iter(workspace.datasets))
    parser = CommandParser(
        description=f"Track a {workspace.title} benchmark; results go to {folder.name}/results/DATASET/YAML/SEQ.txt."
    )
    add = parser.add_argument
    add("--script_name", default="sdstrack", help="method: a folder of experiments/ (default: sdstrack)")
    add("--yaml_name", default=workspace.config, help=f"its YAML file (default: {workspace.config})")
    add("--dataset_name", default=first, help=f"{', '.join(workspace.datasets)} (default: {first})")
    add("--epoch", type=at_least(1), help="the checkpoint's epoch (default: TEST.EPOCH of the YAML file)")
    add("--mode", default="parallel", choices=["parallel", "sequential"], help="sequential: one process, file of fps")
    add("--debug", type=int, default=0, help="1: one process, the first failure in full")
    add("--video", default="", help="only this sequence")
    add("--root", type=Path, help="folder of the data set (default: local.yaml)")
    add("--checkpoint", "--ckpt_name", metavar="FILE", help="weights, also in the checkpoint folder, or 'latest'")
    add("--untrained", action="store_true", help="random weights")
    add("--rerun", action="store_true", help="track finished sequences again")
    add("--output", type=Path, default=folder / "results", help="where results go (default: results/ in the workspace)")
    add_machine_options(parser, threads=4)
    add_experiment_options(parser)
    add_degradation_options(parser.add_argument_group("worse frames: results get a folder of their own"))
    alone = "with --mode sequential and --debug, which track a sequence at a time in this process"
    parser.no_effect("--threads --batch", lambda o: o.debug or o.mode == "sequential", alone, warn=True)
    parser.no_effect(*ONE_DEVICE, warn=True)
    parser.no_effect("--data_dir", lambda o: o.root, "with --root, the folder of the data set itself", warn=True)
    return parser.parse_args(argv)


def make_job(workspace: RgbxWorkspace, options: argparse.Namespace) -> EvalJob:
    """Make the evaluation of a command line.

    Args:
        workspace: Names and defaults.
        options: What `parse` returned.

    Raises:
        ValueError: The data set is unknown; also what `TrackerSpec.resolve` raises.
    """
    load_plugins(options.plugins)
    dataset = workspace.dataset(options.dataset_name)
    benchmark = get_benchmark(workspace.datasets[dataset])
    root = {} if options.root is None else {benchmark.spec.key: options.root}
    paths = load_paths(root, data_dir=options.data_dir, save_dir=options.save_dir)
    epoch = () if options.epoch is None else (f"TEST.EPOCH={options.epoch}",)
    names = {"script": options.script_name, "config": options.yaml_name}
    spec = TrackerSpec.from_options(options, **names, overrides=(*options.overrides, *epoch)).resolve(
        paths, benchmark.name
    )
    parallel = options.mode == "parallel" and not options.debug
    return EvalJob(
        spec,
        benchmark,
        paths,
        processes=options.threads if parallel else 0,
        batch=options.batch if parallel else 1,
        names=(options.video,) if options.video else (),
        skip_missing=True,  # as published: the sequences that are there; the scores say how many of how many
        rerun=options.rerun,
        debug=bool(options.debug),
        degradation=Degradation.parse(
            options.drop, options.drop_rate, options.drop_fill, options.corrupt, options.degradation_seed
        ),
        root=options.output / dataset / spec.labels[1],
    )


def write_speeds(results: ResultFolder, file: str) -> Path:
    """Write `<seq>: <fps>` lines and `ave:<fps>`, from the frames after the first of each sequence.

    Args:
        results: Result folder.
        file: Name of the file in it.

    Returns:
        Path of the file.
    """
    rates: dict[str, float] = {}
    for path in sorted(results.path.glob("*_time.txt")):
        name = path.stem.removesuffix("_time")
        seconds = results.seconds(name)[1:]
        if seconds.sum() > 0:
            rates[name] = len(seconds) / float(seconds.sum())
    lines = [f"{name}: {rate:.2f}" for name, rate in rates.items()]
    average = sum(rates.values()) / len(rates) if rates else 0.0
    write_text(results.path / file, "\n".join([*lines, f"ave:{average:.2f}"]) + "\n")
    return results.path / file


def main(workspace: RgbxWorkspace, script: Path, argv: Sequence[str] | None = None) -> int:
    """The command of a workspace.

    Args:
        workspace: Its names and defaults.
        script: The script in the workspace's folder.
        argv: Command line; None for that of the process.

    Returns:
        Exit code, as of tracking/test.py.
    """
    options = parse(workspace, script.resolve().parent, argv)

    def run() -> int:
        job = make_job(workspace, options)
        code = run_tests([job], script, sys.argv[1:] if argv is None else argv)
        if options.mode == "sequential":
            print(f"fps: {write_speeds(job.folder, workspace.fps_file)}")
        return code

    return run_command(run, debug=bool(options.debug), interrupted="stopped; the same command continues")
