"""Graphs of a tracker for other runtimes, in a folder with their description."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lib.bench.results import versions
from lib.bench.spec import TrackerSpec
from lib.deploy import GRAPHS_FILE, EngineError, export, get_engine
from lib.files import write_text

GRAPHS_FORMAT = 1
"""Of the description."""


def export_tracker(spec: TrackerSpec, folder: Path) -> dict[str, Any]:
    """Write the graphs of a tracker for its engine, compare them with PyTorch, and describe them in JSON.

    Args:
        spec: The tracker, with an engine other than PyTorch.
        folder: Where to write; it must be empty or absent.

    Returns:
        Content of `graphs.json`.

    Raises:
        EngineError: The engine is not installed or disagrees with PyTorch, or the folder is not empty.
    """
    engine = get_engine(spec.engine)
    if engine is None:
        raise EngineError(f"{spec.engine} needs no export")
    engine.require()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "is there and not empty" if folder.is_dir() else "is a file"
        raise EngineError(f"{folder} {kind}; name another folder with --output, or remove it")
    tracker = spec.build_plain(0)
    try:
        _, found = export(tracker, folder, spec.inference(tracker), engine.runtime)
    except BaseException:  # Ctrl-C too: half an export would stand in the way of the same command
        shutil.rmtree(folder, ignore_errors=True)
        raise
    details = spec.details()
    values = {
        "format": GRAPHS_FORMAT,
        "method": details["method"],
        "script": spec.script,
        "config": spec.experiment.name,
        "config_hash": details["config_hash"],
        "weights": details["weights"],
        **found,
        "pixels": "uint8 RGB, channels first, 0..255; the graphs normalise",
        "identity": spec.identity().plain(),
        "versions": versions(),
    }
    write_text(folder / GRAPHS_FILE, json.dumps(values, indent=1) + "\n")
    return values
