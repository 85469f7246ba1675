"""The plots of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lib.bench.report.runs import TrackerRun
from lib.bench.report.training_log import training_lines
from lib.viz import Line, curve_plot, radar_plot, training_plot

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Plot:
    """A plot that a metric variant may have: its curve, what it is drawn against (the curve's thresholds if not
    another curve), and the score before each name (of the curve's own reading if not another one).
    """

    curve: str
    against: str | None = None
    score: str | None = None


PLOTS = {
    "success": _Plot("success"),
    "precision": _Plot("precision"),
    "norm_precision": _Plot("norm_precision"),
    "precision_recall": _Plot("tracking_precision", "tracking_recall", "f_score"),
    "f_score": _Plot("f_score", score="f_score"),
    "expected_overlap": _Plot("expected_overlap", score="eao"),
    "accuracy_robustness": _Plot("accuracy", "robustness", "eao"),
}


def curve_figures(runs: Sequence[TrackerRun], title: str = "") -> dict[str, Figure]:
    """The plots that the metric variant has: success, precision and normalised precision of one pass, precision over
    recall and F over confidence of the long-term protocol, expected overlap and accuracy-robustness of the
    anchor-based one.
    """
    first = runs[0].scores
    known = {*first.curves, *first.spec.derived}
    return {
        kind: curve_plot(kind, [_line(run, plot) for run in runs], title)
        for kind, plot in PLOTS.items()
        if plot.curve in known
    }


def _line(run: TrackerRun, plot: _Plot) -> Line:
    scores = run.scores
    metric_scores = scores.spec.scores
    key = plot.score or next((k for k, s in metric_scores.items() if s.curve == plot.curve), scores.main)
    x = scores.overall(plot.against) if plot.against else scores.thresholds[plot.curve]
    shown = np.isfinite(x)
    return Line(run.name, x[shown], scores.overall(plot.curve)[shown], scores.headline[key])


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
