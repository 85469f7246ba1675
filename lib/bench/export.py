"""A tracker's two graphs in a folder, for programs without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lib.bench.results import versions
from lib.bench.spec import TrackerSpec
from lib.deploy import EngineError, export, get_engine
from lib.files import write_text

FORMAT = 1


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
        raise EngineError(f"{folder} is there and not empty; name another folder with --output, or remove it")
    tracker = spec.build_plain(0)
    _, found = export(tracker, folder, spec.inference(tracker), engine.runtime)
    details = spec.details()
    values = {
        "format": FORMAT,
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
    write_text(folder / "graphs.json", json.dumps(values, indent=1) + "\n")
    return values


def export_text(folder: Path, values: dict[str, Any]) -> str:
    """Summary of an export for a terminal.

    Args:
        folder: Where the graphs were written.
        values: Content of `graphs.json`, which `export_tracker` returned.
    """
    lines = []
    for name, graph in values["graphs"].items():
        files = folder.glob(f"{Path(graph['file']).stem}.*")  # the graph and its weight files
        size = sum(f.stat().st_size for f in files) / 2**20
        lines.append(f"{folder / graph['file']}: {size:.1f} MiB, once per {name}")
        for way in ("inputs", "outputs"):
            for tensor, about in graph[way].items():
                shape = " x ".join(str(n) for n in about["shape"])
                lines.append(f"  {way[:-1]:<7} {tensor:<18} {shape} {about['dtype']}")
    worst = max(values["parity"].values())
    lines.append(f"compared with PyTorch: mean deviation of outputs at most {worst:.1e} of their range")
    lines.append(f"description: {folder / 'graphs.json'}")
    return "\n".join(lines)
