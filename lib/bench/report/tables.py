"""Tables of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from lib.bench.report.comparison import PairedComparison, TrackerRun, compare, ranked
from lib.files import write_text, yaml_rows
from lib.viz import Cell, Column, Table, flat_texts

MAX_PAIRS = 45
FEW_SEQUENCES = 5
"""Scores of fewer sequences are shown in grey, and are left out of the radar."""
TOO_FEW = "n too small"
MADE_BY = yaml_rows(Path(__file__).with_name("origins.yaml"))
TABLES = ("scores", "attributes", "differences", "sequences")
"""Stems of the tables that a report may have."""


def comparison_tables(runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]]) -> dict[str, Table]:
    """File stem -> table: scores, attributes and paired differences (where there are any), sequences."""
    tables = {"scores": headline_table(runs)}
    if attributes:
        tables["attributes"] = attribute_table(runs, attributes)
    if len(runs) > 1 and len(runs[0].scores.names) > 1:
        pairs = list(combinations(runs, 2))
        tables["differences"] = paired_table(pairs if len(pairs) <= MAX_PAIRS else [(runs[0], r) for r in runs[1:]])
    tables["sequences"] = sequence_table(runs)
    return tables


def write_tables(tables: Mapping[str, Table], folder: Path) -> list[Path]:
    """Write each table as `<stem>.csv`, `.tex` and `.json`; returns the paths."""
    written = []
    for stem, table in tables.items():
        for ending, text in ((".csv", table.csv()), (".tex", table.latex()), (".json", table.json())):
            written.append(folder / f"{stem}{ending}")
            write_text(written[-1], text)
    return written


def headline_table(runs: Sequence[TrackerRun], title: str = "") -> Table:
    """One row per tracker, the best first: scores in percent, published figures, size bias, speed and parameters."""
    labels = runs[0].scores.labels
    columns = [Column("Tracker"), *(Column(label, 2, best=True) for label in labels.values())]
    cited = [label for label in labels.values() if any(label in run.published for run in runs)]
    note = "figure of the tracker's publication, not measured here"
    columns += [Column(f"{label} (published)", 1, cited=True, note=note) for label in cited]
    if sizes := any(run.size_bias is not None for run in runs):
        note = "mean of ln(area / true area) over frames: above 0 boxes are too large"
        columns.append(Column("Size bias", 2, signed=True, note=note))
    if rated := any(run.reliability is not None for run in runs):
        note = "area under the ROC curve of the score: frames with an overlap below 0.2 against the others"
        columns.append(Column("AUROC lost", 3, note=note))
        columns.append(Column("ECE", 3, note="expected calibration error of the score as the overlap"))
    if timed := any(run.fps is not None for run in runs):
        columns.append(Column("fps", 1, note="frames per second while the results were made, each on its own machine"))
    if sized := any(run.parameters is not None for run in runs):
        columns.append(Column("Params [M]", 1, note="millions of parameters of the network"))
    rows: list[list[Cell]] = []
    for run in ranked(runs):
        row: list[Cell] = [run.name, *(run.scores.headline[key] for key in labels)]
        row += [run.published.get(label) for label in cited]
        row += [run.size_bias] if sizes else []
        if rated:
            r = run.reliability
            row += [None, None] if r is None else [r.auroc, r.calibration_error]
        row += [run.fps] if timed else []
        row += [None if run.parameters is None else run.parameters / 1e6] if sized else []
        rows.append(row)
    return Table(title, columns, rows)


def attribute_table(runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]]) -> Table:
    """One row per attribute: its number of sequences, and the main score of each tracker, the best first."""
    key, runs = runs[0].scores.main, ranked(runs)
    names = Path(__file__).parent / "attribute_names.json"
    meanings: dict[str, str] = json.loads(names.read_text(encoding="utf-8"))
    explained = any(attribute in meanings for attribute in attributes)
    columns = [Column("Attribute"), Column("Sequences"), *(Column(run.name, 2, best=True) for run in runs)]
    columns += [Column("Meaning")] if explained else []
    rows: list[list[Cell]] = []
    for attribute, members in attributes.items():
        scores: list[Cell] = [run.scores.subset(members).headline[key] for run in runs]
        rows.append([attribute, len(members), *scores, *([meanings.get(attribute, "")] if explained else [])])
    few = frozenset(i for i, members in enumerate(attributes.values()) if len(members) < FEW_SEQUENCES)
    return Table(f"{runs[0].scores.labels[key]} by attribute", columns, rows, by_row=True, faint=few)


def sequence_table(runs: Sequence[TrackerRun]) -> Table:
    """One row per sequence: frames, the main score of each tracker (the best first), and the first one's lead."""
    subject = runs[0]
    label = subject.scores.labels[subject.scores.main]
    columns = [Column("Sequence"), Column("Frames"), *(Column(run.name, 1, best=True) for run in ranked(runs))]
    if len(runs) > 1:
        note = f"{label} of {subject.name} minus the best of the others"
        columns += [Column("Best"), Column("Difference", 1, signed=True, note=note)]
    scores = {run.name: run.scores.per_sequence() for run in ranked(runs)}
    rows: list[list[Cell]] = []
    for name, frames in zip(subject.scores.names, subject.scores.frames, strict=True):
        values = {tracker: table[name] for tracker, table in scores.items()}
        row: list[Cell] = [name, int(frames), *values.values()]
        if len(runs) > 1:
            others = [value for tracker, value in values.items() if tracker != subject.name]
            best = int(np.argmax(np.nan_to_num(list(values.values()), nan=-np.inf)))  # max() depends on a NaN's place
            row += [list(values)[best], values[subject.name] - float(np.fmax.reduce(others))]
        rows.append(row)
    return Table(f"{label} by sequence", columns, rows, by_row=True)


