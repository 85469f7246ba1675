"""The tables of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lib.bench.report.runs import TrackerRun
from lib.bench.report.significance import Comparison
from lib.viz import Cell, Column, Table, flat_items

MADE_BY = (
    ("Configuration", ("config_hash", "configuration")),
    ("Weights", ("weights.sha256", "weights")),
    ("Protocol", ("protocol",)),
    ("Precision", ("dtype",)),
    ("Device", ("device",)),
    ("fps", ("timing.tracker_fps", "fps")),
    ("torch", ("versions.torch", "torch")),
    ("Host", ("host.name", "host")),
    ("Written", ("written", "started")),
)
"""Column -> where a manifest may keep it, the first one found."""


def headline_table(runs: Sequence[TrackerRun], title: str = "") -> Table:
    """One row per tracker, every headline score in percent."""
    labels = runs[0].scores.labels
    columns = [Column("Tracker"), *(Column(label, 2, best=True) for label in labels.values())]
    rows: list[list[Cell]] = [[run.name, *(run.scores.headline[key] for key in labels)] for run in runs]
    return Table(title, columns, rows)


def attribute_table(
    runs: Sequence[TrackerRun], attributes: Mapping[str, Sequence[str]], key: str | None = None
) -> Table:
    """One row per attribute: sequences it has, and one score (the main one) of each tracker on them."""
    key = key or runs[0].scores.main
    meanings = _attribute_names()
    explained = any(a in meanings for a in attributes)
    columns = [Column("Attribute"), *([Column("Meaning")] if explained else []), Column("Sequences")]
    columns += [Column(run.name, 2) for run in runs]
    rows: list[list[Cell]] = []
    for attribute, names in attributes.items():
        scores: list[Cell] = [run.scores.subset(names).headline[key] for run in runs]
        rows.append([attribute, *([meanings.get(attribute, "")] if explained else []), len(names), *scores])
    return Table(f"{runs[0].scores.labels[key]} by attribute", columns, rows)


def sequence_table(runs: Sequence[TrackerRun], key: str | None = None) -> Table:
    """One row per sequence: frames, one score of each tracker, the best one, and the first one's lead."""
    key = key or runs[0].scores.main
    label = runs[0].scores.labels[key]
    columns = [Column("Sequence"), Column("Frames"), *(Column(run.name, 1) for run in runs)]
    if len(runs) > 1:
        note = f"{label} of {runs[0].name} minus the best of the others"
        columns += [Column("Best"), Column("Difference", 1, signed=True, note=note)]
    tables = [run.scores.per_sequence(key) for run in runs]
    rows: list[list[Cell]] = []
    for name, frames in zip(runs[0].scores.names, runs[0].scores.frames, strict=True):
        values = [table[name] for table in tables]
        row: list[Cell] = [name, int(frames), *values]
        if len(runs) > 1:
            row += [runs[values.index(max(values))].name, values[0] - max(values[1:])]
        rows.append(row)
    return Table(f"{label} by sequence", columns, rows)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """One row per pair of trackers, the difference of their per-sequence scores and its significance."""
    columns = [
        Column("Trackers"),
        Column("Difference", 2, signed=True, note="mean of the per-sequence differences, in points"),
        Column("95% from", 2, signed=True, note="bootstrap over sequences"),
        Column("to", 2, signed=True),
        Column("p (Wilcoxon)", 4, note="signed-rank test, two-sided"),
        Column("p (bootstrap)", 4, note="two-sided"),
        Column("Wins"),
        Column("Losses"),
    ]
    rows: list[list[Cell]] = [
        [f"{c.a} - {c.b}", c.mean, c.low, c.high, c.wilcoxon_p, c.bootstrap_p, c.wins, c.losses] for c in comparisons
    ]
    return Table(f"Paired differences in {comparisons[0].label}" if comparisons else "", columns, rows)


def origin_table(runs: Sequence[TrackerRun]) -> Table:
    """What made each tracker's results, as far as its manifest says."""
    facts = [flat_items(summary(run.manifest)) for run in runs]
    shown = [(title, keys) for title, keys in MADE_BY if any(_find(f, keys) for f in facts)]
    columns = [Column("Tracker"), *(Column(title) for title, _ in shown)]
    rows: list[list[Cell]] = [
        [run.name, *(_short(_find(fact, keys)) for _, keys in shown)] for run, fact in zip(runs, facts, strict=True)
    ]
    return Table("", columns, rows)


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without its long lists: no entry per sequence."""
    return {key: value for key, value in manifest.items() if key != "sequences"}


@cache
def _attribute_names() -> dict[str, str]:
    """Usual abbreviation -> what it stands for."""
    return dict(json.loads((Path(__file__).parent / "attribute_names.json").read_text(encoding="utf-8")))


def _find(facts: Mapping[str, str], keys: Sequence[str]) -> str | None:
    """The value under the first of `keys` that is there: the whole dotted name, or the last part of one."""
    for key in keys:
        for name, value in facts.items():
            if (name == key or name.endswith(f".{key}")) and value:
                return value
    return None


def _short(value: str | None) -> str | None:
    """Digests by their first twelve digits, numbers to a tenth."""
    if value is None:
        return None
    if len(value) >= 32 and all(c in "0123456789abcdef" for c in value):
        return value[:12]
    try:
        return f"{float(value):.1f}" if "." in value else value
    except ValueError:
        return value if len(value) <= 40 else f"...{value[-37:]}"
