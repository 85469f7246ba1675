"""Convert a published checkpoint to safetensors, or ours to one that the official code reads or to a small one."""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import _bootstrap  # noqa: F401
import torch

from lib.command import run_command
from lib.files import write_bytes
from lib.methods import load_experiment
from lib.models import Checkpoint, WeightsError, difference, read_checkpoint, save_release
from tracking._options import CommandParser

PUBLISHED_ENDINGS = (".pth.tar", ".pth", ".pt")
ENDINGS = (*PUBLISHED_ENDINGS, ".tar", ".ckpt", ".safetensors", ".npz", ".bin")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(
        description="Read a checkpoint (.pth.tar, .pth, .pt) without running code from it and write FILE.safetensors "
        "with FILE.json next to it. The weights keep their names and values; optimizer state is not carried over."
    )
    parser.add_argument("file", type=Path, help="the published checkpoint")
    parser.add_argument("--output", type=Path, help="where to write (default: next to the file)")
    parser.add_argument("--key", help="the entry that holds the weights (default: net, model, state_dict or network)")
    parser.add_argument(
        "--published",
        nargs=2,
        metavar=("SCRIPT", "CONFIG"),
        help="the other way: write FILE.pth with the weights of this experiment under their published names",
    )
    parser.add_argument(
        "--like", type=Path, help="with --published: a published file for names that no network here has"
    )
    parser.add_argument(
        "--base", type=Path, help="release that frozen weights came from: only what differs from it is written"
    )
    parser.no_effect("--like", lambda o: not o.published, "without --published")
    parser.no_effect("--base", lambda o: o.published, "with --published, which writes all weights")
    return parser.parse_args(argv)


def without_ending(path: Path) -> Path:
    """The path without the ending of a file of weights."""
    ending = next((e for e in ENDINGS if path.name.endswith(e)), "")
    return path.with_name(path.name.removesuffix(ending))


def publish(options: argparse.Namespace, found: Checkpoint) -> None:
    """Write a file that the official code reads: weights under `net` and their published names."""
    script, config = options.published
    map_published = load_experiment(script, config).method.map_published
    state = found.state_dict if map_published is None else map_published(found.state_dict)
    if options.like is not None:
        like = read_checkpoint(options.like).state_dict
        if strange := sorted(state.keys() - like.keys()):
            raise WeightsError(
                f"{options.file}: {strange[0]} is no name of {options.like}, so it is of another network"
            )
        state = {**like, **state}
    stem, output = without_ending(options.output or options.file), options.output
    named = output is not None and output.name.endswith(PUBLISHED_ENDINGS)
    target = output if named else stem.with_name(f"{stem.name}.pth")
    if target.resolve() in {p.resolve() for p in (options.file, options.like) if p is not None}:
        raise WeightsError(f"{target}: this would overwrite what was read; name another place with --output")
    buffer = io.BytesIO()
    torch.save({"net": state, **{k: v for k, v in found.metadata.items() if k == "epoch"}}, buffer)
    write_bytes(target, buffer.getvalue())
    print(found.describe())
    print(f"written: {target} ({len(state)} tensors)")


def run(options: argparse.Namespace) -> None:
    if options.published is not None:
        publish(options, read_checkpoint(options.file, options.key))
        return
    stem = without_ending(options.output or options.file)
    if stem.with_name(f"{stem.name}.safetensors").resolve() == options.file.resolve():
        raise WeightsError(f"{options.file}: this is safetensors already; name another place with --output")
    found = read_checkpoint(options.file, options.key)
    plain = {k: v for k, v in found.metadata.items() if isinstance(v, bool | int | float | str)}
    origin = {"converted_from": options.file.name, "converted_from_sha256": found.sha256, "entry": found.key}
    state, base = found.state_dict, dict[str, Any]()
    if options.base is not None:
        target = stem.with_name(f"{stem.name}.safetensors").resolve()
        if target == options.base.resolve() or target.parent != options.base.resolve().parent:
            raise WeightsError(
                f"{target}: a small release has to lie next to {options.base}, under another name; see --output"
            )
        state, base = difference(found, read_checkpoint(options.base))
    written = save_release(stem, state, {**plain, **origin, **base})
    print(found.describe())
    print(f"written: {written} ({sum(t.numel() for t in state.values() if t.is_floating_point()):,} numbers)")


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
