"""The text of a fresh ``local.yaml``: general folders set, every data set as a comment with its default and layout."""

from __future__ import annotations

from pathlib import Path

import yaml

from lib.files import write_text
from lib.layouts import LAYOUTS

_HEAD = """\
# Folders of this machine, read by every command. Not part of the repository.
# Relative paths start at the folder of this file; ~ and $VARIABLES are replaced.
# The environment (TRACKING_DATA_DIR, TRACKING_LASOT_DIR, ...) outranks this file, the command line outranks both.

"""
_GENERAL = (
    ("workspace_dir", "the checkout"),
    ("data_dir", "parent of every data set folder that is not set below"),
    ("save_dir", "checkpoints, logs and results"),
    ("pretrained_dir", "weight files to start from"),
)
_SETS = """
# Data sets. Remove the # and write the folder where one lies elsewhere; what stands there is the default.
"""


def default_local_yaml(workspace_dir: str | Path, data_dir: str | Path, save_dir: str | Path) -> str:
    """A commented ``local.yaml`` with absolute folders; relative arguments start at the working directory."""
    workspace, data, save = (Path(p).expanduser().resolve() for p in (workspace_dir, data_dir, save_dir))
    values = {
        "workspace_dir": workspace,
        "data_dir": data,
        "save_dir": save,
        "pretrained_dir": workspace / "pretrained",
    }
    lines = [f"{key}: {_quoted(values[key])}  # {meaning}\n" for key, meaning in _GENERAL]
    for layout in LAYOUTS.values():
        lines.append(f"\n# {layout.purpose}: {layout.tree}\n# {layout.key}: {_quoted(data / layout.folders[0])}\n")
    return _HEAD + "".join(lines[: len(_GENERAL)]) + _SETS + "".join(lines[len(_GENERAL) :])


def write_local_yaml(path: Path, text: str, force: bool = False) -> None:
    """Write the file in one piece; an existing one raises `FileExistsError` unless `force`."""
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; edit it, or give --force to write it anew")
    write_text(path, text)


def _quoted(path: Path) -> str:
    """The path as YAML, quoted only where it must be."""
    return yaml.safe_dump(str(path), width=10**6, allow_unicode=True).removesuffix("\n...\n").rstrip("\n")
