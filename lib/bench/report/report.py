"""One self-contained HTML page that compares trackers on a benchmark."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.bench.report.figures import attribute_figure, curve_figures, training_figure
from lib.bench.report.players import build_player, tracker_colours, worst_and_best
from lib.bench.report.runs import TrackerRun, by_attribute, on_common_sequences
from lib.bench.report.significance import compare
from lib.bench.report.tables import (
    attribute_table,
    comparison_table,
    headline_table,
    origin_table,
    sequence_table,
    summary,
)
from lib.data import Video
from lib.files import write_text
from lib.viz import Page, inline_svg

PICTURE_BYTES = 8_000_000
"""JPEG bytes of all players together; a third more as base64, which keeps the page below some 12 MB."""


def build_report(
    title: str,
    benchmark: str,
    trackers: Sequence[TrackerRun],
    sequences: Sequence[Video] = (),
    attributes: Mapping[str, Sequence[str]] | None = None,
    training_log: Path | None = None,
    out: Path = Path("report.html"),
    examples: int = 3,
) -> Path:
    """Write the report; returns its path.

    trackers: the first one is the subject (its best and worst sequences are shown). Only sequences that all trackers
    have are compared. sequences: for the frame players and attributes; may be empty.
    attributes: attribute -> sequence names; taken from `sequences` when None.
    training_log: JSONL log of a training. examples: frame players of the worst, and of the best sequences.
    out: an HTML file, or a folder that gets `report.html`.
    """
    runs = on_common_sequences(trackers)
    scored = runs[0].scores.names
    if attributes is None:
        attributes = by_attribute(sequences, scored)
    page = Page(title, _subtitle(benchmark, runs))
    _overview(page, runs)
    if attributes:
        _attributes(page, runs, attributes)
    if sequences:
        _examples(page, runs, {s.name: s for s in sequences}, examples)
    page.section("Sequences", "Click a column to sort by it.")
    page.table(sequence_table(runs), tall=True)
    if training_log is not None:
        _training(page, training_log)
    _origins(page, runs)
    path = out / "report.html" if out.suffix != ".html" else out
    write_text(path, page.html())
    return path


def _subtitle(benchmark: str, runs: Sequence[TrackerRun]) -> str:
    scores = runs[0].scores
    return (
        f"{benchmark}: {len(scores.names)} sequences, {int(scores.frames.sum())} frames; "
        f"metric variant {scores.variant}; "
        f"{time.strftime('%Y-%m-%d %H:%M')}"
    )


def _overview(page: Page, runs: Sequence[TrackerRun]) -> None:
    scores, colours = runs[0].scores, tracker_colours(runs)
    page.section("Overview")
    others = max((r.scores.headline[scores.main] for r in runs[1:]), default=None)
    cards = [(label, f"{scores.headline[key]:.1f}", runs[0].name) for key, label in scores.labels.items()]
    if others is not None:
        cards.append(("Ahead of the next", f"{scores.headline[scores.main] - others:+.1f}", scores.labels[scores.main]))
    page.cards(cards)
    page.table(headline_table(runs, "Scores in percent"), colours)
    page.figures([inline_svg(f, f"{kind} curves") for kind, f in curve_figures(runs).items()])
    if len(runs) > 1 and len(scores.names) > 1:
        pairs = [compare(scores, other.scores, (runs[0].name, other.name)) for other in runs[1:]]
        page.table(comparison_table(pairs))


def _attributes(page: Page, runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]]) -> None:
    page.section("Attributes", "A sequence counts in every attribute it has.")
    page.table(attribute_table(runs, attributes))
    figure = attribute_figure(runs, attributes)
    if figure is not None:
        page.figures([inline_svg(figure, "scores by attribute")])


def _examples(page: Page, runs: Sequence[TrackerRun], videos: Mapping[str, Video], count: int) -> None:
    worst, best = worst_and_best(runs[0], count)
    shown = [r for r in runs if all(name in r.results for name in (*worst, *best))]
    if not shown or not all(name in videos for name in (*worst, *best)):
        return
    colours = tracker_colours(runs)
    budget = PICTURE_BYTES // max(1, len(worst) + len(best))
    for heading, names in (("Worst sequences", worst), ("Best sequences", best)):
        if names:
            page.section(
                heading, f"Of {runs[0].name}. The strip shows the overlap with the true box; click it to seek."
            )
            page.players([build_player(videos[name], shown, colours, budget) for name in names])


def _training(page: Page, log: Path) -> None:
    page.section("Training")
    figure = training_figure(log)
    if figure is None:
        page.text(f"{log.name} holds no report yet.")
    else:
        page.figures([inline_svg(figure, "training curves")])


def _origins(page: Page, runs: Sequence[TrackerRun]) -> None:
    page.section("How these results were made")
    known = [run for run in runs if run.manifest]
    if known:
        page.table(origin_table(known), tracker_colours(runs))
    for run in runs:
        if run.manifest:
            page.details(run.name, summary(run.manifest))
        else:
            page.text(f"{run.name}: results without a manifest.")
