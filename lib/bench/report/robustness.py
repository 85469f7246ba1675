"""Robustness as a page, plots and tables: score over drop rate, over the strength of noise, over occlusion."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from lib.bench.report.report import TEMPLATES
from lib.bench.report.tables import write_tables
from lib.bench.robustness import Curve, Robustness
from lib.files import write_text
from lib.viz import Cell, Column, Line, Table, inline_svg, level_plot, render_page, save

KEPT = "In brackets: the mean over the range of levels, in percent of the score on clean frames. "
NOTES = {
    "drop": "The frame that tracking starts on keeps both images, except at 1: there the modality does not exist. "
    "Frames that lack an image at a low rate lack it at every higher one."
}
NOTE = "The frame that tracking starts on stays clean. Random numbers follow from sequence, frame and seed."


def by_kind(found: Robustness) -> dict[str, list[Curve]]:
    """Kind of degradation -> its curves, which share a plot."""
    kinds: dict[str, list[Curve]] = {}
    for curve in found.curves:
        kinds.setdefault(curve.sweep.kind, []).append(curve)
    return kinds


def robustness_table(found: Robustness, kind: str) -> Table:
    """One row per curve: the main score at every level, and the share of the clean score that is kept."""
    curves = by_kind(found)[kind]
    levels = sorted({level for c in curves for level in c.sweep.levels})
    note = "mean over the range of levels, in percent of the score on clean frames"
    columns = [Column("Frames"), *(Column(f"{level:g}", 2) for level in levels), Column("Kept", 1, note=note)]
    rows: list[list[Cell]] = []
    for c in curves:
        values: list[Cell] = [c.scores[level][found.key] if level in c.scores else None for level in levels]
        rows.append([_curve_label(found, c), *values, c.kept(found.key)])
    return Table(f"{found.labels[found.key]} by {curves[0].sweep.axis.lower()}", columns, rows)


def _curve_label(found: Robustness, curve: Curve) -> str:
    """The degradation, and the tracker where there are several."""
    label = curve.sweep.label(found.modality)
    return f"{curve.tracker}, {label}" if len({c.tracker for c in found.curves}) > 1 else label


def write_robustness(found: Robustness, folder: Path, title: str = "") -> Path:
    """Write `robustness.html`, tables as CSV, LaTeX and JSON, plots as PNG and PDF; returns the page's path."""
    trackers = list(dict.fromkeys(c.tracker for c in found.curves))
    kinds, tables = [], {}
    for kind, curves in by_kind(found).items():
        heading = "Missing images" if kind == "drop" else kind.capitalize()
        # In the legend, before each name: the share of the clean score that is kept over the range.
        lines = [
            Line(_curve_label(found, c), np.array(c.sweep.levels), np.array(c.of(found.key)), c.kept(found.key))
            for c in curves
        ]
        label = f"{found.labels[found.key]} [%]"
        figure = level_plot(lines, curves[0].sweep.axis, label, f"{heading} - {found.benchmark}")
        save(figure, folder / f"robustness_{kind}")
        tables[f"robustness_{kind}"] = table = robustness_table(found, kind)
        svg = inline_svg(figure, f"{kind} robustness")
        kinds.append({"title": heading, "note": KEPT + NOTES.get(kind, NOTE), "figure": svg, "table": table})
    columns = [Column("Tracker"), Column("Frames"), Column("Level", 2), *(Column(v, 2) for v in found.labels.values())]
    rows: list[list[Cell]] = [
        [c.tracker, c.sweep.label(found.modality), level, *(c.scores[level][key] for key in found.labels)]
        for c in found.curves
        for level in c.sweep.levels
    ]
    tables["robustness_all"] = Table("All scores in percent", columns, rows)
    write_tables(tables, folder)
    context = {
        "title": title or f"{', '.join(trackers)}: robustness on {found.benchmark}",
        "subtitle": f"{found.benchmark}: {found.sequences} sequences; metric variant {found.metric}; "
        f"{time.strftime('%Y-%m-%d %H:%M')}",
        "kinds": kinds,
        "all_scores": tables["robustness_all"],
    }
    write_text(folder / "robustness.html", render_page(TEMPLATES / "robustness.html", context))
    return folder / "robustness.html"
