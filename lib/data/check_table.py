"""What the data check found, as a table and a list of problems."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lib.data.check import Finding

PROBLEMS_SHOWN = 5


def print_findings(findings: Sequence[Finding], console: Console, all_problems: bool = False) -> None:
    """One row per part; below it the problems, where it was looked for, and the layout wanted."""
    table = Table(box=None, pad_edge=False)
    table.add_column("data set")
    table.add_column("")
    for column in ("sequences", "pictures != rows", "broken pictures"):
        table.add_column(column, justify="right")
    table.add_column("first missing or wrong", overflow="fold")
    for finding in findings:
        state = "[red]wrong[/red]" if finding.wrong else "[green]ok[/green]"
        broken = f"{finding.broken} of {finding.pictures}" if finding.pictures else "-"
        sequences = f"{finding.found} / {finding.expected or '?'}"
        counts = (sequences, str(finding.mismatched), broken) if finding.there else ("-", "-", "-")
        table.add_row(escape(finding.part.name), state, *counts, escape(finding.first_missing) or "-")
    console.print(table)
    for finding in findings:
        if finding.problems:
            _print_problems(finding, console, all_problems)


def _print_problems(finding: Finding, console: Console, all_problems: bool) -> None:
    lines = finding.problems if all_problems else finding.problems[:PROBLEMS_SHOWN]
    console.print(f"\n[bold]{escape(finding.part.name)}[/bold] in {escape(str(finding.place))}", soft_wrap=True)
    console.print(f"  layout wanted: {escape(finding.part.layout)}", highlight=False, soft_wrap=True)
    for line in lines:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    if len(lines) < len(finding.problems):
        console.print(f"  ... and {len(finding.problems) - len(lines)} more (--all shows them)")
