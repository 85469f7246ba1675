"""Plots of a comparison, and training curves from the log of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.bench.report.comparison import TrackerRun, ranked
from lib.bench.report.tables import FEW_SEQUENCES
from lib.viz import PLOTS, Line, colour, curve_plot, radar_plot, scatter_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW_EPOCHS = 3
MAX_PANELS = 9
TRAINING_ONLY = {"lr": "Learning rate", "grad_norm": "Gradient norm"}


def curve_figures(runs: Sequence[TrackerRun], title: str = "") -> dict[str, Figure]:
    """The plots of `PLOTS` whose curves the metric variant has; reliability where there are scores of frames."""
    spec = runs[0].scores.spec
    known = {*runs[0].scores.curves, *spec.derived}
    figures = {}
    for kind, plot in PLOTS.items():
        curve, x_curve = plot["curve"], plot.get("x_curve")
        if curve not in known:
            continue
        read_here = [key for key, score in spec.scores.items() if score.curve == curve and not x_curve]
        shown_score = next(iter(read_here), runs[0].scores.main)
        lines = []
        for run in runs:
            x = run.scores.overall(x_curve) if x_curve else run.scores.thresholds[curve]
            finite = np.isfinite(x)
            score = run.scores.headline[shown_score]
            lines.append(Line(run.name, x[finite], run.scores.overall(curve)[finite], score))
        figures[kind] = curve_plot(kind, lines, title)
    found = [(run.name, run.reliability) for run in runs]
    if any(r is not None for _, r in found):
        none = np.zeros(0)
        lines = [Line(name, none, none) if r is None else Line(name, r.expected, r.observed) for name, r in found]
        figures["reliability"] = curve_plot("reliability", lines, title)
    return figures


def attribute_figure(runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]]) -> Figure | None:
    """Main score per attribute on a wheel; attributes of few sequences are grey there and have no score.

    Returns:
        None with fewer than three attributes of `FEW_SEQUENCES` sequences.
    """
    large_first = sorted(attributes.items(), key=lambda item: len(item[1]) < FEW_SEQUENCES)
    enough = [len(members) >= FEW_SEQUENCES for _, members in large_first]
    if sum(enough) < 3:
        return None
    key = runs[0].scores.main
    labels = [f"{name} ({len(members)})" for name, members in large_first]
    series: dict[str, list[float]] = {run.name: [] for run in runs}
    for run in runs:
        for (_, members), shown in zip(large_first, enough, strict=True):
            series[run.name].append(run.scores.subset(members).headline[key] if shown else np.nan)
    note = "" if all(enough) else f" (grey: fewer than {FEW_SEQUENCES} sequences)"
    return radar_plot(labels, series, f"{runs[0].scores.labels[key]} by attribute{note}")


def sequence_figure(runs: Sequence[TrackerRun]) -> Figure | None:
    """Main score of the first tracker over that of the best other one, a point per sequence; None for one tracker."""
    if len(runs) < 2:
        return None
    a, b = runs[0], ranked(runs[1:])[0]
    x, y = b.scores.per_sequence(), a.scores.per_sequence()
    label = a.scores.labels[a.scores.main]
    title = f"{a.name} is better on {sum(y[name] > x[name] for name in y)} of {len(y)} sequences"
    labels, colours = (f"{label} of {b.name}", f"{label} of {a.name}"), (colour(list(runs).index(b)), colour(0))
    return scatter_plot([x[name] for name in y], list(y.values()), list(y), labels, title, colours)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a training log (`logs/<script>-<config>.jsonl`) in order.

    A last line that was cut off by a kill is ignored.

    Raises:
        ValueError: another line is not JSON.
    """
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}: line {number} is not JSON") from None
    return records


def training_lines(path: Path) -> dict[str, list[Line]]:
    """Quantity -> one line per loader ("train", "val"), over epochs.

    The values are means per epoch; for a training of few epochs, the reports within them as well.
    """
    records = [r for r in read_log(path) if r.get("kind") in ("epoch", "step")]
    epochs = [r for r in records if r["kind"] == "epoch"]
    steps = [r for r in records if r["kind"] == "step"]
    used = epochs if len({r["epoch"] for r in epochs}) > FEW_EPOCHS or not steps else steps + epochs
    quantities = list(dict.fromkeys(name for r in used for name in r.get("terms", {})))
    quantities += [name for name in TRAINING_ONLY if any(r.get(name) for r in used)]
    panels: dict[str, list[Line]] = {}
    for name in quantities:
        lines = []
        for loader in sorted({r["loader"] for r in used}):
            if name in TRAINING_ONLY and loader != "train":
                continue
            if points := _points([r for r in used if r["loader"] == loader], name):
                x, y = zip(*sorted(points.items()), strict=True)
                lines.append(Line(loader, np.array(x), np.array(y)))
        if lines:
            panels[TRAINING_ONLY.get(name, name)] = lines
    return dict(list(panels.items())[:MAX_PANELS])


def _points(records: Sequence[dict[str, Any]], name: str) -> dict[float, float]:
    """Epoch -> value; where an epoch was repeated after a resume, the later record counts."""
    points = {}
    for record in records:
        value = record.get("terms", {}).get(name, record.get(name))
        value = max(value, default=None) if isinstance(value, list) else value
        if value is not None and np.isfinite(value):
            done = record["step"] / max(1, record["steps"]) if record["kind"] == "step" else 1.0
            points[record["epoch"] - 1 + done] = float(value)
    return points
