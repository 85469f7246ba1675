"""Write one commented `local.yaml`: the folders of data, weights and results on this machine."""

import argparse
import sys
from pathlib import Path

import _bootstrap  # noqa: F401
import yaml

from lib.catalogue import CATALOGUE
from lib.command import run_command
from lib.files import user_path, write_text
from lib.paths import GENERAL_KEYS, local_yaml_path
from tracking._options import CommandParser

HEAD = """\
# Folders of this machine, read by every command. Not part of the repository.
# Relative paths start at the folder of this file; ~ and $VARIABLES are replaced.
# The environment (TRACKING_DATA_DIR, TRACKING_LASOT_DIR, ...) outranks this file, the command line outranks both.

"""
DATASETS = """
# Data sets. Remove the # and write the folder if one lies elsewhere; the value shown is the default.
"""


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
    if path.exists() and not options.force:
        raise FileExistsError(f"{path} exists; edit it, or give --force to overwrite it")
    write_text(path, default_local_yaml(workspace, data_dir, save_dir))
    print(f"wrote {path}: data in {Path(data_dir).resolve()}, results in {Path(save_dir).resolve()}")
    print("edit it where a data set lies elsewhere; `python tracking/check_data.py` lists what is found")


def default_local_yaml(workspace_dir: str | Path, data_dir: str | Path, save_dir: str | Path) -> str:
    """The text of a new ``local.yaml``: general folders are set, every data set is a comment with default and layout.

    Args:
        workspace_dir: The checkout; relative folders start at the working directory.
        data_dir: Parent of the data set folders.
        save_dir: Checkpoints, logs and results.
    """
    workspace, data, save = (user_path(p).resolve() for p in (workspace_dir, data_dir, save_dir))
    values = (workspace, data, save, workspace / "pretrained", data / "pseudo_labels")

    def quoted(path: Path) -> str:
        """The path as YAML, quoted only if it must be."""
        return yaml.safe_dump(str(path), width=10**6, allow_unicode=True).removesuffix("\n...\n").rstrip("\n")

    lines = [f"{key}: {quoted(v)}  # {text}\n" for (key, text), v in zip(GENERAL_KEYS.items(), values, strict=True)]
    lines.append(DATASETS)
    for spec in CATALOGUE.values():
        lines.append(f"\n# {spec.description}: {spec.layout}\n# {spec.key}: {quoted(data / spec.folders[0])}\n")
    return HEAD + "".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
