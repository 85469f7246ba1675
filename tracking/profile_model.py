"""Parameters, multiply-accumulates and speed of a tracker."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.config import add_experiment_options
from tracking._options import CommandParser, add_engine_options, at_least


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(
        description="Measure a tracker: parameters, multiply-accumulates (fused attention counted), the time of the "
        "network alone, of a tracker step, of a step with JPEG decoding, and throughput against batch size. "
        "Random weights are as good as trained ones for this."
    )
    parser.add_argument("--script", default="ostrack", help="method (default: ostrack)")
    parser.add_argument("--config", required=True, help="YAML file below experiments/<script>, without its ending")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="weights to load (default: random; with --ways those that tests take, if there are some)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps")
    parser.add_argument("--protocol", default="official", help="official (float32, TF32 off) or fast (half precision)")
    add_engine_options(parser)
    parser.add_argument(
        "--batch", type=at_least(1), nargs="+", default=[1, 2, 4, 8], help="batch sizes for the throughput"
    )
    parser.add_argument("--threads", dest="cpu_threads", type=at_least(0), help=argparse.SUPPRESS)
    parser.add_argument(
        "--frame", type=at_least(1), nargs=2, default=[1280, 720], metavar=("W", "H"), help="size of the frames"
    )
    parser.add_argument(
        "--ways", action="store_true", help="only the table of ways (engines, number formats): speed and agreement"
    )
    parser.add_argument("--aux", action="store_true", help="frames have a second picture, as for RGB-X trackers")
    parser.add_argument(
        "--repeats", type=at_least(1), default=100, help="measured calls per figure, at most (default: 100)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="time per figure, at most (default: 10)")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file too")
    add_experiment_options(parser)
    others = "--engine --protocol --device --aux --output --batch --frame --repeats"
    parser.no_effect(others, lambda o: o.ways, "with --ways, which times all engines and number formats on the CPU")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    import torch

    from lib.bench import (
        Effort,
        TrackerSpec,
        keep_ways,
        measure_ways,
        profile_text,
        profile_tracker,
        ways_here,
        ways_text,
    )
    from lib.files import require_writable, write_text
    from lib.models import CheckpointNotFoundError
    from lib.paths import load_paths

    if options.output:
        require_writable(options.output.parent)
    untrained = options.checkpoint is None and not options.ways
    spec = TrackerSpec.from_options(options, untrained=untrained, scores="raw")
    if options.ways:
        spec, paths = replace(spec, calibration="", device="cpu", engine="torch"), load_paths()
        try:
            spec = spec.resolve(paths)
        except CheckpointNotFoundError:
            if options.checkpoint is not None:
                raise
            spec = replace(spec, untrained=True).resolve(paths)
            print("no weights: random ones, whose boxes are not compared", flush=True)
        spec = replace(spec, calibration=options.calibration)
        timings = measure_ways(spec, ways_here(), 3 * options.seconds, _note, patience=9 * options.seconds)
        keep_ways(spec, timings)
        print(ways_text(timings))
        return
    spec = spec.resolve(load_paths())
    where = spec.execution(0)
    run_on = f"device {where.device}, {where.dtype_name} ({where.reason})"
    print(f"{options.script} {options.config}, {run_on}", flush=True)
    found = profile_tracker(
        spec.build(),
        torch.device(where.device),
        options.batch,
        tuple(options.frame),
        Effort(repeats=options.repeats, seconds=options.seconds),
        options.aux,
        note=_note,
        plain=spec.build_plain(),
    )
    print(profile_text(found))
    if options.output:
        write_text(options.output, json.dumps({"run": run_on, **found.plain()}, indent=1) + "\n")


def _note(text: str) -> None:
    print(f"  ... {text}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
