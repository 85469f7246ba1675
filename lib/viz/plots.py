"""Plots as papers show them. Each function returns a matplotlib figure for `save_figure` or, in pages, `inline_svg`.

matplotlib is used without pyplot, so that no global state changes and no display is needed.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lib.files import yaml_rows
from lib.viz.draw import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Floats = NDArray[np.float64]
INK = "#1b2733"
GREY = "#9aa5b1"
STYLES = ("-", "--", "-.", ":")

PLOTS = yaml_rows(Path(__file__).parent / "assets" / "plots.yaml")
"""Kind of curve plot -> heading, labels and curves."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        label: Text in the legend.
        x, y: [P] values.
        score: Number before the label in the legend, or None.
    """

    label: str
    x: Floats
    y: Floats
    score: float | None = None


def curve_plot(kind: str, lines: Sequence[Line], title: str = "") -> Figure:
    """Curves of several trackers.

    Args:
        kind: A key of `PLOTS`: "success", "precision", "norm_precision", ...
        lines: With y in 0..1; a line of one point is drawn as a dot. Colours follow the order of the lines, so that a
            tracker has the same colour in every plot; the legend is sorted by score, the best first.
        title: Added to the heading.
    """
    plot = PLOTS[kind]
    figure, axes = _line_plot(lines)
    heading = f"{plot['heading']} - {title}" if title else plot["heading"]
    axes.set(xlabel=plot["x"], ylabel=plot["y"], ylim=(0, 1), title=heading)
    ends = [float(end) for line in lines if len(line.x) for end in (line.x.min(), line.x.max())]
    if "x_curve" in plot:
        axes.set_xlim(0, 1)
        if "diagonal" in plot:
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    elif ends and min(ends) < max(ends):
        axes.set_xlim(min(ends), max(ends))
    axes.set_yticks(np.linspace(0, 1, 6))
    return figure


def level_plot(lines: Sequence[Line], x_label: str, y_label: str, title: str = "") -> Figure:
    """Scores over the strength of a degradation, measured at a few levels, which are marked.

    Args:
        lines: With x the strengths and y in percent.
        x_label, y_label, title: Text at the axes and above them.
    """
    figure, axes = _line_plot(lines, marker="o")
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    top = max((float(np.nanmax(line.y)) for line in lines if np.isfinite(line.y).any()), default=1.0)
    axes.set_ylim(0, max(1.0, 1.08 * top))
    levels = sorted({float(x) for line in lines for x in line.x})
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    return figure


def _line_plot(lines: Sequence[Line], marker: str = "") -> tuple[Figure, Axes]:
    """The lines with a legend below, sorted by score, the best first."""
    columns = 1 if len(lines) < 3 else 2
    figure, axes = _figure(4.6, 3.7 + 0.17 * max(len(lines), 2) / columns)
    order = sorted(range(len(lines)), key=lambda i: -(lines[i].score or 0.0))
    drawn = []
    for rank, i in enumerate(order):
        line = lines[i]
        label = line.label if line.score is None else f"[{line.score:.1f}] {line.label}"
        style = STYLES[(i // 8) % len(STYLES)] + marker if len(line.x) > 1 else "o"
        depth = 3 + len(lines) - rank
        drawn += axes.plot(line.x, line.y, style, color=colour(i), label=label, linewidth=2, markersize=4, zorder=depth)
    _legend(figure, drawn, columns)
    return figure, axes


def _legend(figure: Figure, lines: Sequence[Line2D], columns: int) -> None:
    """A legend below the axes, with labels that begin with `_` too, which Matplotlib leaves out before 3.10."""
    legend = figure.legend(
        lines, [" "] * len(lines), loc="outside lower center", ncols=columns, fontsize=8,
        framealpha=0.0, labelcolor=INK,
    )  # fmt: skip
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set_text(str(line.get_label()))


def radar_plot(axes_labels: Sequence[str], series: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Scores per attribute on a wheel, one line per tracker.

    Args:
        axes_labels: Three attributes or more.
        series: Tracker -> score per attribute in percent. Attributes whose scores are NaN have a grey label and no
            point.
        title: Heading.

    Raises:
        ValueError: There are fewer than three attributes with scores.
    """
    from matplotlib.figure import Figure

    scores = np.array(list(series.values()), dtype=np.float64).reshape(len(series), len(axes_labels))
    solid = np.asarray(np.isfinite(scores).all(axis=0))
    if solid.sum() < 3:
        raise ValueError("a radar plot needs at least three attributes")
    figure = Figure(figsize=(5.6, 5.0), layout="constrained")
    wheel: Any = figure.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(axes_labels), endpoint=False)
    closed = np.append(np.arange(len(axes_labels)), 0)
    drawn = []
    for i, (name, values) in enumerate(zip(series, scores, strict=True)):
        drawn += wheel.plot(angles[closed], values[closed], color=colour(i), linewidth=2, marker=".", label=name)
        wheel.fill(angles[closed], np.nan_to_num(values[closed]), color=colour(i), alpha=0.06, linewidth=0)
    wheel.set_theta_offset(np.pi / 2)
    wheel.set_theta_direction(-1)
    wheel.set_xticks(angles, axes_labels, fontsize=8)
    wheel.set_rlabel_position(180 / len(axes_labels))
    wheel.set_ylim(0, max(1.0, float(scores[:, solid].max(initial=0.0)) * 1.05))
    _style(wheel)
    wheel.tick_params(axis="y", labelsize=7)
    wheel.tick_params(axis="x", pad=4)
    for text, angle, known in zip(wheel.get_xticklabels(), angles, solid, strict=True):
        side = np.sin(angle)
        text.set_horizontalalignment("left" if side > 0.1 else "right" if side < -0.1 else "center")
        text.set_color(INK if known else GREY)
    wheel.set_title(title, fontsize=10, color=INK, pad=14)
    _legend(figure, drawn, min(3, len(series)))
    return figure


