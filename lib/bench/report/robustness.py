"""Robustness as a page, plots and tables: score over drop rate, over the strength of noise, over occlusion."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.bench.robustness import Curve, Robustness
from lib.files import write_text
from lib.viz import Cell, Column, Line, Page, Table, inline_svg, level_plot, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"drop": "Missing pictures"}


def by_kind(found: Robustness) -> dict[str, list[Curve]]:
    """The curves that share a plot: those of one kind of degradation."""
    kinds: dict[str, list[Curve]] = {}
    for curve in found.curves:
        kinds.setdefault(curve.sweep.kind, []).append(curve)
    return kinds


def title_of(kind: str) -> str:
    """`Missing pictures`, `Noise`."""
    return TITLES.get(kind, kind.capitalize())


def curve_label(found: Robustness, curve: Curve) -> str:
    """The degradation, and the tracker where there are several."""
    label = curve.sweep.label(found.modality)
    several = len({c.tracker for c in found.curves}) > 1
    return f"{curve.tracker}, {label}" if several else label


def robustness_figure(found: Robustness, kind: str) -> Figure:
    """The main score over the level. Before each name: how much of the clean score is kept over the range."""
    lines = [
        Line(curve_label(found, c), np.array(c.sweep.levels), np.array(c.of(found.key)), c.kept(found.key))
        for c in by_kind(found)[kind]
    ]
    label = f"{found.labels[found.key]} [%]"
    return level_plot(lines, by_kind(found)[kind][0].sweep.axis, label, f"{title_of(kind)} - {found.benchmark}")


def robustness_table(found: Robustness, kind: str) -> Table:
    """One row per curve: the main score at every level, and the share of the clean score that is kept."""
    curves = by_kind(found)[kind]
    levels = sorted({level for c in curves for level in c.sweep.levels})
    note = "mean over the range of levels, in percent of the score on clean frames"
    columns = [Column("Frames"), *(Column(f"{level:g}", 2) for level in levels), Column("Kept", 1, note=note)]
    rows: list[list[Cell]] = []
    for c in curves:
        values: list[Cell] = [c.scores[level][found.key] if level in c.scores else None for level in levels]
        rows.append([curve_label(found, c), *values, c.kept(found.key)])
    return Table(f"{found.labels[found.key]} by {curves[0].sweep.axis.lower()}", columns, rows)


def full_table(found: Robustness) -> Table:
    """Every headline score at every level."""
    columns = [Column("Tracker"), Column("Frames"), Column("Level", 2), *(Column(v, 2) for v in found.labels.values())]
    rows: list[list[Cell]] = [
        [c.tracker, c.sweep.label(found.modality), level, *(c.scores[level][key] for key in found.labels)]
        for c in found.curves
        for level in c.sweep.levels
    ]
    return Table("All scores in percent", columns, rows)


def write_robustness(found: Robustness, folder: Path, title: str = "") -> Path:
    """`robustness.html` with everything, tables as CSV, LaTeX and JSON, plots as PNG and PDF; the page's path."""
    trackers = list(dict.fromkeys(c.tracker for c in found.curves))
    page = Page(
        title or f"{', '.join(trackers)}: robustness on {found.benchmark}",
        f"{found.benchmark}: {found.sequences} sequences; metric variant {found.metric}; "
        f"{time.strftime('%Y-%m-%d %H:%M')}",
    )
    tables = {}
    for kind in by_kind(found):
        figure = robustness_figure(found, kind)
        tables[f"robustness_{kind}"] = robustness_table(found, kind)
        page.section(title_of(kind), _note(kind))
        page.figures([inline_svg(figure, f"{kind} robustness")])
        page.table(tables[f"robustness_{kind}"])
        save(figure, folder / f"robustness_{kind}")
    tables["robustness_all"] = full_table(found)
    page.section("All scores")
    page.table(tables["robustness_all"], tall=True)
    for stem, table in tables.items():
        for ending, text in ((".csv", table.csv()), (".tex", table.latex()), (".json", table.json())):
            write_text(folder / f"{stem}{ending}", text)
    write_text(folder / "robustness.html", page.html())
    return folder / "robustness.html"


def _note(kind: str) -> str:
    kept = "In brackets: the mean over the range of levels, in percent of the score on clean frames. "
    if kind == "drop":
        return kept + (
            "The frame that tracking starts on keeps both pictures, except at 1: there the modality does not exist. "
            "Frames that lack a picture at a low rate lack it at every higher one."
        )
    return kept + "The frame that tracking starts on is spared. Random numbers follow from sequence, frame and seed."