def paired_table(pairs: Sequence[tuple[TrackerRun, TrackerRun]]) -> Table:
    """One row per pair of trackers: mean difference of their scores per sequence, and its significance."""
    columns = [
        Column("Trackers"),
        Column("Difference", 2, signed=True, note="mean of the differences per sequence, in points"),
        Column("95% from", 2, signed=True, note="bootstrap over sequences"),
        Column("to", 2, signed=True),
        Column("p (Wilcoxon)", 4, smallest=1e-4, note="signed-rank test, two-sided"),
        Column("p (bootstrap)", 4, smallest=1e-4, note="two-sided"),
        Column("Wins"),
        Column("Losses"),
    ]
    found: list[PairedComparison] = [compare(a.scores, b.scores, (a.name, b.name)) for a, b in pairs]
    rows: list[list[Cell]] = []
    for c in found:
        p_values: list[Cell] = [TOO_FEW if p is None else p for p in (c.wilcoxon_p, c.bootstrap_p)]
        rows.append([f"{c.a} - {c.b}", c.mean, c.low, c.high, *p_values, c.wins, c.losses])
    return Table(f"Paired differences in {found[0].label}", columns, rows)


def origin_table(runs: Sequence[TrackerRun]) -> Table:
    """Origin of each tracker's results, as far as its manifest says."""
    facts = [flat_texts(summary(run.manifest)) for run in runs]

    def find(fact: Mapping[str, str], keys: Sequence[str]) -> str | None:
        """The value under the first of `keys`: the whole dotted name, or its end."""
        for key in keys:
            for name, value in fact.items():
                if (name == key or name.endswith(f".{key}")) and value:
                    return value
        return None

    shown = [(title, keys) for title, keys in MADE_BY.items() if any(find(fact, keys) for fact in facts)]
    columns = [Column("Tracker"), *(Column(title) for title, _ in shown)]
    rows: list[list[Cell]] = [
        [run.name, *(_shortened(find(fact, keys)) for _, keys in shown)] for run, fact in zip(runs, facts, strict=True)
    ]
    return Table("", columns, rows)


def _shortened(value: str | None) -> str | None:
    """The first twelve digits of a hash, numbers to a tenth, the end of long text."""
    if value is None:
        return None
    if len(value) >= 32 and all(c in "0123456789abcdef" for c in value):
        return value[:12]
    try:
        return f"{float(value):.1f}" if "." in value else value
    except ValueError:
        return value if len(value) <= 40 else f"...{value[-37:]}"


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without its entries per sequence."""
    return {key: value for key, value in manifest.items() if key != "sequences"}
