"""The plots of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lib.bench.report.runs import TrackerRun
from lib.bench.report.training_log import training_lines
from lib.viz.plots import Line, curve_plot, radar_plot, training_plot

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

CURVES = ("success", "precision", "norm_precision")


def curve_figures(runs: Sequence[TrackerRun], title: str = "") -> dict[str, Figure]:
    """Success, precision and normalised-precision plots, as far as the metric variant has them, by curve name."""
    first = runs[0].scores
    figures = {}
    for kind in CURVES:
        if kind not in first.curves:
            continue
        key = next((k for k, r in first.rule.readings.items() if r.curve == kind), first.main)
        thresholds = first.rule.thresholds[kind]
        lines = [Line(r.name, thresholds, r.scores.overall(kind), r.scores.headline[key]) for r in runs]
        figures[kind] = curve_plot(kind, lines, title)
    return figures


def attribute_figure(runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]]) -> Figure | None:
    """Main score per attribute on a wheel; None with fewer than three attributes."""
    if len(attributes) < 3:
        return None
    key = runs[0].scores.main
    labels = [f"{name} ({len(members)})" for name, members in attributes.items()]
    series = {r.name: [r.scores.subset(members).headline[key] for members in attributes.values()] for r in runs}
    return radar_plot(labels, series, f"{runs[0].scores.labels[key]} by attribute")


def training_figure(log: Path) -> Figure | None:
    """Training curves of a JSONL log; None when it holds no report yet."""
    panels, x_label = training_lines(log)
    return training_plot(panels, x_label) if panels else None
