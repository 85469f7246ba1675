"""Convert a published checkpoint to safetensors, and print the content of the file."""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.models import WeightsError, read_checkpoint, save_release

SUFFIXES = (".pth.tar", ".pth", ".pt", ".tar", ".ckpt")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Read a checkpoint (.pth.tar, .pth, .pt) without running code from it and write FILE.safetensors "
        "with FILE.json next to it. The weights keep their names and values; optimizer state is not carried over."
    )
    parser.add_argument("file", type=Path, help="the published checkpoint")
    parser.add_argument("--output", type=Path, help="where to write, without suffix (default: next to the file)")
    parser.add_argument("--key", help="the entry that holds the weights (default: net, model, state_dict or network)")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    name = options.file.name
    suffix = next((s for s in SUFFIXES if name.endswith(s)), options.file.suffix)
    stem = options.output or options.file.with_name(name.removesuffix(suffix))
    if stem.with_name(f"{stem.name}.safetensors").resolve() == options.file.resolve():
        raise WeightsError(f"{options.file}: this is safetensors already; name another place with --output")
    found = read_checkpoint(options.file, options.key)
    plain = {k: v for k, v in found.metadata.items() if isinstance(v, bool | int | float | str)}
    origin = {"converted_from": options.file.name, "converted_from_sha256": found.sha256, "entry": found.key}
    written = save_release(stem, found.state_dict, {**plain, **origin})
    print(found.describe())
    print(f"written: {written} ({found.parameters:,} numbers)")


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
