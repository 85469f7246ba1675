"""What `RGBT_workspace/test_rgbt_mgpus.py` and `RGBE_workspace/test_rgbe_mgpus.py` do.

The arguments, result paths and formats are those of the published runners (ViPT, CVPR 2023; SDSTrack, CVPR 2024); the
tracking is that of `tracking/test.py`, and sequences that are finished are kept in the same way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lib.bench.benchmarks import get_benchmark
from lib.bench.evaluation import Evaluation
from lib.bench.results import ResultFolder
from lib.bench.testing import TrackerChoice, run_test
from lib.config import add_degradation_options, add_experiment_options, add_machine_options
from lib.data import Degradation
from lib.files import write_text
from lib.paths import load_paths
from lib.registry import suggest


@dataclass(frozen=True)
class Workspace:
    """datasets: --dataset_name -> benchmark; fps_file: written beside the results by sequential mode."""

    title: str
    datasets: Mapping[str, str]
    config: str
    fps_file: str

    def dataset(self, name: str) -> str:
        """The published spelling of a --dataset_name; ValueError with the nearest one."""
        known = {n.lower(): n for n in self.datasets}
        if name.lower() not in known:
            wanted = suggest(name, list(self.datasets))
            raise ValueError(f"--dataset_name {name!r}{wanted} (known: {', '.join(self.datasets)})")
        return known[name.lower()]


RGBT = Workspace(
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
RGBE = Workspace("RGB-E", {"VisEvent": "visevent"}, "cvpr2024_rgbe", "fps_rgbe.txt")


def parse(workspace: Workspace, folder: Path, argv: Sequence[str] | None) -> argparse.Namespace:
    """The published arguments, and those that replace edits in the published scripts."""
    first = next(iter(workspace.datasets))
    parser = argparse.ArgumentParser(
        description=f"Track a {workspace.title} benchmark; results go to {folder.name}/results/DATASET/YAML/SEQ.txt."
    )
    add = parser.add_argument
    add("--script_name", default="sdstrack", help="method: a folder of experiments/ (default: sdstrack)")
    add("--yaml_name", default=workspace.config, help=f"its YAML file (default: {workspace.config})")
    add("--dataset_name", default=first, help=f"{', '.join(workspace.datasets)} (default: {first})")
    add("--epoch", type=int, help="the checkpoint's epoch (default: TEST.EPOCH of the YAML file)")
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
    return parser.parse_args(argv)


def make_job(workspace: Workspace, options: argparse.Namespace) -> Evaluation:
    """The evaluation that the options ask for. Raises what `TrackerChoice.factory` raises, and ValueError."""
    dataset = workspace.dataset(options.dataset_name)
    benchmark = get_benchmark(workspace.datasets[dataset])
    root = {} if options.root is None else {benchmark.root: options.root}
    paths = load_paths(root, data_dir=options.data_dir, save_dir=options.save_dir)
    epoch = () if options.epoch is None else (f"TEST.EPOCH={options.epoch}",)
    choice = TrackerChoice(
        script=options.script_name,
        config=options.yaml_name,
        checkpoint=options.checkpoint,
        untrained=options.untrained,
        device=options.device,
        num_gpus=options.num_gpus,
        overrides=(*options.overrides, *epoch),
        plugins=tuple(options.plugins),
    )
    factory = choice.factory(paths, benchmark.name)
    parallel = options.mode == "parallel" and not options.debug
    return Evaluation(
        factory,
        benchmark,
        paths,
        workers=options.threads if parallel else 0,
        batch=options.batch if parallel else 1,
        names=(options.video,) if options.video else (),
        skip_missing=True,  # as published: the sequences that are there; the scores say how many of how many
        rerun=options.rerun,
        debug=bool(options.debug),
        degradation=Degradation.parse(
            options.drop, options.drop_rate, options.drop_fill, options.corrupt, options.degradation_seed
        ),
        root=options.output / dataset / factory.labels[1],
    )


def write_speeds(results: ResultFolder, file: str) -> Path:
    """`<seq>: <fps>` lines and `ave:<fps>`: frames after the first, by the seconds they were tracked in."""
    times = {path.stem.removesuffix("_time"): path for path in sorted(results.path.glob("*_time.txt"))}
    rates: dict[str, float] = {}
    for name in times:
        seconds = results.seconds(name)[1:]
        if seconds.sum() > 0:
            rates[name] = len(seconds) / float(seconds.sum())
    lines = [f"{name}: {rate:.2f}" for name, rate in rates.items()]
    average = sum(rates.values()) / len(rates) if rates else 0.0
    write_text(results.path / file, "\n".join([*lines, f"ave:{average:.2f}"]) + "\n")
    return results.path / file


def main(workspace: Workspace, script: Path, argv: Sequence[str] | None = None) -> int:
    """The command of a workspace; `script` lies in the workspace's folder. Exit codes are those of tracking/test.py."""
    options = parse(workspace, script.resolve().parent, argv)
    console = Console()
    try:
        job = make_job(workspace, options)
        code = run_test(job, console)
        if options.mode == "sequential":
            console.print(f"fps: {write_speeds(job.folder, workspace.fps_file)}", highlight=False, soft_wrap=True)
        return code
    except KeyboardInterrupt:
        console.print("\nstopped; the same command continues")
        return 130
    except (ValueError, OSError, RuntimeError, LookupError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
