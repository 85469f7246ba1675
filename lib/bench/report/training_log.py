"""Training curves out of the JSONL log that a training writes (`logs/<script>-<config>.jsonl`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.viz import Line

FEW = 3
TRAINING_ONLY = {"lr": "Learning rate", "grad_norm": "Gradient norm"}
MOST = 9


def read_log(path: Path) -> list[dict[str, Any]]:
    """The log's records in order. A last line that was cut off by a kill is ignored; any other bad line is an error."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    records = []
    for i, line in enumerate(lines):
        try:
            records.append(json.loads(line))
        except ValueError:
            if i == len(lines) - 1:
                break
            raise ValueError(f"{path}: line {i + 1} is not JSON") from None
    return records


def training_lines(path: Path) -> tuple[dict[str, list[Line]], str]:
    """Panels of curves by quantity, one line per loader ("train", "val"), and the name of their x axis.

    Means per epoch are shown; for a training of few epochs the reports within them are, against fractions of an epoch.
    """
    records = read_log(path)
    epochs = [r for r in records if r.get("kind") == "epoch"]
    fine = [r for r in records if r.get("kind") == "step"]
    used = epochs if len({r["epoch"] for r in epochs}) > FEW or not fine else fine + epochs
    panels: dict[str, list[Line]] = {}
    for name in _names(used):
        lines = []
        for loader in sorted({r["loader"] for r in used}):
            if name in TRAINING_ONLY and loader != "train":
                continue
            points = _points([r for r in used if r["loader"] == loader], name)
            if points:
                x, y = zip(*sorted(points.items()), strict=True)
                lines.append(Line(loader, np.array(x), np.array(y)))
        if lines:
            panels[TRAINING_ONLY.get(name, name)] = lines
    return dict(list(panels.items())[:MOST]), "Epoch"


def _names(records: Sequence[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for r in records for name in r.get("terms", {})))
    return [*names, *(n for n in TRAINING_ONLY if any(r.get(n) for r in records))]


def _points(records: Sequence[dict[str, Any]], name: str) -> dict[float, float]:
    """x -> y; where an epoch was run again after a resume, the later record wins."""
    points = {}
    for record in records:
        value = record.get("terms", {}).get(name, record.get(name))
        if isinstance(value, list):
            value = max(value, default=None)
        if value is not None and np.isfinite(value):
            done = record["step"] / max(1, record["steps"]) if record["kind"] == "step" else 1.0
            points[record["epoch"] - 1 + done] = float(value)
    return points
