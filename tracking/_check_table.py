"""Results of the data check as a table and a list of problems."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lib.data import CheckResult

LINES_SHOWN = 5


def print_results(
    results: Sequence[CheckResult], console: Console, *, partial: bool = False, all_lines: bool = False
) -> None:
    """Print one row per part; below, what is missing or wrong, where it was looked for, and the expected layout.

    Args:
        results: One for each part.
        console: Where to print.
        partial: As for `CheckResult.is_wrong`.
        all_lines: Print every problem instead of the first few.
    """
    table = Table(box=None, pad_edge=False)
    for i, head in enumerate(("data set", "state", "sequences", "!= rows", "broken")):
        table.add_column(head, no_wrap=True, justify="left" if i < 2 else "right")
    table.add_column(Text("first missing or wrong", overflow="ellipsis", no_wrap=True))
    for result in results:
        state = "[red]wrong" if result.is_wrong(partial) else "[green]ok"
        state = state if result.there or result.place.exists() else "[red]not there"
        broken = f"{result.broken} of {result.pictures}" if result.pictures else "-"
        counts = (f"{result.found} / {result.expected}", str(result.mismatched), broken)
        # Paths are shown as seen from the data set folder, without the alternatives that were tried.
        trouble = result.first_trouble(partial).replace(f"{result.place}/", "").partition(" (nor ")[0] or "-"
        cells = (escape(result.part.name), state, *(counts if result.there else ("-", "-", "-")))
        # Only its text is not wrapped: rich narrows this column first, and cuts the line.
        table.add_row(*cells, Text(trouble, overflow="ellipsis", no_wrap=True))
    console.print(table)
    console.print("!= rows: sequences whose pictures and annotation rows differ in number", style="dim", soft_wrap=True)
    for result in results:
        if result.first_trouble(partial):
            _print_lines(result, console, partial, all_lines)


def _print_lines(result: CheckResult, console: Console, partial: bool, all_lines: bool) -> None:
    """Print the place and layout of one part, and the first lines of its problems, or all of them."""
    console.print(f"\n[bold]{escape(result.part.name)}[/bold] in {escape(str(result.place))}", soft_wrap=True)
    console.print(f"  expected layout: {escape(result.part.spec.layout)}", highlight=False, soft_wrap=True)
    missing = result.missing_files
    if partial and result.found and not all_lines and len(missing) > 1:
        missing = [f"{result.missing} sequences are not there, which --partial accepts (--all names them)"]
    for lines in (missing, result.problems):
        shown = lines if all_lines else lines[:LINES_SHOWN]
        for line in shown:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        if len(shown) < len(lines):
            console.print(f"  ... and {len(lines) - len(shown)} more like this (--all shows them)", soft_wrap=True)
