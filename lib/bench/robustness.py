"""Score of an RGB-X tracker against the rate of missing pictures or the strength of their corruption."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from lib.bench.evaluate import EvalJob, run_evaluation
from lib.bench.metrics import MetricError, Scores
from lib.bench.report import TEMPLATES, write_tables
from lib.data import Corruption, Degradation, Modality
from lib.files import write_text
from lib.viz import Cell, Column, Line, Table, inline_svg, level_plot, render_page, save_figure

SECOND = {Modality.RGBT: "thermal", Modality.RGBD: "depth", Modality.RGBE: "events", Modality.RGB: "second"}
"""Name of the second picture."""


@dataclass(frozen=True)
class Sweep:
    """Frames that get worse in one way.

    Attributes:
        kind: "drop", a picture that is missing in more and more frames, or a corruption's name.
        pictures: "rgb", "aux" or, of a corruption, "both".
        levels: Shares of the frames or strengths, 0..1. They ascend from 0, frames as they are, which is added.
        fill: What stands in the place of a missing picture, "black" or "repeat" (the last one that was there).
        seed: Of all random numbers.

    Raises:
        ValueError: The kind is unknown, or a level is not within 0..1.
    """

    kind: str
    pictures: str
    levels: Sequence[float]
    fill: str = "black"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels or not all(0 <= level <= 1 for level in self.levels):
            found = ", ".join(f"{v:g}" for v in self.levels) or "none at all"
            raise ValueError(f"levels must lie in 0..1, not {found}")
        object.__setattr__(self, "levels", tuple(sorted({0.0, *self.levels})))
        self.at(0.0)

    def at(self, level: float) -> Degradation:
        """The degradation of the frames at one level."""
        if self.kind == "drop":
            return Degradation(self.pictures, level, self.fill, seed=self.seed)
        return Degradation(corruptions=(Corruption(self.kind, level, self.pictures),), seed=self.seed)

    @property
    def axis(self) -> str:
        """Label of the levels."""
        return "Share of frames without the image" if self.kind == "drop" else f"Strength of {self.kind}"

    def label(self, modality: Modality) -> str:
        """Name of the curve, such as "thermal dropped" or "noise on RGB".

        Args:
            modality: Of the benchmark, which names the second picture.
        """
        names = {"rgb": "RGB", "aux": SECOND[modality], "both": f"RGB and {SECOND[modality]}"}
        what = names[self.pictures]
        return f"{what} dropped" if self.kind == "drop" else f"{self.kind} on {what}"


@dataclass(frozen=True)
class Curve:
    """Scores of one tracker along one sweep.

    Attributes:
        tracker: Its name.
        sweep: The sweep.
        scores: Level -> headline score in percent, by the metric's keys.
    """

    tracker: str
    sweep: Sweep
    scores: Mapping[float, Mapping[str, float]]

    def of(self, key: str) -> list[float]:
        """One score at every level, in their order.

        Args:
            key: Of the metric's score.
        """
        return [self.scores[level][key] for level in self.sweep.levels]

    def kept(self, key: str) -> float:
        """Mean score over the range of levels (area by the trapezoid rule), in percent of the clean one.

        Args:
            key: Of the metric's score.

        Returns:
            NaN where there is one level only, or the clean score is 0.
        """
        levels, values = self.sweep.levels, self.of(key)
        width = levels[-1] - levels[0]
        if width == 0 or values[0] == 0:
            return float("nan")
        steps = zip(levels, levels[1:], values, values[1:], strict=False)
        return 100 * sum((b - a) * (p + q) / 2 for a, b, p, q in steps) / width / values[0]


@dataclass(frozen=True)
class Robustness:
    """Curves of several trackers.

    Attributes:
        benchmark: Title.
        modality: Of the benchmark.
        sequences: Their number.
        metric: Variant.
        key: Of its main score.
        labels: Key -> as papers print it.
        curves: One per tracker and sweep.
        failures: Number of runs that failed or cannot be scored.
    """

    benchmark: str
    modality: Modality
    sequences: int
    metric: str
    key: str
    labels: Mapping[str, str]
    curves: tuple[Curve, ...]
    failures: int = 0


def measure_robustness(jobs: Mapping[str, EvalJob], sweeps: Sequence[Sweep], console: Console) -> Robustness | None:
    """Evaluate every tracker along every sweep; what is finished is not run again.

    Args:
        jobs: Name -> evaluation on clean frames, all on one benchmark.
        sweeps: What gets worse.
        console: For progress and messages.

    Returns:
        None in processes other than the main one.

    Raises:
        MetricError: The benchmark has no scores, or every sequence failed.
    """
    first = next(iter(jobs.values()))
    first.require_scores()
    for job in jobs.values():
        for sweep in sweeps:
            replace(job, degradation=sweep.at(sweep.levels[-1])).check()
    wanted = {(name, d.label): d for name in jobs for sweep in sweeps for d in map(sweep.at, sweep.levels)}
    scores: dict[tuple[str, str], Scores] = {}
    failures = 0
    for (name, label), degradation in wanted.items():
        what = label or "frames as they are"
        console.print(escape(f"{name}: {what}"), highlight=False)
        outcome = run_evaluation(replace(jobs[name], degradation=degradation), console)
        failures += len(outcome.failures) + len(outcome.unscored)
        if outcome.scored is not None:
            scores[name, label] = outcome.scored.filed
        elif outcome.is_main:
            reasons = {**outcome.failures, **outcome.unscored}.items()
            reason = next((f"{run}: {reason}" for run, reason in reasons), "")
            raise MetricError(f"{name}, {what}: every sequence failed; the first, {reason}")
    if not scores:
        return None
    filed, curves = next(iter(scores.values())), []
    for name, sweep in itertools.product(jobs, sweeps):
        found = {level: scores[name, sweep.at(level).label].headline for level in sweep.levels}
        curves.append(Curve(name, sweep, found))
    where, count = (first.benchmark.title, first.benchmark.modality), len(filed.names)
    return Robustness(*where, count, first.variant, filed.main, filed.labels, tuple(curves), failures)


def curves_by_kind(found: Robustness) -> dict[str, list[Curve]]:
    """Kind of degradation -> its curves, which share a plot."""
    kinds: dict[str, list[Curve]] = {}
    for curve in found.curves:
        kinds.setdefault(curve.sweep.kind, []).append(curve)
    return kinds


def robustness_table(found: Robustness, kind: str) -> Table:
    """One row per curve: the main score at every level, and the share of the clean score that is kept."""
    curves = curves_by_kind(found)[kind]
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
    for kind, curves in curves_by_kind(found).items():
        heading = "Missing images" if kind == "drop" else kind.capitalize()
        lines = []
        for c in curves:  # in the legend, before each name: the share of the clean score that is kept over the range
            levels, values = np.array(c.sweep.levels), np.array(c.of(found.key))
            lines.append(Line(_curve_label(found, c), levels, values, c.kept(found.key)))
        label = f"{found.labels[found.key]} [%]"
        figure = level_plot(lines, curves[0].sweep.axis, label, f"{heading} - {found.benchmark}")
        save_figure(figure, folder / f"robustness_{kind}")
        tables[f"robustness_{kind}"] = table = robustness_table(found, kind)
        svg = inline_svg(figure, f"{kind} robustness")
        kinds.append({"title": heading, "drops": kind == "drop", "figure": svg, "table": table})
    columns = [Column("Tracker"), Column("Frames"), Column("Level", 2), *(Column(v, 2) for v in found.labels.values())]
    rows: list[list[Cell]] = []
    for c in found.curves:
        label = c.sweep.label(found.modality)
        rows += [[c.tracker, label, level, *(c.scores[level][key] for key in found.labels)] for level in c.sweep.levels]
    tables["robustness_all"] = Table("All scores in percent", columns, rows)
    write_tables(tables, folder)
    about = f"{found.benchmark}: {found.sequences} sequences; metric variant {found.metric}"
    context = {
        "title": title or f"{', '.join(trackers)}: robustness on {found.benchmark}",
        "subtitle": f"{about}; {time.strftime('%Y-%m-%d %H:%M')}",
        "kinds": kinds,
        "all_scores": tables["robustness_all"],
    }
    write_text(folder / "robustness.html", render_page(TEMPLATES / "robustness.html", context))
    return folder / "robustness.html"
