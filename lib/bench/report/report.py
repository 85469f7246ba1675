"""A comparison of trackers on a benchmark as one self-contained HTML page, and as files for a paper."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.bench.metrics import failure_frame
from lib.bench.report import tables
from lib.bench.report.comparison import TrackerRun, by_attribute, ranked
from lib.bench.report.figures import attribute_figure, curve_figures, sequence_figure, training_lines
from lib.data import Video
from lib.files import write_text
from lib.viz import PLOTS, Player, colour, inline_svg, render_page, save_figure, training_plot, video_tracks

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLES = 3
"""Frame players of the worst, and of the best sequences."""
IMAGE_BYTES = 8_000_000
"""JPEG bytes of all players together; a third more as base64, which keeps the page below some 12 MB."""


def build_report(
    title: str,
    benchmark: str,
    runs: Sequence[TrackerRun],
    sequences: Sequence[Video] = (),
    attributes: Mapping[str, Sequence[str]] | None = None,
    training_log: Path | None = None,
    out: Path = Path(),
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write the report; returns its path.

    Args:
        title: heading of the page.
        benchmark: name of the benchmark.
        runs: on the same sequences (`on_common_sequences`); the first one is the subject, whose best and worst
            sequences are shown.
        sequences: for the frame players and attributes; may be empty.
        attributes: attribute -> sequence names; taken from `sequences` when None.
        training_log: JSONL log of a training.
        out: the folder that gets `report.html`.
        about: tracker -> a sentence on what it is, for the reader.
    """
    subject, scores = runs[0], runs[0].scores
    if attributes is None:
        attributes = by_attribute(sequences, scores.names)
    colours = {run.name: colour(i) for i, run in enumerate(runs)}
    radar, scatter = attribute_figure(runs, attributes), sequence_figure(runs)
    training = None
    if training_log is not None:
        panels = training_lines(training_log).items()
        figures = [inline_svg(training_plot(name, lines), f"{name} of the training") for name, lines in panels]
        training = {"log": training_log.name, "figures": figures}
    worst, best = _players(runs, {video.name: video for video in sequences}, colours)
    table = tables.sequence_table(runs)
    values = scores.per_sequence()
    lowest_first = sorted(table.rows, key=lambda row: values[str(row[0])])
    known = [run for run in runs if run.manifest]
    count = f"{len(scores.names)} sequences, {int(scores.frames.sum())} frames"
    context = {
        "title": title,
        "subtitle": f"{benchmark}: {count}; metric variant {scores.variant}; {time.strftime('%Y-%m-%d %H:%M')}",
        "subject": subject.name,
        "colours": colours,
        "cards": _cards(runs),
        "headline": tables.headline_table(runs, "Scores in percent"),
        "about": about,
        "curves": [inline_svg(figure, f"{kind} curves") for kind, figure in curve_figures(runs).items()],
        "pairs": tables.paired_table([(subject, run) for run in runs[1:]]) if runs[1:] and scores.names[1:] else None,
        "attributes": tables.attribute_table(runs, attributes) if attributes else None,
        "radar": radar and inline_svg(radar, "scores by attribute"),
        "scatter": scatter and inline_svg(scatter, "scores of two trackers by sequence"),
        "worst": worst,
        "best": best,
        "links": {player.title: f"video-{i}" for i, player in enumerate([*worst, *best])},
        "sequence_scores": replace(table, rows=lowest_first),
        "training": training,
        "origins": tables.origin_table(known) if known else None,
        "manifests": {run.name: tables.summary(run.manifest) for run in runs},
    }
    path = out / "report.html"
    write_text(path, render_page(TEMPLATES / "report.html", context))
    return path


def _cards(runs: Sequence[TrackerRun]) -> list[tuple[str, str, str]]:
    """(score, the first tracker's value, whose it is and how far from the others)."""
    subject, others = runs[0], ranked(runs[1:])
    cards = []
    for key, label in subject.scores.labels.items():
        value, remark = subject.scores.headline[key], subject.name
        top = max(others, key=lambda run: run.scores.headline[key], default=None)
        if top is not None and top.scores.headline[key] > value:
            remark += f"; best: {top.name} {top.scores.headline[key]:.1f}"
        cards.append((label, f"{value:.1f}", remark))
    if others:
        lead = subject.main_score - others[0].main_score
        heading = "Ahead of the next" if lead > 0 else "Behind the best" if lead < 0 else "Level with the next"
        label = subject.scores.labels[subject.scores.main]
        cards.append((heading, f"{abs(lead):.1f}", f"{label}: {subject.name} against {others[0].name}"))
    return cards


def worst_and_best(run: TrackerRun, count: int) -> tuple[list[str], list[str]]:
    """Names of the `count` sequences with the lowest and with the highest main score, no name in both."""
    scores = run.scores.per_sequence()
    order = sorted(scores, key=lambda name: scores[name])
    worst = order[: min(count, (len(order) + 1) // 2)]
    return worst, order[len(worst) :][::-1][:count]


def _players(
    runs: Sequence[TrackerRun], videos: Mapping[str, Video], colours: Mapping[str, str]
) -> tuple[list[Player], list[Player]]:
    """Players of the first tracker's worst and best sequences, opened where it loses the target (the worst ones: at the
    lowest overlap if it never does); empty where frames or boxes are missing."""
    worst, best = worst_and_best(runs[0], EXAMPLES)
    shown = [run for run in runs if all(name in run.results for name in (*worst, *best))]
    if not shown or not all(name in videos for name in (*worst, *best)):
        return [], []
    label, scores = runs[0].scores.labels[runs[0].scores.main], runs[0].scores.per_sequence()
    budget = IMAGE_BYTES // max(1, len(worst) + len(best))

    def player(name: str) -> Player:
        video = videos[name]
        tags = f"; {', '.join(sorted(video.attributes))}" if video.attributes else ""
        tracks = video_tracks(video, {run.name: run.results[name] for run in shown}, colours)
        overlap = next((t.values for t in tracks if t.name == runs[0].name), None)
        note, start = f"{label} {scores[name]:.1f}, {len(video)} frames{tags}", 0
        if overlap is not None and np.isfinite(overlap).any():
            start = failure_frame(overlap, video.boxes_xywh)
            if start < len(video):
                note += f"; lost from frame {start}"
            else:
                start = int(np.nanargmin(overlap)) if name in worst else 0
        return Player.of_video(video, tracks, budget, note, start)

    return [player(name) for name in worst], [player(name) for name in best]


def export(
    runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]], folder: Path, title: str = ""
) -> list[Path]:
    """Write every table (`.csv`, `.tex`, `.json`) and plot (`.png`, `.pdf`) into `folder`; returns the paths.

    The runs must be on the same sequences (`on_common_sequences`). Tables and plots of an earlier report that this one
    lacks are deleted, so that no file next to the page is of other trackers.
    """
    written = tables.write_tables(tables.comparison_tables(runs, attributes), folder)
    curves = curve_figures(runs, title)
    figures = {f"{kind}_plot": curves.get(kind) for kind in PLOTS}
    figures |= {"attribute_radar": attribute_figure(runs, attributes), "sequence_scatter": sequence_figure(runs)}
    for stem, figure in figures.items():
        written += [] if figure is None else save_figure(figure, folder / stem)
    for stems, endings in ((tables.TABLES, (".csv", ".tex", ".json")), (figures, (".png", ".pdf"))):
        for path in (folder / f"{stem}{ending}" for stem in stems for ending in endings):
            if path not in written:
                path.unlink(missing_ok=True)
    return written
