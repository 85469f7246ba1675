"""What the data check found, as a table and a list of problems."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lib.data.check import Finding

LINES_SHOWN = 5
LEAST_WIDTH = 10


def print_findings(
    findings: Sequence[Finding], console: Console, *, partial: bool = False, all_lines: bool = False
) -> None:
    """One row per part; below it what is missing or wrong, where it was looked for, and the layout wanted.

    partial: as for `Finding.is_wrong`.
    """
    heads = ("data set", "state", "sequences", "!= rows", "broken")
    rows = [_numbers(finding, partial) for finding in findings]
    table = Table(box=None, pad_edge=False)
    widths = [max(len(text) for text in (head, *(row[i] for row in rows))) + 1 for i, head in enumerate(heads)]
    for i, (head, width) in enumerate(zip(heads, widths, strict=True)):
        table.add_column(head, min_width=width, no_wrap=True, justify="left" if i < 2 else "right")
    # Cut here: rich would take whole columns away for a long last one.
    left = max(LEAST_WIDTH, console.width - sum(widths) - 2 * len(widths))
    table.add_column("first missing or wrong"[:left], no_wrap=True)
    for finding, row in zip(findings, rows, strict=True):
        colour = "red" if finding.is_wrong(partial) else "green"
        trouble = escape(_cut(_short(finding, partial), left))
        table.add_row(escape(row[0]), f"[{colour}]{row[1]}[/{colour}]", *row[2:], trouble)
    console.print(table)
    console.print("!= rows: sequences whose pictures and annotation rows differ in number", style="dim", soft_wrap=True)
    for finding in findings:
        if finding.first_trouble(partial):
            _print_lines(finding, console, partial, all_lines)


def _numbers(finding: Finding, partial: bool) -> tuple[str, ...]:
    state = "wrong" if finding.is_wrong(partial) else "ok"
    broken = f"{finding.broken} of {finding.pictures}" if finding.pictures else "-"
    counts = (f"{finding.found} / {finding.expected}", str(finding.mismatched), broken)
    return (finding.part.name, state, *(counts if finding.there else ("-", "-", "-")))


def _short(finding: Finding, partial: bool) -> str:
    """The first trouble with paths seen from the data set's folder, and without the other places looked at."""
    return finding.first_trouble(partial).replace(f"{finding.place}/", "").partition(" (nor ")[0] or "-"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _print_lines(finding: Finding, console: Console, partial: bool, all_lines: bool) -> None:
    console.print(f"\n[bold]{escape(finding.part.name)}[/bold] in {escape(str(finding.place))}", soft_wrap=True)
    console.print(f"  layout wanted: {escape(finding.part.layout)}", highlight=False, soft_wrap=True)
    missing = finding.missing_files
    if partial and finding.found and not all_lines and len(missing) > 1:
        missing = [f"{finding.missing} sequences are not there, which --partial allows (--all names them)"]
    for lines in (missing, finding.problems):
        shown = lines if all_lines else lines[:LINES_SHOWN]
        for line in shown:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        if len(shown) < len(lines):
            console.print(f"  ... and {len(lines) - len(shown)} more like this (--all shows them)", soft_wrap=True)