def scatter_plot(
    x: Sequence[float],
    y: Sequence[float],
    names: Sequence[str],
    labels: tuple[str, str],
    title: str = "",
    colours: tuple[str, str] = (colour(1), colour(0)),
    most: int = 8,
) -> Figure:
    """Two trackers video by video: above the diagonal the tracker of the y axis is better.

    Args:
        x, y: [S] scores in percent.
        names: [S] names of the videos; those farthest from the diagonal are written at their points.
        labels: Text of the two axes.
        title: Heading.
        colours: Of the points where the tracker of the x axis is better, and of the others.
        most: Number of names, less those that would lie on another one.
    """
    figure, axes = _figure(4.6, 4.4)
    lead = np.asarray(y, dtype=np.float64) - np.asarray(x, dtype=np.float64)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1)
    axes.scatter(x, y, s=22, c=[colours[int(ahead)] for ahead in lead > 0], alpha=0.9, linewidths=0, zorder=3)
    named: list[tuple[float, float]] = []
    for i in np.argsort(-np.abs(lead), kind="stable")[:most]:
        if any(abs(x[i] - u) < 30 and abs(y[i] - v) < 4 for u, v in named):
            continue
        named.append((x[i], y[i]))
        shift, side = (-5, "right") if x[i] > 60 else (5, "left")
        near: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7, "color": INK}
        axes.annotate(names[i], (x[i], y[i]), (shift, 0), ha=side, **near)
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, 100), ylim=(0, 100), title=title, aspect="equal")
    return figure


def training_plot(name: str, lines: Sequence[Line]) -> Figure:
    """Curves of one quantity of a training over its epochs.

    Args:
        name: The quantity, such as "Loss/total".
        lines: One per loader. Positive values over a wide range get a logarithmic axis.
    """
    figure, axes = _figure(3.9, 2.8)
    for i, line in enumerate(lines):
        marker = "o" if len(line.x) <= 30 else ""
        axes.plot(line.x, line.y, color=colour(i), linewidth=1.6, marker=marker, markersize=2.5, label=line.label)
    axes.set(title=name, xlabel="Epoch")
    values = np.concatenate([line.y for line in lines]) if lines else np.zeros(0)
    if len(values) and (values > 0).all() and values.max() > 50 * values.min():
        axes.set_yscale("log")
    if len(lines) > 1:
        axes.legend(fontsize=8, framealpha=0.0, labelcolor=INK)
    return figure


def save_figure(figure: Figure, stem: Path | str) -> list[Path]:
    """Write a figure to files.

    Args:
        figure: A matplotlib figure.
        stem: Path without suffix; its folder is made.

    Returns:
        `<stem>.png` and `<stem>.pdf`.
    """
    _take_words_as_they_are(figure)
    paths = [Path(f"{stem}.{f}") for f in ("png", "pdf")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200, bbox_inches="tight")
    return paths


def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element for a page: transparent, text in the colour of the page.

    Args:
        figure: A matplotlib figure.
        label: Description for screen readers; different for each figure of a page.
    """
    import matplotlib

    _take_words_as_they_are(figure)
    buffer, unsigned = io.StringIO(), {"Date": None, "Creator": None}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", metadata=unsigned)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', r'\1 style="max-width:\2pt;width:100%"', text, count=1)
    text = re.sub(r"font: (\d+)px[^;\"]*", r"font: \1px sans-serif", text)
    # Names inside an SVG are global to the page: give each figure its own.
    mark = re.sub(r"\W+", "_", label)
    text = re.sub(r'(id="|#)([A-Za-z])', rf"\1{mark}_\2", re.sub(r"#([0-9a-fA-F]{6})\b", r"@\1", text))
    text = re.sub(r"@([0-9a-fA-F]{6})\b", r"#\1", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def _take_words_as_they_are(figure: Figure) -> None:
    """Turn formulas off, which names of trackers are not, but for the powers of ten on an axis."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math("$" not in text.get_text() or r"\mathdefault" in text.get_text())


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of some inches with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.grid(True, color=GREY, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_color(GREY)
        spine.set_visible(str(name) not in ("top", "right"))
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)
    axes.title.set_fontsize(10)
