"""Write one commented `local.yaml`: the folders of data, weights and results on this machine."""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from lib.paths import local_yaml_path
from tracking._local_yaml import default_local_yaml, write_local_yaml
from tracking._options import CommandParser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--workspace_dir", default=".", help="the checkout (default: here)")
    parser.add_argument("--data_dir", help="parent of the data set folders (default: WORKSPACE/data)")
    parser.add_argument("--save_dir", help="checkpoints, logs and results (default: WORKSPACE/output)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    workspace = Path(options.workspace_dir)
    if not workspace.is_dir():
        raise FileNotFoundError(f"--workspace_dir {workspace}: no such folder; it holds pretrained/, data/ and output/")
    data_dir, save_dir = options.data_dir or workspace / "data", options.save_dir or workspace / "output"
    path = local_yaml_path()
    write_local_yaml(path, default_local_yaml(workspace, data_dir, save_dir), options.force)
    print(f"wrote {path}: data in {Path(data_dir).resolve()}, results in {Path(save_dir).resolve()}")
    print("edit it where a data set lies elsewhere; `python tracking/check_data.py` lists what is found")


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
