"""A comparison as files: the page, tables as CSV, LaTeX and JSON, plots as PNG and PDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from lib.bench.report.figures import attribute_figure, curve_figures
from lib.bench.report.runs import TrackerRun
from lib.bench.report.significance import compare
from lib.bench.report.tables import attribute_table, comparison_table, headline_table, sequence_table
from lib.files import write_text
from lib.viz import Table, save

MOST_PAIRS = 45


def comparison_tables(runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]]) -> dict[str, Table]:
    """File stem -> table: scores, attributes and paired differences where there are any, sequences."""
    tables = {"scores": headline_table(runs)}
    if attributes:
        tables["attributes"] = attribute_table(runs, attributes)
    if len(runs) > 1 and len(runs[0].scores.names) > 1:
        pairs = list(combinations(runs, 2))
        pairs = pairs if len(pairs) <= MOST_PAIRS else [(runs[0], other) for other in runs[1:]]
        tables["differences"] = comparison_table([compare(a.scores, b.scores, (a.name, b.name)) for a, b in pairs])
    tables["sequences"] = sequence_table(runs)
    return tables


def export(
    runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]], folder: Path, title: str = ""
) -> list[Path]:
    """Write every table (`.csv`, `.tex`, `.json`) and plot (`.png`, `.pdf`) into `folder`; the paths written.

    The runs must be on the same sequences (`on_common_sequences`).
    """
    written = []
    for stem, table in comparison_tables(runs, attributes).items():
        for ending, text in ((".csv", table.csv()), (".tex", table.latex()), (".json", table.json())):
            written.append(folder / f"{stem}{ending}")
            write_text(written[-1], text)
    for stem, figure in curve_figures(runs, title).items():
        written += save(figure, folder / f"{stem}_plot")
    wheel = attribute_figure(runs, attributes)
    if wheel is not None:
        written += save(wheel, folder / "attribute_radar")
    return written
