"""The text of a new `local.yaml`."""

from __future__ import annotations

from pathlib import Path

import yaml

from lib.catalogue import CATALOGUE
from lib.files import write_text
from lib.paths import GENERAL_KEYS

HEAD = """\
# Folders of this machine, read by every command. Not part of the repository.
# Relative paths start at the folder of this file; ~ and $VARIABLES are replaced.
# The environment (TRACKING_DATA_DIR, TRACKING_LASOT_DIR, ...) outranks this file, the command line outranks both.

"""
DATASETS = """
# Data sets. Remove the # and write the folder if one lies elsewhere; the value shown is the default.
"""


def default_local_yaml(workspace_dir: str | Path, data_dir: str | Path, save_dir: str | Path) -> str:
    """The text of a new ``local.yaml``: general folders are set, every data set is a comment with default and layout.

    Args:
        workspace_dir: The checkout; relative folders start at the working directory.
        data_dir: Parent of the data set folders.
        save_dir: Checkpoints, logs and results.
    """
    workspace, data, save = (Path(p).expanduser().resolve() for p in (workspace_dir, data_dir, save_dir))
    values = (workspace, data, save, workspace / "pretrained", data / "pseudo_labels")

    def quoted(path: Path) -> str:
        """The path as YAML, quoted only if it must be."""
        return yaml.safe_dump(str(path), width=10**6, allow_unicode=True).removesuffix("\n...\n").rstrip("\n")

    lines = [f"{key}: {quoted(v)}  # {text}\n" for (key, text), v in zip(GENERAL_KEYS.items(), values, strict=True)]
    lines.append(DATASETS)
    for spec in CATALOGUE.values():
        lines.append(f"\n# {spec.description}: {spec.layout}\n# {spec.key}: {quoted(data / spec.folders[0])}\n")
    return HEAD + "".join(lines)


def write_local_yaml(path: Path, text: str, force: bool = False) -> None:
    """Write the settings file in one step.

    Args:
        path: The file.
        text: Its content, see `default_local_yaml`.
        force: Replace an existing file.

    Raises:
        FileExistsError: The file exists, and `force` is False.
    """
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; edit it, or give --force to overwrite it")
    write_text(path, text)
